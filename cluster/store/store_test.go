package store

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

func open(t *testing.T, dir, kind string) *Stores {
	t.Helper()
	s, err := Open(dir, Options{Kind: kind}, hclog.NewNullLogger(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestStores_TailCut ensures that cutting the log's tail, as a follower does after a change of leader, keeps
// the entries before it through a restart, with either kind of log.
func TestStores_TailCut(t *testing.T) {
	for _, kind := range []string{WAL, Bolt} {
		t.Run(kind, func(t *testing.T) {
			dir := t.TempDir()
			s := open(t, dir, kind)
			add := func(from, to uint64, text string) {
				t.Helper()
				for i := from; i <= to; i++ {
					if err := s.Log.StoreLogs([]*raft.Log{{Index: i, Term: 1, Data: []byte(text), AppendedAt: time.Now()}}); err != nil {
						t.Fatal(err)
					}
				}
			}
			check := func(last uint64) {
				t.Helper()
				for i := uint64(1); i <= last; i++ {
					var log raft.Log
					want := "old"
					if i > 5 {
						want = "new"
					}
					if err := s.Log.GetLog(i, &log); err != nil || string(log.Data) != want {
						t.Fatalf("entry %d: %q %v", i, log.Data, err)
					}
				}
				if got, added := s.Log.Added(); got != last || added == nil {
					t.Fatalf("last entry %d, want %d", got, last)
				}
			}
			add(1, 10, "old")
			if err := s.Log.DeleteRange(6, 10); err != nil {
				t.Fatal(err)
			}
			add(6, 8, "new")
			check(8)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			s = open(t, dir, kind)
			check(8)
			add(9, 9, "new")
			check(9)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// TestLog_Bounded ensures that the newest entries are kept in memory within the bound, and that older ones
// still come from the disk.
func TestLog_Bounded(t *testing.T) {
	s := open(t, t.TempDir(), WAL)
	defer s.Close()
	data := bytes.Repeat([]byte{'x'}, 64<<10)
	for i := uint64(1); i <= 200; i++ {
		if err := s.Log.StoreLog(&raft.Log{Index: i, Data: data}); err != nil {
			t.Fatal(err)
		}
	}
	if s.Log.size > cacheBytes || len(s.Log.ring) == 0 {
		t.Errorf("%d bytes in %d entries are in memory", s.Log.size, len(s.Log.ring))
	}
	for _, i := range []uint64{1, 100, 200} {
		var log raft.Log
		if err := s.Log.GetLog(i, &log); err != nil || log.Index != i {
			t.Errorf("entry %d: %d %v", i, log.Index, err)
		}
	}
}

// TestOpen_Twice ensures that a second agent on a data directory is refused with the reason.
func TestOpen_Twice(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, WAL)
	defer s.Close()
	if _, err := Open(dir, Options{Kind: WAL}, hclog.NewNullLogger(), slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "another agent uses this data directory") {
		t.Error(err)
	}
}

// TestOpen_Leftovers ensures that an interrupted snapshot is cleaned away.
func TestOpen_Leftovers(t *testing.T) {
	dir := t.TempDir()
	tmp := filepath.Join(dir, "snapshots", "1-2-3.tmp")
	if err := os.MkdirAll(tmp, 0o700); err != nil {
		t.Fatal(err)
	}
	open(t, dir, WAL).Close()
	if _, err := os.Stat(tmp); !os.IsNotExist(err) {
		t.Error(err)
	}
}

// TestWatermark ensures that the highest index survives, and that a torn or damaged slot falls back to the
// one before and never to a higher one.
func TestWatermark(t *testing.T) {
	path := filepath.Join(t.TempDir(), "applied")
	w, err := openWatermark(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range []uint64{3, 7, 5, 9} {
		if err := w.Raise(i); err != nil {
			t.Fatal(err)
		}
	}
	w.close()
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	index := func(content []byte) uint64 {
		t.Helper()
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		w, err := openWatermark(path)
		if err != nil {
			t.Fatal(err)
		}
		defer w.close()
		return w.Index()
	}
	if got := index(good); got != 9 {
		t.Errorf("watermark %d", got)
	}
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 0xff
		if got := index(bad); got != 9 && got != 7 {
			t.Errorf("byte %d damaged: watermark %d", i, got)
		}
		if got := index(good[:i]); got > 9 {
			t.Errorf("cut at %d: watermark %d", i, got)
		}
	}
}

// TestWriteFile ensures that a small file is replaced as a whole.
func TestWriteFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	for i := range 3 {
		if err := WriteFile(path, fmt.Append(nil, i)); err != nil {
			t.Fatal(err)
		}
		if b, err := os.ReadFile(path); err != nil || string(b) != fmt.Sprint(i) {
			t.Fatalf("%q %v", b, err)
		}
	}
	if err := WriteFile(filepath.Join(path, "x"), nil); err == nil {
		t.Error("a file below a file was written")
	}
}

// TestOpen_SnapshotErrno ensures that what keeps the snapshot store from its directory is known by its error number, though
// the library tells of it in text only: an agent on a full disk waits for room.
func TestOpen_SnapshotErrno(t *testing.T) {
	dir := t.TempDir()
	if err := os.Symlink("nowhere", filepath.Join(dir, "snapshots")); err != nil {
		t.Fatal(err)
	}
	s, err := Open(dir, Options{Kind: Bolt}, hclog.NewNullLogger(), slog.New(slog.DiscardHandler))
	s.Close()
	if !errors.Is(err, syscall.ENOENT) || !strings.Contains(err.Error(), "permTest") {
		t.Errorf("no directory: %v", err)
	}
	full := errors.New("permissions test failed: open snapshots/permTest: no space left on device")
	if err := withErrno(full); !errors.Is(err, syscall.ENOSPC) || err.Error() != full.Error() {
		t.Errorf("a full disk: %v", err)
	}
}

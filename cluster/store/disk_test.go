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

	"postraft/cluster/store/storetest"
)

// eventually waits until check holds.
func eventually(t *testing.T, what string, check func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !check(); {
		if time.Now().After(deadline) {
			t.Fatalf("not so in 10 s: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

func openOn(t *testing.T, dir string, fs *storetest.FS) *Stores {
	t.Helper()
	s, err := Open(dir, Options{Kind: WAL, FS: fs}, hclog.NewNullLogger(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func entry(i uint64) *raft.Log {
	return &raft.Log{Index: i, Term: 1, Data: bytes.Repeat([]byte{byte(i)}, 60<<10)}
}

// TestLog_DiskFails ensures that an append which the disk fails, whole or half way, waits, says why, and goes
// through when the disk works again; that nothing before it is lost; and that a restart reads it all.
func TestLog_DiskFails(t *testing.T) {
	for name, fail := range map[string]func(*storetest.FS){
		"full":      func(fs *storetest.FS) { fs.Fail(syscall.ENOSPC, 0) },
		"torn":      func(fs *storetest.FS) { fs.Fail(syscall.EIO, 30<<10) },
		"sync only": func(fs *storetest.FS) { fs.FailSync(syscall.EIO) },
	} {
		t.Run(name, func(t *testing.T) {
			dir, fs := t.TempDir(), storetest.New()
			s := openOn(t, dir, fs)
			const n = 1200 // 70 MB: over a segment, so that some fault meets the making of one
			for i := uint64(1); i <= n; i++ {
				if i%600 != 100 && (i < 1085 || i > 1115) {
					if err := s.Log.StoreLog(entry(i)); err != nil {
						t.Fatal(err)
					}
					continue
				}
				fail(fs)
				stored := make(chan error, 1)
				go func() { stored <- s.Log.StoreLog(entry(i)) }()
				eventually(t, "the disk is said to fail", func() bool { return s.Disk.Health().Failing != nil })
				fs.Heal()
				if err := <-stored; err != nil {
					t.Fatalf("entry %d: %v", i, err)
				}
				if h := s.Disk.Health(); h.Failing != nil {
					t.Fatalf("the disk still fails: %v", h.Failing)
				}
			}
			check := func() {
				t.Helper()
				for i := uint64(1); i <= n; i++ {
					var log raft.Log
					if err := s.Log.GetLog(i, &log); err != nil || !bytes.Equal(log.Data, entry(i).Data) {
						t.Fatalf("entry %d: %v", i, err)
					}
				}
			}
			check()
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			s = openOn(t, dir, fs)
			check()
			if last, err := s.Log.LastIndex(); last != n || err != nil {
				t.Errorf("last entry %d %v", last, err)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// TestStores_Interrupt ensures that writes which wait for a broken disk end with the stores: those of the log
// with an error, the others with their goroutine.
func TestStores_Interrupt(t *testing.T) {
	fs := storetest.New()
	s := openOn(t, t.TempDir(), fs)
	fs.Fail(syscall.EIO, 0)
	stored := make(chan error, 1)
	go func() { stored <- s.Log.StoreLog(entry(1)) }()
	eventually(t, "the disk is said to fail", func() bool { return s.Disk.Health().Failing != nil })
	s.Interrupt()
	if err := <-stored; err == nil {
		t.Error("the entry was stored")
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		stable{failingStable{}, s.Disk}.SetUint64([]byte("term"), 1)
		t.Error("the term was written")
	}()
	<-ended
	s.Close()
}

type failingStable struct{ raft.StableStore }

func (failingStable) SetUint64([]byte, uint64) error { return syscall.EIO }

// TestLog_Damaged ensures that a flipped bit of an entry is found when it is read, with the file's place.
func TestLog_Damaged(t *testing.T) {
	for _, kind := range []string{WAL, Bolt} {
		t.Run(kind, func(t *testing.T) {
			dir := t.TempDir()
			s := open(t, dir, kind)
			for i := uint64(1); i <= 5; i++ {
				if err := s.Log.StoreLog(&raft.Log{Index: i, Term: 1, Data: fmt.Appendf(nil, "payload of entry %d", i)}); err != nil {
					t.Fatal(err)
				}
			}
			s.Close()
			flipped := 0
			filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
				if b, readErr := os.ReadFile(path); readErr == nil && bytes.Contains(b, []byte("payload of entry 3")) {
					b = bytes.ReplaceAll(b, []byte("payload of entry 3"), []byte("pAyload of entry 3"))
					flipped++
					return os.WriteFile(path, b, 0o600)
				}
				return err
			})
			if flipped == 0 {
				t.Fatal("entry not found on disk")
			}
			s, err := Open(dir, Options{Kind: kind}, hclog.NewNullLogger(), slog.New(slog.DiscardHandler))
			if err != nil { // a store may find it by itself
				t.Logf("open: %v", err)
				return
			}
			defer s.Close()
			var log raft.Log
			err = s.Log.GetLog(3, &log)
			if err == nil || !errors.Is(err, ErrDamaged) && !errors.Is(err, raft.ErrLogNotFound) || errors.Is(err, ErrDamaged) && !strings.Contains(err.Error(), dir) {
				t.Errorf("entry 3: %q %v", log.Data, err)
			}
			t.Log(err)
		})
	}
}

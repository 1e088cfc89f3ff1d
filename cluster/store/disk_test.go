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
			const n = 2400 // 140 MB: over two segments, so that some fault meets the making of one
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

// TestLog_SealTorn ensures that an append which seals a segment may fail, or be cut off by a crash, at any
// byte, and that the log goes on: with that entry, or after a crash perhaps without it, and with all others.
func TestLog_SealTorn(t *testing.T) {
	const sealing = 62 // one of the next four entries of nearly a MiB fills the segment
	big := func(i uint64) *raft.Log {
		return &raft.Log{Index: i, Term: 1, Data: bytes.Repeat([]byte{byte(i)}, 1<<20-1<<12)}
	}
	for _, part := range []int{0, 100, 1 << 19, 1<<20 - 1<<12 + 100, 1<<20 - 1<<12 + 200, 1<<20 - 1<<12 + 330, 1 << 21} {
		for _, crash := range []bool{false, true} {
			t.Run(fmt.Sprint(part, crash), func(t *testing.T) {
				dir, fs := t.TempDir(), storetest.New()
				s := openOn(t, dir, fs)
				i := uint64(1)
				for ; i < sealing; i++ {
					if err := s.Log.StoreLog(big(i)); err != nil {
						t.Fatal(err)
					}
				}
				for ; i < sealing+4; i++ { // one of these seals
					fs.Fail(syscall.EIO, part)
					stored := make(chan error, 1)
					go func() { stored <- s.Log.StoreLog(big(i)) }()
					eventually(t, "the disk is said to fail", func() bool { return s.Disk.Health().Failing != nil })
					if crash {
						s.Interrupt()
						<-stored
						s.Close()
						fs.Heal()
						s = openOn(t, dir, fs)
						last, err := s.Log.LastIndex()
						if err != nil || last != i && last != i-1 {
							t.Fatalf("last entry %d %v, want %d or the one before", last, err, i)
						}
						if last == i {
							continue
						}
						go func() { stored <- s.Log.StoreLog(big(i)) }()
					}
					fs.Heal()
					if err := <-stored; err != nil {
						t.Fatalf("entry %d: %v", i, err)
					}
				}
				for j := uint64(1); j < i; j++ {
					var log raft.Log
					if err := s.Log.GetLog(j, &log); err != nil || !bytes.Equal(log.Data, big(j).Data) {
						t.Fatalf("entry %d: %v", j, err)
					}
				}
				s.Close()
			})
		}
	}
}

// TestLog_SealedAtCrash ensures that a log goes on after a crash between the seal of one segment and the
// making of the next.
func TestLog_SealedAtCrash(t *testing.T) {
	dir, fs := t.TempDir(), storetest.New()
	s := openOn(t, dir, fs)
	fs.FailCreate(syscall.EIO)
	stop := errors.New("stop")
	var i uint64
	for i = 1; ; i++ {
		stored := make(chan error, 1)
		go func() { stored <- s.Log.StoreLog(entry(i)) }()
		err := stop
		eventually(t, "stored, or the disk fails", func() bool {
			select {
			case err = <-stored:
				return true
			default:
				return s.Disk.Health().Failing != nil
			}
		})
		if err != nil {
			break
		}
		if i > 3000 {
			break // unsealed again and again: it went on without a second segment
		}
	}
	s.Interrupt()
	s.Close()
	fs.Heal()
	s = openOn(t, dir, fs)
	last, err := s.Log.LastIndex()
	if err != nil || last < i-1 {
		t.Fatalf("last entry %d %v, want %d", last, err, i-1)
	}
	for j := last + 1; j < last+1200; j++ {
		if err := s.Log.StoreLog(entry(j)); err != nil {
			t.Fatalf("entry %d: %v", j, err)
		}
	}
	for j := uint64(1); j < last+1200; j++ {
		var log raft.Log
		if err := s.Log.GetLog(j, &log); err != nil || !bytes.Equal(log.Data, entry(j).Data) {
			t.Fatalf("entry %d: %v", j, err)
		}
	}
	s.Close()
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

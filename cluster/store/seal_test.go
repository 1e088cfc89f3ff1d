package store

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/hashicorp/raft"

	"postraft/cluster/store/storetest"
)

// TestLog_CutInterrupted ensures that a log whose cut ended half way, at whatever byte, has the entries
// before the cut when it is opened again, takes further ones, and has those after one more restart.
func TestLog_CutInterrupted(t *testing.T) {
	faults := map[string]func(*storetest.FS){"not synced": func(fs *storetest.FS) { fs.FailSync(syscall.EIO) }}
	for part := 0; part <= 64; part += 4 {
		faults[fmt.Sprintf("%d bytes written", part)] = func(fs *storetest.FS) { fs.Fail(syscall.EIO, part) }
	}
	for name, fail := range faults {
		t.Run(name, func(t *testing.T) {
			dir, fs := t.TempDir(), storetest.New()
			s := openOn(t, dir, fs)
			for i := uint64(1); i <= 10; i++ {
				if err := s.Log.StoreLog(entry(i)); err != nil {
					t.Fatal(err)
				}
			}
			fail(fs)
			cut := make(chan error, 1)
			go func() { cut <- s.Log.DeleteRange(6, 10) }()
			eventually(t, "the disk is known to fail", func() bool { return s.Disk.Health().Failing != nil })
			s.Interrupt()
			if err := <-cut; err == nil {
				t.Error("the log was cut on a disk that fails")
			}
			s.Close()
			fs.Heal()
			s = openOn(t, dir, fs)
			last, err := s.Log.LastIndex()
			if err != nil || last < 5 {
				t.Fatalf("last entry %d, %v", last, err)
			}
			for i := range uint64(3) {
				if err := s.Log.StoreLog(entry(last + 1 + i)); err != nil {
					t.Fatalf("append %d: %v", last+1+i, err)
				}
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			s = openOn(t, dir, fs)
			defer s.Close()
			for i := uint64(1); i <= last+3; i++ {
				var log raft.Log
				if err := s.Log.GetLog(i, &log); err != nil || log.Data[0] != byte(i) {
					t.Fatalf("entry %d: %v", i, err)
				}
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
	full := t.TempDir()
	s := openOn(t, full, storetest.New())
	for i := uint64(1); i < sealing; i++ {
		if err := s.Log.StoreLog(big(i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, part := range []int{0, 100, 1 << 19, 1<<20 - 1<<12 + 100, 1<<20 - 1<<12 + 200, 1<<20 - 1<<12 + 330, 1 << 21} {
		for _, crash := range []bool{false, true} {
			t.Run(fmt.Sprint(part, crash), func(t *testing.T) {
				dir, fs := filepath.Join(t.TempDir(), "data"), storetest.New()
				if err := os.CopyFS(dir, os.DirFS(full)); err != nil {
					t.Fatal(err)
				}
				s := openOn(t, dir, fs)
				i := uint64(sealing)
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
				for j := uint64(sealing - 2); j < i; j++ {
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

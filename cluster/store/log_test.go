package store

import (
	"log/slog"
	"syscall"
	"testing"

	"github.com/hashicorp/raft"

	"postraft/cluster/store/storetest"
)

// TestLog_ReadWhileLost ensures that raft's reads wait while a log that failed cannot be opened again: raft ends the
// process when it cannot read an entry.
func TestLog_ReadWhileLost(t *testing.T) {
	dir, fs := t.TempDir(), storetest.New()
	s := openOn(t, dir, fs)
	for i := uint64(1); i <= 3; i++ {
		if err := s.Log.StoreLog(entry(i)); err != nil {
			t.Fatal(err)
		}
	}
	s.Close()
	s = openOn(t, dir, fs) // nothing is in memory now
	defer s.Close()
	fs.FailOpen(syscall.EIO)
	fs.Fail(syscall.EIO, 0)
	stored, read := make(chan error, 1), make(chan error, 1)
	go func() { stored <- s.Log.StoreLog(entry(4)) }()
	eventually(t, "the log is lost", func() bool { return s.Log.GetLog(1, new(raft.Log)) != nil })
	go func() { read <- s.Log.ForRaft().GetLog(1, new(raft.Log)) }()
	eventually(t, "the read fails for the first time", func() bool {
		s.Disk.mu.Lock()
		defer s.Disk.mu.Unlock()
		return s.Disk.next > 3 || len(read) > 0
	})
	fs.Heal()
	if err := <-read; err != nil {
		t.Errorf("read: %v", err)
	}
	if err := <-stored; err != nil {
		t.Errorf("store: %v", err)
	}
}

// A growingLog adds an entry while its last index is asked for, as raft's main loop may while old entries are cut.
type growingLog struct {
	raft.LogStore
	grow func()
}

func (g *growingLog) LastIndex() (uint64, error) {
	last, err := g.LogStore.LastIndex()
	if grow := g.grow; grow != nil {
		g.grow = nil
		grow()
	}
	return last, err
}

// TestLog_CutWhileGrowing ensures that cutting old entries does not hide new ones that are added meanwhile: what is
// behind the last known entry is cut when the log is mended.
func TestLog_CutWhileGrowing(t *testing.T) {
	inner := &growingLog{LogStore: raft.NewInmemStore()}
	l, err := newLog(newDisk("", slog.New(slog.DiscardHandler)), "", inner)
	if err != nil {
		t.Fatal(err)
	}
	for i := uint64(1); i <= 5; i++ {
		if err := l.StoreLog(entry(i)); err != nil {
			t.Fatal(err)
		}
	}
	inner.grow = func() {
		if err := l.StoreLog(entry(6)); err != nil {
			t.Error(err)
		}
	}
	if err := l.DeleteRange(1, 2); err != nil {
		t.Fatal(err)
	}
	if inner.grow != nil {
		inner.grow()
	}
	if last, _ := l.Added(); last != 6 {
		t.Errorf("last entry %d, want 6", last)
	}
}

package store

import (
	"errors"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"postraft/cluster/store/storetest"
)

// stored reports what became of AwaitStored.
func stored(l *Log, index uint64) <-chan error {
	ch := make(chan error, 1)
	go func() { ch <- l.AwaitStored(index) }()
	return ch
}

func last(t *testing.T, l *Log) uint64 {
	t.Helper()
	index, err := l.LastIndex()
	if err != nil {
		t.Fatal(err)
	}
	return index
}

// TestLog_RunAhead ensures that entries which run ahead of the disk are read at once and awaited rightly, that what must not
// run ahead waits for them, and that nothing awaited is lost by a restart.
func TestLog_RunAhead(t *testing.T) {
	dir, fs := t.TempDir(), storetest.New()
	s := openOn(t, dir, fs)
	if err := s.Log.StoreLog(entry(1)); err != nil {
		t.Fatal(err)
	}
	var may atomic.Bool
	s.Log.RunAhead(may.Load)
	if err := s.Log.StoreLog(entry(2)); err != nil || s.Log.IsAhead() {
		t.Fatalf("it runs ahead where it may not: %v", err)
	}
	may.Store(true)
	fs.Slow(time.Hour)
	for i := uint64(3); i <= 6; i++ {
		if err := s.Log.StoreLogs([]*raft.Log{entry(2*i - 3), entry(2*i - 2)}); err != nil {
			t.Fatal(err)
		}
	}
	var log raft.Log
	if err := s.Log.GetLog(9, &log); err != nil || log.Index != 9 || last(t, s.Log) != 10 || !s.Log.IsAhead() {
		t.Fatalf("entry 9 of %d: %v", last(t, s.Log), err)
	}
	if added, _ := s.Log.Added(); added != 10 {
		t.Errorf("added %d, want 10", added)
	}
	before, behind, beyond := stored(s.Log, 2), stored(s.Log, 10), stored(s.Log, 11)
	if err := <-before; err != nil {
		t.Error(err)
	}
	if err := <-beyond; !errors.Is(err, errCut) {
		t.Errorf("an entry that is not there: %v", err)
	}
	member := entry(11)
	member.Type = raft.LogConfiguration
	configured := make(chan error, 1)
	go func() { configured <- s.Log.StoreLog(member) }()
	select {
	case err := <-behind:
		t.Fatalf("entry 10 is said to be on a disk that hangs: %v", err)
	case err := <-configured:
		t.Fatalf("a change of the members went ahead: %v", err)
	case <-time.After(50 * time.Millisecond): // nothing is to happen
	}
	fs.Heal()
	if err := <-behind; err != nil {
		t.Error(err)
	}
	if err := <-configured; err != nil || s.Log.IsAhead() {
		t.Error(err)
	}
	if err := s.Log.StoreLog(entry(12)); err != nil {
		t.Fatal(err)
	}
	if err := s.Log.DeleteRange(10, 12); err != nil { // as a follower does whose entries are not the leader's
		t.Fatal(err)
	}
	if got := last(t, s.Log); got != 9 || s.Log.IsAhead() {
		t.Fatalf("the last entry is %d, want 9", got)
	}
	if err := <-stored(s.Log, 12); !errors.Is(err, errCut) {
		t.Errorf("an entry that was cut: %v", err)
	}
	if err := s.Log.StoreLog(entry(10)); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil { // which awaits what is on its way
		t.Fatal(err)
	}
	s = openOn(t, dir, fs)
	defer s.Close()
	for i := uint64(1); i <= 10; i++ {
		if err := s.Log.GetLog(i, &log); err != nil || log.Type != raft.LogCommand {
			t.Errorf("entry %d: %v", i, err)
		}
	}
	if got := last(t, s.Log); got != 10 {
		t.Errorf("the last entry is %d, want 10", got)
	}
}

// TestLog_AheadOfFailingDisk ensures that entries which the disk fails reach it when it works again, that no more than a
// bound run ahead meanwhile, and that who waits for them is told when the stores are closed instead.
func TestLog_AheadOfFailingDisk(t *testing.T) {
	fs := storetest.New()
	s := openOn(t, t.TempDir(), fs)
	s.Log.RunAhead(func() bool { return true })
	fs.Fail(syscall.ENOSPC, 0)
	const size = 60 << 10 // as entry makes them
	ahead := uint64(0)
	for i := uint64(1); i <= aheadBytes/size; i++ {
		if err := s.Log.StoreLog(entry(i)); err != nil {
			t.Fatal(err)
		}
		ahead = i
	}
	eventually(t, "the disk is said to fail", func() bool { return s.Disk.Health().Failing != nil })
	full := make(chan error, 1)
	go func() { full <- s.Log.StoreLog(entry(ahead + 1)) }()
	select {
	case err := <-full:
		t.Fatalf("more than the bound runs ahead: %v", err)
	case <-time.After(50 * time.Millisecond): // nothing is to happen
	}
	fs.Heal()
	if err := <-full; err != nil {
		t.Error(err)
	}
	if err := <-stored(s.Log, ahead+1); err != nil || s.Disk.Health().Failing != nil {
		t.Errorf("when the disk works again: %v, %v", err, s.Disk.Health().Failing)
	}
	fs.Fail(syscall.EIO, 0)
	if err := s.Log.StoreLog(entry(ahead + 2)); err != nil {
		t.Fatal(err)
	}
	waiting := stored(s.Log, ahead+2)
	s.Interrupt()
	if err := <-waiting; !errors.Is(err, errClosed) {
		t.Errorf("closed: %v", err)
	}
	s.Close()
}

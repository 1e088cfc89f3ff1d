package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"runtime"
	"sync"

	"github.com/hashicorp/raft"
	"github.com/hashicorp/raft-wal/types"
)

// Log is the raft log with its newest entries in memory, within a bound in bytes. It tells when entries were
// added, writes a checksum beside each and verifies it on reading.
type Log struct {
	disk   *Disk
	where  string                                                       // for errors
	reopen func() (inner raft.LogStore, closer func() error, err error) // nil: inner needs none after an error

	innerMu sync.RWMutex // held for writing while inner is replaced
	inner   raft.LogStore
	closer  func() error
	lost    error // why inner, which is closed, could not be opened again; nil when it is open

	monotonic bool

	mu     sync.Mutex
	added  chan struct{} // closed when entries were added
	ring   []*raft.Log   // consecutive entries, the newest last; those that are not on disk yet are all here
	size   int
	last   uint64 // the last entry
	stored uint64 // the last one that is on disk
	ahead  ahead
}

const (
	cacheBytes   = 2 << 20
	cacheEntries = 4096
)

func newLog(disk *Disk, where string, inner raft.LogStore) (*Log, error) {
	l := &Log{disk: disk, where: where, inner: inner, added: make(chan struct{})}
	if m, ok := inner.(raft.MonotonicLogStore); ok {
		l.monotonic = m.IsMonotonic()
	}
	var err error
	if l.last, err = inner.LastIndex(); err != nil {
		return nil, fmt.Errorf("read log in %s: %w", where, err)
	}
	l.stored = l.last
	return l, nil
}

// IsMonotonic implements raft.MonotonicLogStore.
func (l *Log) IsMonotonic() bool { return l.monotonic }

// FirstIndex implements raft.LogStore.
func (l *Log) FirstIndex() (uint64, error) {
	l.innerMu.RLock()
	defer l.innerMu.RUnlock()
	return l.inner.FirstIndex()
}

// LastIndex implements raft.LogStore.
func (l *Log) LastIndex() (uint64, error) {
	l.mu.Lock()
	last, ahead := l.last, l.last > l.stored
	l.mu.Unlock()
	if ahead {
		return last, nil
	}
	l.innerMu.RLock()
	defer l.innerMu.RUnlock()
	return l.inner.LastIndex()
}

// GetLog implements raft.LogStore. An entry that is not what was written is ErrDamaged.
func (l *Log) GetLog(index uint64, log *raft.Log) error {
	l.mu.Lock()
	if n := len(l.ring); n > 0 && index >= l.ring[0].Index && index <= l.ring[n-1].Index {
		*log = *l.ring[index-l.ring[0].Index]
		l.mu.Unlock()
		return nil
	}
	l.mu.Unlock()
	l.innerMu.RLock()
	defer l.innerMu.RUnlock()
	err := l.inner.GetLog(index, log)
	switch {
	case errors.Is(err, raft.ErrLogNotFound):
		return err
	case err != nil && l.lost != nil:
		return fmt.Errorf("read entry %d of the log in %s: %w", index, l.where, l.lost)
	case errors.Is(err, types.ErrCorrupt):
		return fmt.Errorf("entry %d of the log in %s is %w: %w", index, l.where, ErrDamaged, err)
	case err != nil:
		return fmt.Errorf("read entry %d of the log in %s: %w", index, l.where, err)
	case log.Index != index || !verified(log):
		return fmt.Errorf("entry %d of the log in %s is %w: its checksum does not fit", index, l.where, ErrDamaged)
	}
	return nil
}

// StoreLog implements raft.LogStore.
func (l *Log) StoreLog(log *raft.Log) error { return l.StoreLogs([]*raft.Log{log}) }

// StoreLogs implements raft.LogStore. While the disk fails it waits, unless the log may run ahead of the disk.
func (l *Log) StoreLogs(logs []*raft.Log) error {
	for _, log := range logs {
		log.Extensions = checksum(log)
	}
	if l.runAhead(logs) {
		return nil
	}
	if err := l.drain(); err != nil {
		return err
	}
	if err := l.disk.do("write log", l.mending(l.storing(logs))); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.addLocked(logs)
	return nil
}

// storing returns the write of entries to the disk.
func (l *Log) storing(logs []*raft.Log) func(raft.LogStore) error {
	return func(inner raft.LogStore) error {
		err := inner.StoreLogs(logs)
		if err == nil { // before another write may mend the log, which cuts what is behind stored
			l.mu.Lock()
			l.stored = logs[len(logs)-1].Index
			l.last = max(l.last, l.stored)
			l.mu.Unlock()
		}
		return err
	}
}

// addLocked puts entries into memory, tells of them, and forgets the oldest.
func (l *Log) addLocked(logs []*raft.Log) {
	for _, log := range logs {
		if n := len(l.ring); n > 0 && log.Index != l.ring[n-1].Index+1 {
			l.ring, l.size = nil, 0
		}
		l.ring = append(l.ring, log)
		l.size += len(log.Data)
	}
	l.last = logs[len(logs)-1].Index
	cut := 0
	for len(l.ring)-cut > 1 && (l.size > cacheBytes || len(l.ring)-cut > cacheEntries) && l.ring[cut].Index <= l.stored {
		l.size -= len(l.ring[cut].Data)
		l.ring[cut] = nil
		cut++
	}
	if cut > 0 {
		if l.ring = l.ring[cut:]; cap(l.ring) < 64 {
			l.ring = append(make([]*raft.Log, 0, 256), l.ring...)
		}
	}
	close(l.added)
	l.added = make(chan struct{})
}

// dropLocked takes entries from low to high, which are on disk, out of memory.
func (l *Log) dropLocked(low, high uint64) {
	n := len(l.ring)
	if n == 0 || high < l.ring[0].Index || low > l.ring[n-1].Index {
		return
	}
	first := l.ring[0].Index
	if kept := l.ring[min(high+1-first, uint64(n)):]; len(kept) > 0 {
		l.ring = kept
	} else {
		l.ring = l.ring[:max(low, first)-first]
	}
	l.size = 0
	for _, log := range l.ring {
		l.size += len(log.Data)
	}
}

// DeleteRange implements raft.LogStore. While the disk fails it waits.
func (l *Log) DeleteRange(low, high uint64) error {
	l.mu.Lock()
	tail := high >= l.last // else entries may be added meanwhile
	l.mu.Unlock()
	if tail {
		if err := l.drain(); err != nil {
			return err
		}
	}
	l.mu.Lock()
	l.dropLocked(low, high)
	l.mu.Unlock()
	err := l.disk.do("cut log", l.mending(func(inner raft.LogStore) error { return inner.DeleteRange(low, high) }))
	if err != nil || !tail {
		return err
	}
	last, err := l.LastIndex()
	if err == nil {
		l.mu.Lock()
		l.last, l.stored = last, last
		l.mu.Unlock()
	}
	return err
}

// mending returns a write that opens the inner log anew when it has failed: what a failed write leaves in
// memory need not be what it left on disk.
func (l *Log) mending(write func(raft.LogStore) error) func() error {
	broken := false
	try := func() error {
		if broken {
			if err := l.mend(); err != nil {
				return err
			}
		}
		l.innerMu.RLock()
		defer l.innerMu.RUnlock()
		err := write(l.inner)
		broken = err != nil && l.reopen != nil
		return err
	}
	return func() error {
		err := try()
		if broken && !ofDisk(err) { // perhaps what an earlier failure has left
			err = try()
		}
		return err
	}
}

// mend opens the inner log anew and cuts what a failed append may have left behind the last entry that was
// stored.
func (l *Log) mend() error {
	l.innerMu.Lock()
	defer l.innerMu.Unlock()
	if l.closer != nil {
		if err := l.closer(); err != nil && ofDisk(err) {
			return err
		}
		l.closer = nil
	}
	inner, closer, err := l.reopen()
	if l.lost = err; err != nil {
		if errors.Is(err, ErrDamaged) {
			l.disk.setDamage(err)
		}
		return err
	}
	l.inner, l.closer = inner, closer
	last, err := inner.LastIndex()
	if err != nil {
		return err
	}
	l.mu.Lock()
	known := l.stored
	l.mu.Unlock()
	if last > known {
		return inner.DeleteRange(known+1, last)
	}
	return nil
}

// close awaits what is still on its way to the disk, for one try.
func (l *Log) close() error {
	l.endAhead()
	l.innerMu.Lock()
	defer l.innerMu.Unlock()
	if l.closer == nil {
		return nil
	}
	closer := l.closer
	l.closer = nil
	return closer()
}

// Added returns the index of the last entry and a channel that is closed when entries are added after that.
func (l *Log) Added() (last uint64, added <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last, l.added
}

// The checksum of an entry travels in its Extensions, with which raft itself does nothing: a version byte and
// the CRC-32C of index, term, type and data, little endian.
const checksumVersion = 1

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checksum(log *raft.Log) []byte {
	var head [17]byte
	binary.LittleEndian.PutUint64(head[:], log.Index)
	binary.LittleEndian.PutUint64(head[8:], log.Term)
	head[16] = byte(log.Type)
	sum := crc32.Update(crc32.Update(0, castagnoli, head[:]), castagnoli, log.Data)
	return binary.LittleEndian.AppendUint32([]byte{checksumVersion}, sum)
}

func verified(log *raft.Log) bool { return string(log.Extensions) == string(checksum(log)) }

// ForRaft returns the log for raft itself, which ends the process when it cannot read an entry. Here the
// damage is told to Disk.Damaged instead, and the reader stays until the stores are closed. Then its
// goroutine ends, which must be one of raft's own.
func (l *Log) ForRaft() raft.LogStore { return raftLog{l} }

type raftLog struct{ *Log }

// GetLog implements raft.LogStore. While the disk fails it waits.
func (l raftLog) GetLog(index uint64, log *raft.Log) error {
	err := l.Log.GetLog(index, log)
	if ofDisk(err) {
		err = l.disk.do("read log", func() error { return l.Log.GetLog(index, log) })
	}
	if errors.Is(err, ErrDamaged) {
		l.disk.setDamage(err)
		<-l.disk.ctx.Done()
	}
	if errors.Is(err, ErrDamaged) || errors.Is(err, errClosed) {
		runtime.Goexit()
	}
	return err
}

// stable is the store of term and vote for raft, which ends the process when it cannot write them. Here the
// writer waits while the disk fails, and when the stores are closed meanwhile its goroutine, one of raft's
// own, ends.
type stable struct {
	raft.StableStore
	disk *Disk
}

// Set implements raft.StableStore.
func (s stable) Set(key, value []byte) error {
	return s.write(func() error { return s.StableStore.Set(key, value) })
}

// SetUint64 implements raft.StableStore.
func (s stable) SetUint64(key []byte, value uint64) error {
	return s.write(func() error { return s.StableStore.SetUint64(key, value) })
}

func (s stable) write(write func() error) error {
	err := s.disk.do("write term and vote", write)
	if errors.Is(err, errClosed) {
		runtime.Goexit()
	}
	return err
}

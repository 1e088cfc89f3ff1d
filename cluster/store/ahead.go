package store

import (
	"errors"

	"github.com/hashicorp/raft"
)

// A leader's log may run ahead of its disk: StoreLogs returns when the entries are in memory, where raft finds them to send
// them to the followers, and a goroutine brings them to the disk meanwhile, so that the disks of all work at the same time
// (raft dissertation, section 10.2.1).
//
// Raft takes an entry for stored when StoreLogs returns, and counts the leader's copy. That is right as long as no other
// copy is counted before the leader's is on disk, for a leader of several voters commits nothing alone: whoever lets the
// log run ahead must hold back what the followers answer by AwaitStored.
type ahead struct {
	may   func() bool // nil: never
	bytes int         // that are in memory only
	kick  chan struct{}
	moved chan struct{} // closed when stored has grown
	ended chan struct{} // closed when nothing is stored any more; nil before RunAhead
}

// How much may be in memory only. Beyond that StoreLogs waits for the disk.
const (
	aheadBytes   = 2 << 20
	aheadEntries = 512
)

// RunAhead lets commands run ahead of the disk whenever may says so, which is asked by the goroutine of StoreLogs. It is
// called once, at any time.
func (l *Log) RunAhead(may func() bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ahead.may = may
	l.ahead.kick = make(chan struct{}, 1)
	l.ahead.moved = make(chan struct{})
	l.ahead.ended = make(chan struct{})
	go l.follow() // endAhead awaits it
}

// runAhead adds entries before they are on disk, where that is allowed. It returns false where they are to be stored first.
func (l *Log) runAhead(logs []*raft.Log) bool {
	l.mu.Lock()
	may := l.ahead.may
	l.mu.Unlock()
	if may == nil {
		return false
	}
	bytes := 0
	for _, log := range logs {
		if log.Type != raft.LogCommand { // a change of the members may leave one that commits alone
			return false
		}
		bytes += len(log.Data)
	}
	if !may() {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ahead.bytes+bytes > aheadBytes || l.last-l.stored+uint64(len(logs)) > aheadEntries || logs[0].Index != l.last+1 || l.disk.ctx.Err() != nil {
		return false
	}
	l.ahead.bytes += bytes
	l.addLocked(logs)
	select {
	case l.ahead.kick <- struct{}{}:
	default:
	}
	return true
}

// follow brings to the disk what runs ahead of it. A write that the disk fails is tried again until the stores are closed.
func (l *Log) follow() {
	defer close(l.ahead.ended)
	for {
		l.mu.Lock()
		var logs []*raft.Log
		if l.last > l.stored {
			logs = append(logs, l.ring[l.stored+1-l.ring[0].Index:]...)
		}
		l.mu.Unlock()
		if len(logs) == 0 {
			select {
			case <-l.ahead.kick:
				continue
			case <-l.disk.ctx.Done():
				return
			}
		}
		if l.disk.until("write log", l.mending(l.storing(logs))) != nil {
			return
		}
		l.mu.Lock()
		for _, log := range logs {
			l.ahead.bytes -= len(log.Data)
		}
		close(l.ahead.moved)
		l.ahead.moved = make(chan struct{})
		l.mu.Unlock()
	}
}

var errCut = errors.New("entry was cut from the log")

// AwaitStored returns when the entries up to index are on disk. It is an error if they are cut, or the stores are closed,
// before.
func (l *Log) AwaitStored(index uint64) error {
	for {
		l.mu.Lock()
		last, stored, moved, ended := l.last, l.stored, l.ahead.moved, l.ahead.ended
		l.mu.Unlock()
		switch {
		case stored >= index || ended == nil:
			return nil
		case last < index:
			return errCut
		}
		select {
		case <-moved:
		case <-ended:
			return errClosed
		}
	}
}

// IsAhead reports whether entries are not on disk yet.
func (l *Log) IsAhead() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last > l.stored
}

// drain returns when all entries are on disk.
func (l *Log) drain() error {
	l.mu.Lock()
	last := l.last
	l.mu.Unlock()
	return l.AwaitStored(last)
}

// endAhead awaits what is on its way to the disk. The context of the disk has ended.
func (l *Log) endAhead() {
	l.mu.Lock()
	ended := l.ahead.ended
	l.mu.Unlock()
	if ended != nil {
		<-ended
	}
}

package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"postraft/fsm"
)

const (
	entryBytes = 256 << 10 // a log entry takes no more commands beyond this

	// enqueueTimeout is how long raft may be too busy to take an entry, with a disk that hangs most likely. It
	// is shorter than the patience of most writers, who then learn that nothing has happened.
	enqueueTimeout = 2 * time.Second
)

// A proposer gathers commands of all nodes into log entries. It works on the leader and refuses elsewhere.
type proposer struct {
	n      *Node
	gather *gathering

	mu      sync.Mutex
	waiting []*proposal
	paused  bool
}

type proposal struct {
	command []byte
	at      position
	err     error
	done    chan struct{}
}

func newProposer(n *Node) *proposer { return &proposer{n: n, gather: newGathering()} }

// propose puts a command into the log and returns where it was committed. The error is errNotLeader where it
// surely was not, errUnknown where it may have been.
func (p *proposer) propose(ctx context.Context, command []byte) (position, error) {
	if err := p.n.diskError(); err != nil {
		return position{}, fmt.Errorf("%w: %w", errNotLeader, err)
	}
	if err := p.n.allCan(command); err != nil {
		return position{}, err
	}
	pr := &proposal{command: command, done: make(chan struct{})}
	p.mu.Lock()
	if p.paused || p.n.ctx.Err() != nil {
		p.mu.Unlock()
		return position{}, errNotLeader
	}
	p.waiting = append(p.waiting, pr)
	count := len(p.waiting)
	p.mu.Unlock()
	p.gather.came(count)
	select {
	case <-pr.done:
		return pr.at, pr.err
	case <-ctx.Done():
		return position{}, fmt.Errorf("%w: %w", errUnknown, context.Cause(ctx))
	}
}

// pause refuses further commands: this leader is about to hand over.
func (p *proposer) pause() {
	p.mu.Lock()
	p.paused = true
	p.mu.Unlock()
}

func (p *proposer) resume() {
	p.mu.Lock()
	p.paused = false
	p.mu.Unlock()
}

func (p *proposer) take() []*proposal {
	p.mu.Lock()
	defer p.mu.Unlock()
	size, used := 0, 0
	for used < len(p.waiting) && (used == 0 || size+len(p.waiting[used].command) <= entryBytes) {
		whole := fsm.ChangesWhole(p.waiting[used].command)
		if whole && used > 0 {
			break
		}
		size += len(p.waiting[used].command)
		used++
		if whole {
			break
		}
	}
	batch := p.waiting[:used:used]
	p.waiting = p.waiting[used:]
	return batch
}

// run proposes entries until the node ends. Raft works on one at a time, and the next one gathers meanwhile: it sends no
// entry to a follower before that has answered for the last one, so a second one would only wait there, with less in it.
func (p *proposer) run() {
	for p.gather.wait(p.n.ctx, p.count) {
		batch := p.take()
		p.gather.begin()
		entry := p.entry(batch)
		future := p.n.raft.Apply(entry, enqueueTimeout)
		at, err := committed(future, p.n.await(future))
		p.n.noteTransfer(err)
		if err == nil {
			at.Term, err = p.n.termOf(at.Index)
		}
		for _, pr := range batch {
			pr.at, pr.err = at, err
			close(pr.done)
		}
		p.gather.end(len(batch), p.count(), len(entry))
	}
	p.refuse()
}

// count returns how many commands wait.
func (p *proposer) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.waiting)
}

func (p *proposer) refuse() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, pr := range p.waiting {
		pr.err = errNotLeader
		close(pr.done)
	}
	p.waiting, p.paused = nil, true
}

func (p *proposer) entry(batch []*proposal) []byte {
	size := 1
	for _, pr := range batch {
		size += len(pr.command) + 8
	}
	entry := fsm.AppendEntry(make([]byte, 0, size))
	named, asked := false, false
	for _, pr := range batch {
		command := pr.command
		if fsm.HasOrigin(command) {
			if !asked {
				named, asked = p.n.commonLevel() >= fsm.OriginLevel, true
			}
			if !named { // it would end a server that was not upgraded yet
				command = fsm.WithoutOrigin(command)
			}
		}
		entry = fsm.AppendCommand(entry, command)
	}
	return entry
}

// committed tells where an entry is, and sorts raft's errors into surely not and perhaps.
func committed(future raft.ApplyFuture, err error) (position, error) {
	switch {
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrEnqueueTimeout), errors.Is(err, raft.ErrLeadershipTransferInProgress):
		return position{}, fmt.Errorf("%w: %w", errNotLeader, err)
	case err != nil:
		return position{}, fmt.Errorf("%w: %w", errUnknown, err)
	}
	if err, ok := future.Response().(error); ok {
		return position{}, fmt.Errorf("%w: %w", errUnknown, err)
	}
	return position{Index: future.Index()}, nil
}

// termOf returns the term of a committed entry of the own log.
func (n *Node) termOf(index uint64) (uint64, error) {
	logs, err := n.logRange(index, index)
	if err != nil {
		return 0, fmt.Errorf("%w: read back entry %d: %w", errUnknown, index, err)
	}
	return logs[0].Term, nil
}

// logRange returns entries of the own log.
func (n *Node) logRange(first, last uint64) ([]*raft.Log, error) {
	logs := make([]*raft.Log, 0, last-first+1)
	for index := first; index <= last; index++ {
		log := new(raft.Log)
		if err := n.stores.Log.GetLog(index, log); err != nil {
			return nil, err
		}
		logs = append(logs, log)
	}
	return logs, nil
}

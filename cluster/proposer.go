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
	fullBytes  = 128 << 10 // and is not kept waiting for more beyond this

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
	count, full := p.nextLocked()
	p.mu.Unlock()
	p.gather.came(count, full)
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

// next returns how many of the commands that wait go into the next entry, and whether it takes no more.
func (p *proposer) next() (count int, full bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.nextLocked()
}

func (p *proposer) nextLocked() (count int, full bool) {
	size := 0
	for i, pr := range p.waiting {
		whole := fsm.ChangesWhole(pr.command)
		if i > 0 && (whole || size+len(pr.command) > entryBytes) {
			return i, true
		}
		if size += len(pr.command); whole {
			return 1, true
		}
	}
	return len(p.waiting), size > fullBytes
}

func (p *proposer) take() []*proposal {
	p.mu.Lock()
	defer p.mu.Unlock()
	used, _ := p.nextLocked()
	batch := p.waiting[:used:used]
	p.waiting = p.waiting[used:]
	return batch
}

// run proposes entries until the node ends. Raft works on one at a time, and the next one gathers meanwhile: it sends no
// entry to a follower before that has answered for the last one, so a second one would only wait there, with less in it.
func (p *proposer) run() {
	for p.gather.wait(p.n.ctx, p.next) {
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
		back, load := len(batch), len(entry)
		if err != nil || load > fullBytes { // an import does not come and go as writers do
			back, load = 0, 0
		}
		waiting, _ := p.next()
		p.gather.end(back, waiting, load)
	}
	p.refuse()
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

package cluster

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"postraft/dict"
	"postraft/fsm"
)

const (
	batchBytes = 256 << 10 // a batch takes no more writes beyond this
	batchOps   = 4096
	queueLimit = 64 << 20 // bytes that may wait on one node

	// writeTimeout bounds a write whose caller sets no deadline.
	writeTimeout = 10 * time.Second

	opOverhead = 64 // what a waiting op costs beside its bytes
)

// A write is one caller's change, waiting for its turn or under way.
type write struct {
	ops      []fsm.Op     // either these
	op       [1]fsm.Op    // the memory of ops where it is one
	command  *fsm.Command // or this, which goes alone; the writer adds its ID and the node of its Origin
	size     int
	deadline time.Time
	done     chan struct{} // closed when it has ended
	told     func()        // or this, called with writer.mu held, unless it was given up

	submitted bool        // guarded by writer.mu: it may happen from now on
	given     bool        // guarded by writer.mu: its caller is gone
	ended     atomic.Bool // result and err are set, and stay
	result    fsm.Result
	err       error
}

// A writer gathers the writes of this node and has one command of them under way at a time.
type writer struct {
	n       *Node
	session fsm.ID
	seq     uint64
	gather  *gathering

	// plainFor is the channel of leaderWatch while a leader leads that cannot read where changes come from. It belongs
	// to the goroutine of run.
	plainFor <-chan struct{}

	mu      sync.Mutex
	waiting []*write
	size    int
}

func newWriter(n *Node) *writer {
	w := &writer{n: n, gather: newGathering()}
	rand.Read(w.session[:])
	return w
}

// do makes a change and returns what became of it once this node has applied it.
func (w *writer) do(ctx context.Context, wr *write) (fsm.Result, error) {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, writeTimeout)
		defer cancel()
	}
	wr.deadline, _ = ctx.Deadline()
	wr.done = make(chan struct{})
	if err := w.add(wr); err != nil {
		return fsm.Result{}, err
	}
	select {
	case <-wr.done:
		return wr.result, wr.err
	case <-ctx.Done():
		return w.outcome(wr, context.Cause(ctx))
	}
}

// add lets a write wait for its turn. It never waits itself.
func (w *writer) add(wr *write) error {
	w.mu.Lock()
	if w.n.ctx.Err() != nil {
		w.mu.Unlock()
		return ErrClosed
	}
	if w.n.diverging.Load() { // what became of it would be told by the own tables
		w.mu.Unlock()
		return errWrong
	}
	if w.size+wr.size > queueLimit {
		w.mu.Unlock()
		return fmt.Errorf("too many writes wait on this node: %w", dict.ErrRetry)
	}
	w.waiting = append(w.waiting, wr)
	w.size += wr.size
	count, full := len(w.waiting), wr.command != nil || w.size >= batchBytes // as nextLocked has it, without going through all
	w.mu.Unlock()
	w.gather.came(count, full)
	return nil
}

// outcome returns what became of a write that has ended. One that has not is given up, because of cause.
func (w *writer) outcome(wr *write, cause error) (fsm.Result, error) {
	if wr.ended.Load() { // without the lock: who ends a batch holds it, and those who were told come here
		return wr.result, wr.err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if wr.ended.Load() {
		return wr.result, wr.err
	}
	wr.given = true
	if wr.submitted {
		return fsm.Result{}, fmt.Errorf("%w: %w", dict.ErrUnknownOutcome, cause)
	}
	return fsm.Result{}, w.n.leaderless(cause)
}

// endLocked tells the caller that result and err are set.
func (wr *write) endLocked() {
	if wr.told != nil && !wr.given {
		wr.told() // before ended, for nothing is told once outcome has returned
	}
	wr.ended.Store(true)
	if wr.told == nil {
		close(wr.done)
	}
}

// run carries batches to the leader until the node ends.
func (w *writer) run() {
	for w.gather.wait(w.n.ctx, w.next) {
		batch := w.take()
		if len(batch) == 0 {
			continue
		}
		w.gather.begin()
		back, load := len(batch), len(batch)
		if !w.carry(batch) || batch[0].command != nil {
			back, load = 0, 0
		}
		waiting, _ := w.next()
		w.gather.end(back, waiting, load)
	}
	w.refuse()
}

// next returns how many of the writes that wait go into the next command, and whether it takes no more.
func (w *writer) next() (count int, full bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.nextLocked()
}

func (w *writer) nextLocked() (count int, full bool) {
	var first *write
	bytes, ops := 0, 0
	for i, wr := range w.waiting {
		if wr.given {
			continue // its caller has gone: it is dropped on the way
		}
		if first == nil {
			first = wr
		} else if first.command != nil || wr.command != nil || bytes+wr.size > batchBytes || ops+len(wr.ops) > batchOps {
			return i, true
		}
		bytes += wr.size
		ops += len(wr.ops)
	}
	return len(w.waiting), bytes >= batchBytes || first != nil && first.command != nil
}

// take returns the writes that go together into the next command.
func (w *writer) take() []*write {
	w.mu.Lock()
	defer w.mu.Unlock()
	used, _ := w.nextLocked()
	batch := make([]*write, 0, used)
	for _, wr := range w.waiting[:used] {
		if !wr.given {
			batch = append(batch, wr)
		}
		w.size -= wr.size
	}
	clear(w.waiting[:used])
	w.waiting = w.waiting[used:]
	if len(w.waiting) == 0 && cap(w.waiting) > 1024 {
		w.waiting = nil
	}
	return batch
}

// refuse answers what waits when the node ends.
func (w *writer) refuse() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, wr := range w.waiting {
		wr.err = ErrClosed
		wr.endLocked()
	}
	w.waiting, w.size = nil, 0
}

// carry brings one batch to the leader, again and again under one identity, until it is applied here or the
// last of its callers has gone. It reports whether it was.
func (w *writer) carry(batch []*write) bool {
	w.seq++
	id := fsm.WriteID{Session: w.session, Seq: w.seq}
	deadline := batch[0].deadline
	for _, wr := range batch {
		if wr.deadline.After(deadline) {
			deadline = wr.deadline
		}
	}
	ctx, cancel := context.WithDeadline(w.n.ctx, deadline)
	defer cancel()
	batch, result, err := w.submit(ctx, batch, id)
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, wr := range batch {
		switch {
		case err == nil && wr.command == nil && result.Status == fsm.Applied:
			wr.result = fsm.Result{Ops: result.Ops[:len(wr.ops)], Index: result.Index}
			result.Ops = result.Ops[len(wr.ops):]
		case err == nil:
			wr.result = result
		case wr.submitted:
			wr.err = fmt.Errorf("%w: %w", dict.ErrUnknownOutcome, err)
		case errors.Is(err, ErrRefused):
			wr.err = fmt.Errorf("%w: %w", err, dict.ErrRetry)
		default:
			wr.err = w.n.leaderless(err)
		}
		wr.endLocked()
	}
	return err == nil
}

// begin marks a batch as submitted and returns those of its writes whose callers still wait, with the command
// that carries them. The others were told that their writes did not happen, so they must not.
func (w *writer) begin(batch []*write, id fsm.WriteID, named bool) (live []*write, encoded []byte) {
	command := &fsm.Command{ID: id, Write: &fsm.Write{}}
	w.mu.Lock()
	for _, wr := range batch {
		if wr.given {
			continue
		}
		wr.submitted = true
		live = append(live, wr)
		if wr.command != nil {
			*command = *wr.command
			command.ID = id
		} else {
			command.Write.Ops = append(command.Write.Ops, wr.ops...)
		}
	}
	w.mu.Unlock()
	if ops := command.Write; ops != nil && len(ops.Ops) > 0 {
		command.Origin.Way = ops.Ops[0].Way
	}
	if named {
		command.Origin.Node = w.n.cfg.Name
	}
	return live, fsm.EncodeCommand(nil, command)
}

// submit returns the part of the batch that the result, or the error, is about.
func (w *writer) submit(ctx context.Context, batch []*write, id fsm.WriteID) ([]*write, fsm.Result, error) {
	n := w.n
	var encoded []byte
	var plain <-chan struct{} // as w.plainFor, while it is not known to be that
	tried := false
	for {
		// An attempt that seemed to fail may have been committed and have reached this node.
		if tried {
			if r, ok := n.fsm.Outcome(id); ok {
				return batch, r, nil
			}
		}
		leader, address, changed := n.leaderWatch()
		if leader == "" {
			select {
			case <-changed:
				continue
			case <-ctx.Done():
				return batch, fsm.Result{}, context.Cause(ctx)
			}
		}
		if !tried {
			named := n.cfg.CommandLevel >= fsm.OriginLevel && changed != w.plainFor && changed != plain
			if batch, encoded = w.begin(batch, id, named); len(batch) == 0 {
				return nil, fsm.Result{}, nil
			}
		}
		at, err := n.proposeAt(ctx, changed, leader, address, encoded)
		switch {
		case err == nil:
			if changed == plain {
				w.plainFor = plain
			}
			if err := n.reach(ctx, at); err != nil {
				return batch, fsm.Result{}, err
			}
			if r, ok := n.fsm.Outcome(id); ok {
				return batch, r, nil
			}
			return batch, fsm.Result{}, fmt.Errorf("result of entry %d was not kept", at.Index)
		case errors.Is(err, errNotLeader):
			if !tried {
				w.unsubmit(batch)
			}
		case errors.Is(err, ErrRefused) && fsm.HasOrigin(encoded): // perhaps by a leader that was not upgraded yet
			plain, encoded = changed, fsm.WithoutOrigin(encoded)
			if !tried {
				w.unsubmit(batch)
			}
			continue
		case errors.Is(err, ErrRefused) && !tried:
			w.unsubmit(batch)
			return batch, fsm.Result{}, err
		default:
			tried = true
			n.logger.Debug("write goes on", "leader", nameOf(leader), "err", err)
		}
		// Wait for another leader, or for this one to find itself.
		select {
		case <-changed:
		case <-time.After(25 * time.Millisecond):
		case <-ctx.Done():
			return batch, fsm.Result{}, fmt.Errorf("%w: %w", context.Cause(ctx), err)
		}
	}
}

// unsubmit takes back the mark of a batch that surely did not reach the log.
func (w *writer) unsubmit(batch []*write) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, wr := range batch {
		wr.submitted = false
	}
}

// proposeAt hands a command to the leader: to the own proposer, or over the wire.
func (n *Node) proposeAt(ctx context.Context, changed <-chan struct{}, id, address string, command []byte) (position, error) {
	if id == n.id {
		return n.proposer.propose(ctx, command)
	}
	body, err := n.askLeader(ctx, changed, address, askPropose, command)
	if err != nil {
		return position{}, err
	}
	return decodePosition(body)
}

// reach returns when this node has applied the committed entry at. A follower would hear of the commit with
// the next heartbeat only; but when its own log holds an entry of this index and term, then by the Log
// Matching Property (raft paper, section 5.3) it holds all entries before it, and may apply them at once.
func (n *Node) reach(ctx context.Context, at position) error {
	for n.fsm.State().Index < at.Index {
		last, added := n.stores.Log.Added()
		if last >= at.Index {
			if err := n.advance(at); err == nil {
				break
			} else if !errors.Is(err, errNotHere) {
				return err
			}
		}
		waited, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
		select {
		case <-added:
		case <-waited.Done(): // a snapshot may have brought it
		}
		cancel()
		if ctx.Err() != nil {
			return fmt.Errorf("entry %d is committed and has not reached this node: %w", at.Index, context.Cause(ctx))
		}
	}
	return n.fsm.Err()
}

var errNotHere = errors.New("the log does not hold the entry yet")

// advance applies the entries up to the committed entry at from the own log.
func (n *Node) advance(at position) error {
	logs, err := n.logRange(at.Index, at.Index)
	if err != nil || logs[0].Term != at.Term {
		return errNotHere
	}
	from := n.fsm.State().Index + 1
	if from > at.Index {
		return nil
	}
	if at.Index-from > replayBatch*4 {
		return errNotHere // far behind: raft does this
	}
	if logs, err = n.logRange(from, at.Index); err != nil {
		return errNotHere
	}
	n.fsm.ApplyBatch(logs)
	return n.fsm.Err()
}

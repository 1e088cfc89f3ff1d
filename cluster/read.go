package cluster

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/hashicorp/raft"

	"postraft/cluster/store"
	"postraft/dict"
)

const statusTimeout = time.Second

// pause waits a moment, or until changed is closed.
func (n *Node) pause(ctx context.Context, changed <-chan struct{}) error {
	select {
	case <-changed:
	case <-time.After(25 * time.Millisecond):
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-n.ctx.Done():
		return ErrClosed
	}
	return nil
}

// leaderReadIndex returns an entry such that whoever has applied it knows every write that was answered
// before the call: the commit index, once this leader has committed in its own term and a quorum has
// confirmed that it still leads (raft dissertation, section 6.4).
func (n *Node) leaderReadIndex(ctx context.Context) (position, error) {
	began := n.leadFrom.Load()
	if began == nil || n.raft.State() != raft.Leader {
		return position{}, errNotLeader
	}
	commit := max(n.raft.CommitIndex(), began.Index)
	if err := n.verifyLeader(ctx, began.Term); err != nil {
		return position{}, errNotLeader
	}
	if n.raft.CurrentTerm() != began.Term {
		return position{}, errNotLeader // it has led again since, and does not know yet what was committed in between
	}
	// The state machine does not see raft's own no-ops: wait for the last entry that it will see.
	for index := commit; index > n.fsm.State().Index; index-- {
		logs, err := n.logRange(index, index)
		if err != nil {
			return position{}, fmt.Errorf("read entry %d: %w", index, err)
		}
		if t := logs[0].Type; t == raft.LogCommand || t == raft.LogConfiguration {
			if err := n.fsm.WaitIndex(ctx, index); err != nil {
				return position{}, err
			}
			break
		}
	}
	s := n.fsm.State()
	return position{s.Index, s.Term}, nil
}

// verifyLeader asks the voters whether this node still leads in term. Raft does not answer while its disk hangs. It counts
// the answers of nonvoters too, and of heartbeats that were on their way before the question, so its answer alone is not
// enough; but its question sends heartbeats to all at once.
func (n *Node) verifyLeader(ctx context.Context, term uint64) error {
	if err := n.diskError(); err != nil {
		return err
	}
	question := n.transport.contacts.ask()
	defer n.transport.contacts.settle()
	verified := make(chan error, 1)
	n.tasks.Go(func() { verified <- n.await(n.raft.VerifyLeader()) })
	for agreed := false; ; {
		heard := n.transport.contacts.next()
		_, _, changed := n.leaderWatch()
		if n.raft.State() != raft.Leader || n.raft.CurrentTerm() != term {
			return errNotLeader
		}
		if agreed && n.transport.contacts.confirm(question, term, n.id, n.servers()) {
			return nil
		}
		select {
		case err := <-verified:
			if err != nil {
				return err
			}
			agreed = true
		case <-heard:
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// ReadIndex returns once this node has applied every write that was answered anywhere before the call. It fails where the
// tables that are to be read then are known to be wrong.
func (n *Node) ReadIndex(ctx context.Context) error {
	body, err := n.onLeader(ctx, askReadIndex, nil)
	if err != nil {
		return err
	}
	at, err := decodePosition(body)
	if err != nil {
		return err
	}
	if err := n.reach(ctx, at); err != nil {
		return err
	}
	if n.diverging.Load() {
		return errWrong
	}
	return nil
}

// catchUp opens the node for lookups once it has caught up with a leader. A node whose disk is new knows
// nothing, and what it does not know must not look like "not found"; later lives of the node begin with
// what it has on disk.
func (n *Node) catchUp() {
	for !n.open.Load() {
		ctx, cancel := context.WithTimeout(n.ctx, 5*time.Second)
		err := n.ReadIndex(ctx)
		cancel()
		if n.ctx.Err() != nil {
			return
		}
		if err != nil {
			n.logger.Debug("not caught up yet", "err", err)
			if n.pause(n.ctx, nil) != nil {
				return
			}
			continue
		}
		if err := store.WriteFile(n.path("ready"), []byte("1\n")); err != nil {
			n.logger.Error("mark of readiness not written", "err", err)
		}
		n.open.Store(true)
		n.rejoined()
		n.logger.Info("ready", "index", n.fsm.State().Index)
		n.announce()
	}
}

// WaitReady returns when lookups are answered.
func (n *Node) WaitReady(ctx context.Context) error {
	for !n.open.Load() {
		if err := n.pause(ctx, nil); err != nil {
			return fmt.Errorf("wait for readiness: %w", err)
		}
	}
	return nil
}

// watchStaleness keeps stale and staleTables, and the beat of a leader.
func (n *Node) watchStaleness() {
	for {
		limit := n.judgeStaleness(n.silence())
		n.transport.contacts.setBeat(n.cfg.HeartbeatTimeout, limit)
		every := time.Second // to meet limits that are new
		if limit > 0 {
			every = min(max(limit/10, 10*time.Millisecond), every)
		}
		select {
		case <-time.After(every):
		case <-n.ctx.Done():
			return
		}
	}
}

// silence is how long no leader was heard of.
func (n *Node) silence() time.Duration {
	if n.raft.State() == raft.Leader {
		return 0
	}
	return time.Since(n.raft.LastContact())
}

// judgeStaleness sets stale and staleTables for what is known after such a silence, and returns the shortest limit, 0
// where there is none. A node that has not heard of a leader since it started does not know how old its tables are, so it
// begins with a silence without end.
func (n *Node) judgeStaleness(silence time.Duration) time.Duration {
	shortest := n.cfg.MaxStaleness
	n.stale.Store(shortest > 0 && silence > shortest)
	var stale map[string]struct{}
	for name, t := range n.fsm.State().Each() {
		limit := t.Settings.MaxStaleness
		if limit == 0 {
			continue
		}
		if shortest == 0 || limit < shortest {
			shortest = limit
		}
		if silence > limit {
			if stale == nil {
				stale = map[string]struct{}{}
			}
			stale[name] = struct{}{}
		}
	}
	if stale == nil {
		n.staleTables.Store(nil)
	} else {
		n.staleTables.Store(&stale)
	}
	return shortest
}

// staleNames are the tables in which lookups are refused by their own max-staleness, in order.
func (n *Node) staleNames() []string {
	if stale := n.staleTables.Load(); stale != nil {
		return slices.Sorted(maps.Keys(*stale))
	}
	return nil
}

var (
	errNotReady = fmt.Errorf("node has not caught up with the cluster yet: %w", dict.ErrRetry)
	errWrong    = fmt.Errorf("node has found its tables to be wrong and begins anew: %w", dict.ErrRetry)
	errStale    = fmt.Errorf("node has not heard of a leader for longer than max-staleness: %w", dict.ErrRetry)

	errStaleTable = fmt.Errorf("node has not heard of a leader for longer than the table's max-staleness: %w", dict.ErrRetry)
)

// gate refuses lookups of a node that cannot know.
func (n *Node) gate() error {
	if !n.open.Load() {
		return errNotReady
	}
	if n.stale.Load() {
		return errStale
	}
	if n.diverging.Load() {
		return errWrong
	}
	return nil
}

// gateTable is gate for lookups in a table.
func (n *Node) gateTable(table string) error {
	if err := n.gate(); err != nil {
		return err
	}
	if stale := n.staleTables.Load(); stale != nil {
		if _, ok := (*stale)[table]; ok {
			return errStaleTable
		}
	}
	return nil
}

// LookupConsistent returns the value of key as of now for the whole cluster. It needs the leader.
func (n *Node) LookupConsistent(ctx context.Context, table string, key []byte) (value []byte, found bool, err error) {
	if err := n.ReadIndex(ctx); err != nil {
		return nil, false, err
	}
	return n.fsm.State().Lookup(table, key)
}

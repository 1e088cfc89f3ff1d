package cluster

import (
	"context"
	"time"

	"postraft/fsm"
)

// KnownLevels returns what a leader has told this node of the servers' levels.
func (n *Node) KnownLevels() map[string]int {
	n.levels.mu.Lock()
	defer n.levels.mu.Unlock()
	return n.levels.last
}

// TableAt returns a table as it was at an index, as table restore does.
func (n *Node) TableAt(table string, index uint64) (*fsm.Table, error) {
	s, err := n.State()
	if err != nil {
		return nil, err
	}
	t, ok := n.fsm.History().At(s, table, index)
	if !ok || t == nil {
		return nil, ErrForgotten
	}
	return t, nil
}

// HoldProposals has this leader take no commands until release is called.
func (n *Node) HoldProposals() (release func()) {
	n.proposer.pause()
	return n.proposer.resume
}

// TellTime tells a table the time, of which so much has passed, and returns from when on more of it counts.
func (n *Node) TellTime(ctx context.Context, table string, passed time.Duration) time.Time {
	t, _ := n.fsm.State().Table(table)
	seen := map[string]clockSeen{table: {t.Clock(), time.Now().Add(-passed)}}
	n.expireTable(ctx, table, t, seen)
	return seen[table].since
}

// Stages returns how many tables are in the making here.
func (n *Node) Stages() int { return len(n.fsm.Stages()) }

// Diverge has this node know its tables to be wrong, as the leader's comparison would.
func (n *Node) Diverge() { n.diverging.Store(true) }

// Announce tells gossip what this node says of itself.
func (n *Node) Announce() { n.announce() }

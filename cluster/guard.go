package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// A follower that answers and whose log wants entries, but gets none for so long, is stuck.
const replicationPatience = 30 * time.Second

// unstick looks for followers to which raft sends nothing although they are there (hashicorp/raft issues 611
// and 612 are such faults): first raft's connections are closed, so that it opens new ones, and if that does
// not help the leadership goes to another node.
func (n *Node) unstick(ctx context.Context, servers map[string]string) {
	for id := range servers {
		v, ok := n.census.of(id)
		if !ok || id == n.id || !v.fresh() || time.Since(v.moved) < replicationPatience {
			continue
		}
		n.events.add(EventReplicationStuck)
		n.census.forgive(id)
		if v.unstuck == 0 {
			n.logger.Warn("follower gets no entries: connections closed", "member", nameOf(id), "its_last_entry", v.status.LastLogIndex)
			n.transport.CloseStreams()
			continue
		}
		n.logger.Warn("follower gets no entries: leadership is handed over", "member", nameOf(id), "its_last_entry", v.status.LastLogIndex)
		if err := n.transfer(ctx, ""); err != nil {
			n.logger.Warn("leadership not handed over", "err", err)
		}
		return
	}
}

// forgive begins to wait anew for a stuck follower, and counts how often.
func (c *census) forgive(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if v, ok := c.vitals[id]; ok {
		v.moved = time.Now()
		v.unstuck++
	}
}

// More snapshots than this within snapshotLoopTime are a loop.
const (
	snapshotLoop     = 4
	snapshotLoopTime = 2 * time.Minute
)

// restores are the moments at which the leader's snapshots were taken over.
type restores struct{ at []time.Time }

// restored is called when a snapshot was read. A node that is sent one after the other while its log has a
// conflicting end cannot get out of it by itself (hashicorp/raft issue 697); after a restart it can.
func (n *Node) restored(uint64) {
	if n.raft == nil {
		return // its own, at the start
	}
	r := &n.restores
	r.at = append(r.at, time.Now())
	if r.at = r.at[max(0, len(r.at)-snapshotLoop):]; len(r.at) == snapshotLoop && time.Since(r.at[0]) < snapshotLoopTime {
		n.events.add(EventSnapshotLoop)
		n.fail(fmt.Errorf("%d snapshots were sent within %v: %w", snapshotLoop, snapshotLoopTime, ErrRestart))
	}
}

// A hand-over that has not ended after so long never will.
const transferPatience = 10 * time.Second

// transferGuard watches raft's mark of a hand-over under way, which can stay for ever and refuse every write
// (hashicorp/raft issue 696).
type transferGuard struct {
	mu    sync.Mutex
	since time.Time
}

// noteTransfer takes what raft has said of a write.
func (n *Node) noteTransfer(err error) {
	g := &n.transferring
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case !errors.Is(err, raft.ErrLeadershipTransferInProgress):
		g.since = time.Time{}
	case g.since.IsZero():
		g.since = time.Now()
	case time.Since(g.since) > transferPatience:
		g.since = time.Time{}
		n.events.add(EventTransferStuck)
		n.fail(fmt.Errorf("a hand-over of leadership did not end within %v: %w", transferPatience, ErrRestart))
	}
}

package cluster

import (
	"maps"
	"slices"
	"sync"
)

// Events that a node counts: what its guards have seen and done.
const (
	EventDiskFailing      = "disk_failing"      // writes began to fail
	EventDiskSlow         = "disk_slow"         // leadership handed over because of slow writes
	EventDiskStuck        = "disk_stuck"        // a write took so long that the node stopped leading
	EventTransferStuck    = "transfer_stuck"    // raft was restarted because a hand-over never ended
	EventReplicationStuck = "replication_stuck" // a follower got nothing although it was there
	EventSnapshotLoop     = "snapshot_loop"     // this node was sent one snapshot after the other
	EventDigestMismatch   = "digest_mismatch"   // a node had other tables than the majority at one index
	EventHealed           = "healed"            // this node discarded its tables and began anew
	EventVoterReplaced    = "voter_replaced"    // a dead voter lost its vote to a stand-by
	EventVoterPromoted    = "voter_promoted"
	EventElection         = "election" // this node became the leader
	EventStranger         = "stranger" // a connection was refused, of somebody without the secret or a certificate
)

// alarms are what a leader has against servers, by id.
type alarms struct {
	mu   sync.Mutex
	text map[string]string
}

// set raises the alarm of a server, or ends it where text is empty.
func (a *alarms) set(id, text string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.text == nil {
		a.text = map[string]string{}
	}
	if a.text[id] = text; text == "" {
		delete(a.text, id)
	}
}

// keep ends the alarms of the servers for which is does not hold.
func (a *alarms) keep(is func(id string) bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	maps.DeleteFunc(a.text, func(id, _ string) bool { return !is(id) })
}

func (a *alarms) clear() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.text = nil
}

func (a *alarms) all() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Sorted(maps.Values(a.text))
}

// events counts by name.
type events struct {
	mu     sync.Mutex
	counts map[string]uint64
}

func (e *events) add(name string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.counts == nil {
		e.counts = map[string]uint64{}
	}
	e.counts[name]++
}

// Events returns how often each of the Event names has happened on this node since it was opened. Those that
// never happened are there with 0.
func (n *Node) Events() map[string]uint64 {
	counts := map[string]uint64{}
	for _, name := range []string{
		EventDiskFailing, EventDiskSlow, EventDiskStuck, EventTransferStuck, EventReplicationStuck, EventSnapshotLoop,
		EventDigestMismatch, EventHealed, EventVoterReplaced, EventVoterPromoted, EventElection, EventStranger,
	} {
		counts[name] = 0
	}
	n.events.mu.Lock()
	defer n.events.mu.Unlock()
	maps.Copy(counts, n.events.counts)
	return counts
}

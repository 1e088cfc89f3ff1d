package cluster

import (
	"slices"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// transport is raft's TCP transport with six differences.
//
// It is without the short cut for heartbeats, which changes term and state from another goroutine than raft's main loop
// (hashicorp/raft issue 695); the Transport contract allows ignoring the handler. A node that cannot write keeps silent, so
// that others lead. What a follower answers to entries is held back until they are on the leader's own disk. And what would
// tell a follower nothing new is answered here, as the follower would, while its last answer is new, and what is new waits a
// moment for more of it where nobody waits for it (contacts).
//
// After each failure in a row raft waits for twice as long before it sends entries again, up to ten seconds, and does not hear
// that the follower is back: so who was started again could neither see nor make a write for as long. Here what failed is
// sent again, each quarter of a second at the latest, before raft is told of it. Mere heartbeats are not: they tell how it
// stands, and raft does not wait for long with them.
type transport struct {
	*raft.NetworkTransport
	n        *Node
	contacts contacts
}

func newTransport(n *Node, logger hclog.Logger) *transport {
	t := &transport{n: n, NetworkTransport: raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream: &raftStream{n.port}, MaxPool: 3, Timeout: 10 * time.Second, Logger: logger,
		MaxRPCsInFlight:       1, // pipelining can deadlock (hashicorp/raft issues 611 and 612)
		ServerAddressProvider: (*addresses)(n),
	})}
	t.contacts.votes = n.votes
	t.contacts.heard = make(chan struct{})
	return t
}

// SetHeartbeatHandler implements raft.Transport by doing nothing.
func (*transport) SetHeartbeatHandler(func(raft.RPC)) {}

// AppendEntries implements raft.Transport.
func (t *transport) AppendEntries(id raft.ServerID, target raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	if t.n.sick.Load() {
		return errDisk
	}
	f, question, now := t.contacts.follower(id, args.Term), t.contacts.asked.Load(), time.Now()
	if t.contacts.known(f, args, now) {
		*resp = raft.AppendEntriesResponse{Term: args.Term, Success: true}
		return nil
	}
	if wait := f.gather(args, now); wait > 0 {
		select {
		case <-time.After(wait):
		case <-f.hurry:
		case <-t.n.ctx.Done():
		}
		question, now = t.contacts.asked.Load(), time.Now()
	}
	err := t.NetworkTransport.AppendEntries(id, target, args, resp)
	for pause := retryFirst; err != nil && t.retries(id, args); pause = min(2*pause, retryMost) {
		f.failed()
		select {
		case <-time.After(pause):
		case <-t.n.ctx.Done():
		}
		question, now = t.contacts.asked.Load(), time.Now()
		*resp = raft.AppendEntriesResponse{}
		err = t.NetworkTransport.AppendEntries(id, target, args, resp)
	}
	if err == nil && resp.Success {
		t.contacts.answered(id, f, args, question, now)
	} else {
		f.failed()
	}
	if n := len(args.Entries); err == nil && n > 0 && resp.Success {
		// The follower's copy must not count before the own one is on disk, for raft counts that already.
		err = t.n.stores.Log.AwaitStored(args.Entries[n-1].Index)
	}
	return err
}

// How long to wait before a message that has failed is sent again: twice as long each time.
const (
	retryFirst = 10 * time.Millisecond
	retryMost  = 250 * time.Millisecond
)

// retries reports whether there is use in sending a message that has failed again.
func (t *transport) retries(id raft.ServerID, m *raft.AppendEntriesRequest) bool {
	n := t.n
	return noticeOf(m) != notice{} && n.ctx.Err() == nil && !n.sick.Load() && n.raft.State() == raft.Leader && n.raft.CurrentTerm() == m.Term &&
		slices.ContainsFunc(n.servers(), func(s raft.Server) bool { return s.ID == id })
}

// RequestVote implements raft.Transport.
func (t *transport) RequestVote(id raft.ServerID, target raft.ServerAddress, args *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	if t.n.sick.Load() {
		return errDisk
	}
	return t.NetworkTransport.RequestVote(id, target, args, resp)
}

// RequestPreVote implements raft.WithPreVote.
func (t *transport) RequestPreVote(id raft.ServerID, target raft.ServerAddress, args *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	if t.n.sick.Load() {
		return errDisk
	}
	return t.NetworkTransport.RequestPreVote(id, target, args, resp)
}

package cluster

import (
	"context"
	"errors"
	"slices"
	"syscall"
	"time"

	"github.com/hashicorp/raft"
)

const (
	// successionStep is how long each voter leaves the election to those before it, so that votes are not split: longer
	// than an election takes.
	successionStep = 400 * time.Millisecond

	successionTimeout = 2 * time.Second
	successionAgain   = 10 * time.Millisecond
)

// sessionEnded is told of each connection that has ended, and who was at its other end.
func (n *Node) sessionEnded(id string) {
	n.mu.Lock()
	n.parted[id] = struct{}{}
	n.mu.Unlock()
	select {
	case n.parting <- struct{}{}:
	default:
	}
}

// watchLeader calls an election as soon as the leader's process has ended, in place of waiting until it was silent for
// the heartbeat timeout. Raft's rules need no change for that: any server may call an election at any time, and the
// request to do so is the one by which a leader hands over (raft dissertation, section 3.10).
func (n *Node) watchLeader() {
	for {
		select {
		case <-n.parting:
			n.mu.Lock()
			parted := n.parted
			n.parted = map[string]struct{}{}
			n.mu.Unlock()
			_, leader := n.raft.LeaderWithID()
			if _, ok := parted[string(leader)]; ok {
				n.succeed()
			}
		case <-n.ctx.Done():
			return
		}
	}
}

// succeed calls an election if nobody listens any more at the address of the leader, and nobody else leads by then.
// A host that is down, or cut off, refuses nothing: it is left to the heartbeat timeout.
func (n *Node) succeed() {
	ctx, cancel := context.WithTimeout(n.ctx, successionTimeout)
	defer cancel()
	term := n.raft.CurrentTerm() // first: who has voted in another one knows of no leader
	leader, address, _ := n.leaderWatch()
	voters := n.voters()
	if leader == "" || leader == n.id || !slices.Contains(voters, n.id) {
		return
	}
	for {
		s, err := n.port.dial(ctx, address, nodeProtocol)
		if err == nil {
			s.Close()
			return
		}
		if errors.Is(err, syscall.ECONNREFUSED) {
			break
		}
		select { // a process that ends may close its connections before it ceases to listen
		case <-time.After(successionAgain):
		case <-ctx.Done():
			return
		}
	}
	rank := slices.Index(slices.DeleteFunc(voters, func(id string) bool { return id == leader }), n.id)
	patience := time.Duration(rank) * successionStep
	for {
		select {
		case <-time.After(patience):
		case <-ctx.Done():
			return
		}
		if _, now := n.raft.LeaderWithID(); now != "" && string(now) != leader || n.raft.State() != raft.Follower {
			return
		}
		now := n.raft.CurrentTerm()
		if now == term {
			break
		}
		term, patience = now, successionStep // another voter has called one; a leader that it makes must not be deposed
	}
	n.logger.Info("the leader's process has ended: calling an election", "leader", nameOf(leader))
	request := &raft.TimeoutNowRequest{RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(n.id), Addr: []byte(n.port.address)}}
	if err := n.transport.TimeoutNow(raft.ServerID(n.id), raft.ServerAddress(n.port.address+"#"+n.id), request, new(raft.TimeoutNowResponse)); err != nil {
		n.logger.Debug("election not called", "err", err)
	}
}

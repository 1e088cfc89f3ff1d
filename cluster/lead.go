package cluster

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/hashicorp/raft"

	"postraft/fsm"
)

const (
	reconcileEvery  = 500 * time.Millisecond
	stageTimeout    = time.Minute // a load that stands still for so long was abandoned
	transferTimeout = 5 * time.Second
)

// lead does a leader's work for as long as this node is the leader: the context of each leadership ends
// with it.
func (n *Node) lead() {
	leader := false
	for {
		if !leader {
			select {
			case leader = <-n.raft.LeaderCh():
				continue
			case <-n.ctx.Done():
				return
			}
		}
		ctx, cancel := context.WithCancel(n.ctx)
		ended := make(chan struct{})
		n.tasks.Go(func() {
			defer close(ended)
			n.reign(ctx)
		})
		select { // true is another leadership of this node: that it ended in between may go unsaid
		case leader = <-n.raft.LeaderCh():
		case <-n.ctx.Done():
			leader = false
		}
		cancel()
		<-ended
		n.leadFrom.Store(nil)
		n.logger.Info("leadership ended")
	}
}

// reign is one leadership.
func (n *Node) reign(ctx context.Context) {
	n.logger.Info("leadership begins", "term", n.raft.CurrentTerm())
	n.proposer.resume()
	// The first entry of the term tells every state machine about it, and lets this leader know what is
	// committed (raft paper, section 8).
	command := &fsm.Command{Lead: &fsm.Lead{Node: n.id}}
	rand.Read(command.ID.Session[:])
	command.ID.Seq = 1
	encoded := fsm.EncodeCommand(nil, command)
	for {
		at, err := n.proposer.propose(ctx, encoded)
		if err == nil {
			n.leadFrom.Store(&at)
			break
		}
		// The leadership may outlast the reason: a disk that fails, a hand-over that does not come about.
		n.logger.Warn("first entry of the term not committed", "err", err)
		if n.pause(ctx, nil) != nil {
			return
		}
	}
	n.events.add(EventElection)
	n.tasks.Go(func() { n.takeCensus(ctx) })
	n.tasks.Go(func() { n.checkDigests(ctx) })
	n.tasks.Go(func() { n.expire(ctx) })
	stages := map[fsm.ID]stageSeen{}
	refusals := map[string]string{}
	for ctx.Err() == nil {
		n.reconcile(ctx, refusals)
		n.abortStages(ctx, stages)
		select {
		case <-n.kick:
		case <-time.After(reconcileEvery):
		case <-ctx.Done():
		}
	}
}

type stageSeen struct {
	index uint64
	since time.Time
}

// abortStages ends loads that nobody goes on with.
func (n *Node) abortStages(ctx context.Context, seen map[fsm.ID]stageSeen) {
	stages := n.fsm.Stages()
	maps.DeleteFunc(seen, func(id fsm.ID, _ stageSeen) bool { _, ok := stages[id]; return !ok })
	for id, index := range stages {
		s, ok := seen[id]
		if !ok || s.index != index {
			seen[id] = stageSeen{index, time.Now()}
		} else if time.Since(s.since) > stageTimeout {
			n.logger.Warn("abandoned load ended", "index", index)
			if _, err := n.apply(ctx, &fsm.Command{Abort: &fsm.StageAbort{ID: id}}); err != nil {
				n.logger.Warn("abandoned load not ended", "err", err)
			}
		}
	}
}

// servers returns the newest configuration. Whoever calls must not change it.
func (n *Node) servers() []raft.Server { return n.raft.GetConfiguration().Configuration().Servers }

// voters returns the ids of the voters in the newest configuration.
func (n *Node) voters() []string {
	var ids []string
	for _, s := range n.servers() {
		if s.Suffrage == raft.Voter {
			ids = append(ids, string(s.ID))
		}
	}
	slices.SortFunc(ids, cmp.Compare[string])
	return ids
}

// votes reports whether a server is a voter in the newest configuration.
func (n *Node) votes(id raft.ServerID) bool {
	return slices.ContainsFunc(n.servers(), func(s raft.Server) bool { return s.ID == id && s.Suffrage == raft.Voter })
}

// transfer hands leadership to the server with this id, or to any when it is empty.
func (n *Node) transfer(ctx context.Context, id string) error {
	defer n.proposer.resume()
	var future raft.Future
	if id == "" {
		future = n.raft.LeadershipTransfer()
	} else {
		address := raft.ServerAddress("")
		for _, s := range n.raft.GetConfiguration().Configuration().Servers {
			if string(s.ID) == id && s.Suffrage == raft.Voter {
				address = s.Address
			}
		}
		if address == "" {
			return fmt.Errorf("%w: %s is not a voter", ErrRefused, nameOf(id))
		}
		future = n.raft.LeadershipTransferToServer(raft.ServerID(id), address)
	}
	result := make(chan error, 1)
	n.tasks.Go(func() { result <- n.await(future) })
	select {
	case err := <-result:
		return err
	case <-time.After(3 * time.Second):
		return fmt.Errorf("hand over leadership: no answer within 3 s")
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

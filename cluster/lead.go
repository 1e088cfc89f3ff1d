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
	configTimeout   = 5 * time.Second
	stageTimeout    = time.Minute // a load that stands still for so long was abandoned
	transferTimeout = 5 * time.Second
	caughtUp        = 256 // a nonvoter so few entries behind may become a voter
)

// lead does a leader's work for as long as this node is the leader: the context of each leadership ends
// with it.
func (n *Node) lead() {
	for n.ctx.Err() == nil {
		select {
		case leader := <-n.raft.LeaderCh():
			if !leader {
				continue
			}
		case <-n.ctx.Done():
			return
		}
		ctx, cancel := context.WithCancel(n.ctx)
		ended := make(chan struct{})
		n.tasks.Go(func() {
			defer close(ended)
			n.reign(ctx)
		})
		for leader := true; leader; {
			select {
			case leader = <-n.raft.LeaderCh():
			case <-n.ctx.Done():
				leader = false
			}
		}
		cancel()
		<-ended
		n.leadIndex.Store(0)
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
	at, err := n.proposer.propose(ctx, fsm.EncodeCommand(nil, command))
	if err != nil {
		n.logger.Warn("first entry of the term not committed", "err", err)
		return
	}
	n.leadIndex.Store(at.Index)
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

// reconcile makes servers of the members that gossip shows, and voters of servers that have caught up. It
// changes one thing at a time and never takes a vote away for silence. refusals keeps what was said of whom,
// so that it is not said twice a second.
func (n *Node) reconcile(ctx context.Context, refusals map[string]string) {
	future := n.raft.GetConfiguration()
	if err := future.Error(); err != nil {
		return
	}
	config, index := future.Configuration(), future.Index()
	servers := map[string]raft.Server{}
	voters := 0
	for _, s := range config.Servers {
		servers[string(s.ID)] = s
		if s.Suffrage == raft.Voter {
			voters++
		}
	}
	alive := n.alive()
	for _, id := range slices.Sorted(maps.Keys(alive)) {
		m := alive[id]
		s, known := servers[id]
		if known && (s.Suffrage == raft.Voter || m.meta.Nonvoter || voters >= n.cfg.Voters) && string(s.Address) == m.meta.Address {
			continue
		}
		status, err := n.statusOf(ctx, id, m.meta.Address)
		if err != nil {
			n.logger.Debug("member does not answer", "member", nameOf(id), "err", err)
			continue
		}
		changed, err := n.settleMember(m, status, servers, voters, index)
		if err != nil && refusals[id] != err.Error() {
			refusals[id] = err.Error()
			n.logger.Warn("member not changed", "member", nameOf(id), "id", id, "err", err)
		}
		if changed {
			return // the next round sees the new configuration
		}
	}
}

// settleMember makes the one change that a member is due, if any.
func (n *Node) settleMember(m gossipMember, status peerStatus, servers map[string]raft.Server, voters int, index uint64) (bool, error) {
	id, address := raft.ServerID(m.id), raft.ServerAddress(m.meta.Address)
	s, known := servers[m.id]
	switch {
	case status.Leaving:
		return false, nil
	case known && s.Address != address:
		n.logger.Info("member has moved", "member", nameOf(m.id), "address", address)
		if s.Suffrage == raft.Voter {
			return true, n.raft.AddVoter(id, address, index, configTimeout).Error()
		}
		return true, n.raft.AddNonvoter(id, address, index, configTimeout).Error()
	case known:
		if s.Suffrage == raft.Voter || m.meta.Nonvoter || voters >= n.cfg.Voters || status.AppliedIndex+caughtUp < n.raft.CommitIndex() {
			return false, nil
		}
		n.logger.Info("member becomes a voter", "member", nameOf(m.id))
		return true, n.raft.AddVoter(id, address, index, configTimeout).Error()
	}
	for other := range servers {
		if nameOf(other) != nameOf(m.id) {
			continue
		}
		if _, there := n.alive()[other]; there {
			return false, fmt.Errorf("%w: another live agent has this name, as %s; give one of them another --name", ErrRefused, other)
		}
		n.logger.Info("server replaced: its name is back with a new data directory", "member", nameOf(m.id), "old", other, "id", m.id)
		return true, n.raft.RemoveServer(raft.ServerID(other), index, configTimeout).Error()
	}
	if status.Formed {
		return false, fmt.Errorf("%w: its data directory belongs to another cluster, or to a member that left or was removed; start it with an empty one", ErrRefused)
	}
	n.logger.Info("member becomes a server", "member", nameOf(m.id), "id", m.id)
	return true, n.raft.AddNonvoter(id, address, index, configTimeout).Error()
}

// voters returns the ids of the voters in the newest configuration.
func (n *Node) voters() []string {
	var ids []string
	for _, s := range n.raft.GetConfiguration().Configuration().Servers {
		if s.Suffrage == raft.Voter {
			ids = append(ids, string(s.ID))
		}
	}
	slices.SortFunc(ids, cmp.Compare[string])
	return ids
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
	n.tasks.Go(func() { result <- future.Error() })
	select {
	case err := <-result:
		return err
	case <-time.After(3 * time.Second):
		return fmt.Errorf("hand over leadership: no answer within 3 s")
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

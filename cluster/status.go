package cluster

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/raft"

	"postraft/dict"
	"postraft/fsm"
)

// Status is what a node knows of itself.
type Status struct {
	Name, ID                  string
	State                     string // leader, follower, candidate
	Leader                    string // name; empty when none is known
	Term                      uint64
	AppliedIndex              uint64
	CommitIndex, LastLogIndex uint64
	Ready                     bool
	NotReady                  string   // why, when not Ready
	Voters                    []string // names
	Tables                    []fsm.TableInfo
	LastContact               time.Duration // since the leader was heard of; 0 on the leader
	Address, Gossip           string
	Warnings                  []string
	Vitals
}

// Status returns the node's own state. It never waits.
func (n *Node) Status() Status {
	state := n.fsm.State()
	_, leader := n.raft.LeaderWithID()
	s := Status{
		Name: n.cfg.Name, ID: n.id, State: strings.ToLower(n.raft.State().String()), Leader: nameOf(string(leader)),
		Term: n.raft.CurrentTerm(), AppliedIndex: max(state.Index, n.raft.AppliedIndex()), CommitIndex: max(state.Index, n.raft.CommitIndex()), LastLogIndex: n.raft.LastIndex(),
		Tables: state.Tables(), Address: n.port.address, Gossip: n.GossipAddress(), Ready: true, Vitals: n.vitals(),
	}
	for _, id := range n.voters() {
		s.Voters = append(s.Voters, nameOf(id))
	}
	if n.raft.State() != raft.Leader {
		if last := n.raft.LastContact(); !last.IsZero() {
			s.LastContact = time.Since(last)
		}
	}
	if err := n.gate(); err != nil {
		s.Ready, s.NotReady = false, err.Error()
	}
	switch {
	case !n.formed() && n.rejoins():
		s.Warnings = append(s.Warnings, "this node has discarded its data and waits for a member of its cluster to answer; name one: postraft join HOST")
	case !n.formed():
		s.Warnings = append(s.Warnings, "this node belongs to no cluster yet: it waits for --join or --bootstrap-expect to succeed")
	case s.Leader == "":
		s.Warnings = append(s.Warnings, "no leader: lookups go on, writes are deferred")
	}
	if state.InDoubt() {
		s.Warnings = append(s.Warnings, "the end of the log awaits a leader: lookups of the keys it touches are deferred")
	}
	if names := n.staleNames(); len(names) > 0 {
		s.Warnings = append(s.Warnings, fmt.Sprintf("no leader for longer than max-staleness of tables: %s: lookups in them are deferred", strings.Join(names, ", ")))
	}
	if err := n.diskError(); err != nil {
		s.Warnings = append(s.Warnings, err.Error())
	}
	s.Warnings = append(s.Warnings, n.alarms.all()...)
	s.Warnings = append(s.Warnings, n.identity.Warnings()...)
	s.Warnings = append(s.Warnings, s.Vitals.warnings(len(s.Voters))...)
	s.Warnings = append(s.Warnings, n.port.strangersWarning()...)
	if err := n.fsm.Err(); err != nil {
		s.Warnings = append(s.Warnings, err.Error())
	}
	return s
}

// Role and liveness of a Member.
const (
	RoleVoter    = "voter"
	RoleNonvoter = "nonvoter"
	Alive        = "alive"
	Failed       = "failed"
)

// A Member is a server of the cluster, or a node on its way to become one.
type Member struct {
	Name, ID, Address string
	Role              string
	Leader            bool
	Alive             string
	Version           string
	AppliedIndex      uint64 // 0 when the member did not answer
}

// Members lists the servers of the newest raft configuration and the alive members of the gossip, by name.
// Each alive one is asked how far it is.
func (n *Node) Members(ctx context.Context) ([]Member, error) {
	byID := map[string]*Member{}
	for _, s := range n.raft.GetConfiguration().Configuration().Servers {
		m := &Member{Name: nameOf(string(s.ID)), ID: string(s.ID), Address: string(s.Address), Role: RoleNonvoter, Alive: Failed}
		if s.Suffrage == raft.Voter {
			m.Role = RoleVoter
		}
		byID[m.ID] = m
	}
	servers := maps.Clone(byID)
	_, leader := n.raft.LeaderWithID()
	var asking sync.WaitGroup
	for id, g := range n.alive() {
		m, ok := byID[id]
		if !ok {
			m = &Member{Name: nameOf(id), ID: id, Role: RoleNonvoter}
			byID[id] = m
		}
		m.Alive, m.Address, m.Version, m.Leader = Alive, g.meta.Address, g.meta.Version, id == string(leader)
		asking.Go(func() {
			s, err := n.statusOf(ctx, id, m.Address)
			m.AppliedIndex = s.AppliedIndex
			if gone(err) {
				m.Alive = Failed
			}
		})
	}
	asking.Wait()
	var members []Member
	for id, m := range byID {
		if _, server := servers[id]; server || m.Alive == Alive {
			members = append(members, *m)
		}
	}
	slices.SortFunc(members, func(a, b Member) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID)) })
	return members, nil
}

// gone reports whether a node's port says that nobody is there, or another node: gossip takes ten seconds to learn
// that a process was killed.
func gone(err error) bool {
	return errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, errOtherNode)
}

// memberID returns the id of the server with this name; of two, the one that is not alive.
func (n *Node) memberID(name string) (string, error) {
	alive := n.alive()
	found := ""
	for _, s := range n.raft.GetConfiguration().Configuration().Servers {
		id := string(s.ID)
		if nameOf(id) != name {
			continue
		}
		if _, there := alive[found]; found == "" || there {
			found = id
		}
	}
	if found == "" {
		return "", fmt.Errorf("%s: %w", name, ErrNoMember)
	}
	return found, nil
}

// TransferLeader hands leadership to the voter with this name, or to the best one when name is empty.
func (n *Node) TransferLeader(ctx context.Context, name string) error {
	var h handover
	if name != "" {
		var err error
		if h.ID, err = n.memberID(name); err != nil {
			return err
		}
	}
	payload, err := json.Marshal(h)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, transferTimeout)
	defer cancel()
	var before raft.ServerID
	for {
		_, before = n.raft.LeaderWithID()
		if h.ID != "" && string(before) == h.ID {
			return nil
		}
		err = errNotLeader
		if before != "" {
			err = n.askTransfer(ctx, payload)
		}
		if !errors.Is(err, errNotLeader) {
			break
		}
		// Nobody leads, or somebody else than this node has heard of.
		if err := n.pause(ctx, nil); err != nil {
			return fmt.Errorf("hand over leadership: %w: %w", ErrNoLeader, err)
		}
	}
	// The old leader may lose its leadership before it can answer: what counts is who leads afterwards.
	for {
		_, now := n.raft.LeaderWithID()
		switch {
		case now != "" && now != before && (h.ID == "" || string(now) == h.ID):
			return nil
		case err != nil:
			return fmt.Errorf("hand over leadership: %w", err)
		}
		if err := n.pause(ctx, nil); err != nil {
			return fmt.Errorf("hand over leadership: %s still leads: %w: %w", nameOf(string(now)), dict.ErrRetry, err)
		}
	}
}

// askTransfer asks the present leader, and only that one, to hand over.
func (n *Node) askTransfer(ctx context.Context, payload []byte) error {
	id, address, _ := n.leaderWatch()
	if id == n.id {
		_, err := n.request(ctx, n.id, askTransfer, payload)
		return err
	}
	_, err := n.peers.ask(ctx, address, askTransfer, payload)
	if errors.Is(err, errUnknown) {
		return nil
	}
	return err
}

// Remove ends the membership of a server that will not come back. One that is alive is refused: it would
// join again; it has to leave.
func (n *Node) Remove(ctx context.Context, name string) error {
	id, err := n.memberID(name)
	if err != nil {
		return err
	}
	if m, there := n.alive()[id]; there {
		if _, err := n.statusOf(ctx, id, m.meta.Address); gone(err) {
			return n.askRemoval(ctx, id)
		}
		return fmt.Errorf("%w: %s is alive; run there: postraft leave", ErrRefused, name)
	}
	return n.askRemoval(ctx, id)
}

func (n *Node) askRemoval(ctx context.Context, id string) error {
	payload, err := json.Marshal(removal{id})
	if err != nil {
		return err
	}
	if _, err := n.onLeader(ctx, askRemove, payload); err != nil {
		return fmt.Errorf("remove %s: %w", nameOf(id), err)
	}
	return nil
}

// removeServer serves a removal on the leader.
func (n *Node) removeServer(ctx context.Context, id string) error {
	if n.raft.State() != raft.Leader {
		return errNotLeader
	}
	if id == n.id {
		return fmt.Errorf("%w: the leader does not remove itself", ErrRefused)
	}
	result := make(chan error, 1)
	n.tasks.Go(func() { result <- n.await(n.raft.RemoveServer(raft.ServerID(id), 0, configTimeout)) })
	var err error
	select {
	case err = <-result:
	case <-ctx.Done(): // raft may wait for its disk, and must not hold up who answers
		return context.Cause(ctx)
	}
	if errors.Is(err, raft.ErrNotLeader) || errors.Is(err, raft.ErrLeadershipLost) {
		return errNotLeader
	}
	return err
}

// Leave ends this node's membership for good: leadership first, then vote and membership, then the node
// itself. The last voter cannot leave.
func (n *Node) Leave(ctx context.Context) error {
	n.leaving.Store(true)
	if err := n.leave(ctx); err != nil {
		n.leaving.Store(false)
		return fmt.Errorf("leave: %w", err)
	}
	n.markLeft()
	if err := n.gossip.Leave(time.Second); err != nil {
		n.logger.Warn("leaving not confirmed by gossip", "err", err)
	}
	n.logger.Info("left the cluster")
	n.cancel(ErrClosed)
	return nil
}

func (n *Node) leave(ctx context.Context) error {
	voters := n.voters()
	if len(voters) == 1 && voters[0] == n.id {
		return fmt.Errorf("%w: this is the only voter; stop the agent and remove its data directory to end the cluster", ErrRefused)
	}
	for n.raft.State() == raft.Leader {
		n.proposer.pause()
		if err := n.transfer(ctx, ""); err != nil {
			return err
		}
		if err := n.pause(ctx, nil); err != nil {
			return err
		}
	}
	return n.askRemoval(ctx, n.id)
}

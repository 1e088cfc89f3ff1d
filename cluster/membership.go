package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/hashicorp/raft"
)

const (
	configTimeout = 5 * time.Second
	caughtUp      = 256 // a nonvoter so few entries behind may become a voter
)

// A view is all that the rules of membership look at.
type view struct {
	self      string
	servers   []raft.Server           // of the newest configuration
	alive     map[string]gossipMember // as gossip has it, proved or not
	vital     func(id string) vital   // of a server
	voters    int                     // how many the cluster keeps
	deadAfter time.Duration           // a voter that is silent for so long may be replaced
	stableFor time.Duration           // a nonvoter that does well for so long may vote
}

// A change is one step of membership.
type change struct {
	kind    changeKind
	id      string
	address string // of addNonvoter and addVoter
	why     string
	event   string // counted when it is done
}

type changeKind int

const (
	none changeKind = iota
	addNonvoter
	addVoter
	demote
	remove
	handOver // the leader is to become a nonvoter
)

// plan returns the next change, if one is due, by these rules, the first that fits:
//
//   - a server that proves its id at another address has moved;
//   - a voter that shall not vote any more, or is one too many, becomes a nonvoter: of those that are too many
//     one that was silent for deadAfter, as long as the others are a quorum;
//   - while there are fewer voters than the cluster keeps, or one of them was silent for deadAfter, the stand-by
//     that knows most becomes a voter, if it has done well for stableFor.
//
// So a dead voter is replaced by promoting first and demoting then, never without a stand-by, and stays a
// member: when it is back it stands by. Strangers are settled one by one (settle).
func (v *view) plan() change {
	for _, s := range v.servers {
		id := string(s.ID)
		m, there := v.alive[id]
		if !there || m.meta.Address == string(s.Address) || !v.vital(id).fresh() {
			continue
		}
		kind := addNonvoter
		if s.Suffrage == raft.Voter {
			kind = addVoter
		}
		return change{kind: kind, id: id, address: m.meta.Address, why: "it has moved"}
	}
	voters, dead := v.count()
	if c := v.demotion(voters, dead); c.kind != none {
		return c
	}
	if len(voters) < v.voters || len(voters) == v.voters && len(dead) > 0 {
		if id, address := v.standBy(); id != "" {
			why := "the cluster keeps more voters than it has"
			if len(voters) >= v.voters {
				why = "in place of " + nameOf(dead[0])
			}
			return change{kind: addVoter, id: id, address: address, why: why, event: EventVoterPromoted}
		}
	}
	return change{}
}

// count returns the voters, and those of them that are dead, the longest silent first.
func (v *view) count() (voters, dead []string) {
	for _, s := range v.servers {
		if s.Suffrage != raft.Voter {
			continue
		}
		id := string(s.ID)
		voters = append(voters, id)
		if id != v.self && time.Since(v.vital(id).heard) >= v.deadAfter {
			dead = append(dead, id)
		}
	}
	slices.SortFunc(dead, func(a, b string) int { return v.vital(a).heard.Compare(v.vital(b).heard) })
	return voters, dead
}

func (v *view) demotion(voters, dead []string) change {
	pick, why, event := "", "", ""
	switch {
	case len(voters) <= 1:
	case len(voters) > v.voters && len(dead) > 0:
		pick, why, event = dead[0], fmt.Sprintf("it was silent for %v and is replaced", v.deadAfter), EventVoterReplaced
	default:
		for _, id := range voters {
			if m, there := v.alive[id]; there && m.meta.Nonvoter {
				pick, why = id, "it was started with --nonvoter"
			}
		}
		if pick == "" && len(voters) > v.voters {
			why = fmt.Sprintf("the cluster keeps %d voters", v.voters)
			for _, id := range voters {
				if id != v.self && (pick == "" || v.vital(pick).fresh()) {
					pick = id
				}
			}
		}
	}
	if pick == "" || !v.quorumWithout(voters, pick) {
		return change{}
	}
	if pick == v.self {
		return change{kind: handOver, id: pick, why: why}
	}
	return change{kind: demote, id: pick, why: why, event: event}
}

// quorumWithout reports whether the voters but one have a quorum of servers that answer.
func (v *view) quorumWithout(voters []string, out string) bool {
	fresh := 0
	for _, id := range voters {
		if id != out && (id == v.self || v.vital(id).fresh()) {
			fresh++
		}
	}
	return fresh >= (len(voters)-1)/2+1
}

// standBy returns the nonvoter that is to vote next, if there is one.
func (v *view) standBy() (id, address string) {
	best := uint64(0)
	for _, s := range v.servers {
		m, there := v.alive[string(s.ID)]
		if s.Suffrage == raft.Voter || !there || m.meta.Nonvoter {
			continue
		}
		vital := v.vital(string(s.ID))
		if !vital.fresh() || vital.status.Leaving || vital.fit.IsZero() || time.Since(vital.fit) < v.stableFor {
			continue
		}
		if id == "" || vital.status.AppliedIndex > best {
			id, address, best = string(s.ID), string(s.Address), vital.status.AppliedIndex
		}
	}
	return id, address
}

// settle decides about a member that is no server: it becomes a nonvoter, or takes the place of the dead
// server of its name. alive tells whether a server answers under its id.
func (v *view) settle(m gossipMember, status peerStatus, alive func(id string) bool) (change, error) {
	former := ""
	for _, s := range v.servers {
		other := string(s.ID)
		if nameOf(other) != nameOf(m.id) {
			continue
		}
		if alive(other) {
			return change{}, fmt.Errorf("%w: another live agent has this name, as %s; give one of them another --name", ErrRefused, other)
		}
		former = other
	}
	switch {
	case status.Formed: // whoever cannot be taken in takes nobody's place
		return change{}, fmt.Errorf("%w: its data directory belongs to another cluster, or to a member that left or was removed; start it once with: postraft agent --reset", ErrRefused)
	case former != "":
		return change{kind: remove, id: former, why: "its name is back with a new data directory, as " + m.id}, nil
	}
	return change{kind: addNonvoter, id: m.id, address: m.meta.Address, why: "it has joined"}, nil
}

// reconcile makes the one change of membership that is due next. refusals keeps what was said of whom, so
// that it is not said twice a second.
func (n *Node) reconcile(ctx context.Context, refusals map[string]string) {
	future := n.raft.GetConfiguration()
	if err := future.Error(); err != nil {
		return
	}
	v := &view{
		self: n.id, servers: future.Configuration().Servers, alive: n.alive(), voters: n.cfg.Voters, deadAfter: n.cfg.DeadAfter, stableFor: n.cfg.StableFor,
		vital: func(id string) vital { v, _ := n.census.of(id); return v },
	}
	for _, s := range v.servers {
		if v, ok := n.census.of(string(s.ID)); !ok || v.heard.IsZero() {
			return // the census of a new server comes first
		}
	}
	c, err := v.plan(), error(nil)
	id := c.id
	if c.kind == none {
		c, id, err = n.newcomer(ctx, v)
	}
	if c.kind != none {
		err = n.change(ctx, c, future.Index())
	}
	if err != nil && refusals[id] != err.Error() {
		refusals[id] = err.Error()
		n.logger.Warn("member not changed", "member", nameOf(id), "id", id, "err", err)
	}
}

// newcomer returns what is to be done about the first member that is no server and can be helped.
func (n *Node) newcomer(ctx context.Context, v *view) (c change, id string, err error) {
	known := func(id string) bool {
		return slices.ContainsFunc(v.servers, func(s raft.Server) bool { return string(s.ID) == id })
	}
	for _, candidate := range slices.Sorted(maps.Keys(v.alive)) {
		if known(candidate) {
			continue
		}
		m := v.alive[candidate]
		status, askErr := n.statusOf(ctx, candidate, m.meta.Address)
		if askErr != nil || status.Leaving {
			n.logger.Debug("member does not answer, or leaves", "member", nameOf(candidate), "err", askErr)
			continue
		}
		c, settleErr := v.settle(m, status, func(other string) bool {
			m, there := v.alive[other]
			if !there {
				return false
			}
			_, err := n.statusOf(ctx, other, m.meta.Address)
			return err == nil
		})
		if settleErr == nil {
			return c, candidate, nil
		}
		id, err = candidate, cmp.Or(err, settleErr)
	}
	return change{}, id, err
}

// change carries a change out. index is that of the configuration which it was planned for.
func (n *Node) change(ctx context.Context, c change, index uint64) error {
	n.logger.Info([...]string{
		addNonvoter: "member becomes a nonvoter", addVoter: "member becomes a voter", demote: "voter becomes a nonvoter", remove: "server removed", handOver: "leadership is handed over",
	}[c.kind], "member", nameOf(c.id), "id", c.id, "reason", c.why)
	var err error
	switch c.kind {
	case addNonvoter:
		err = n.await(n.raft.AddNonvoter(raft.ServerID(c.id), raft.ServerAddress(c.address), index, configTimeout))
	case addVoter:
		err = n.await(n.raft.AddVoter(raft.ServerID(c.id), raft.ServerAddress(c.address), index, configTimeout))
	case demote:
		err = n.await(n.raft.DemoteVoter(raft.ServerID(c.id), index, configTimeout))
	case remove:
		err = n.await(n.raft.RemoveServer(raft.ServerID(c.id), index, configTimeout))
	case handOver:
		n.proposer.pause()
		err = n.transfer(ctx, "")
	}
	if errors.Is(err, raft.ErrNotLeader) || errors.Is(err, raft.ErrLeadershipLost) {
		return nil // the next leader does it
	}
	if err == nil && c.event != "" {
		n.events.add(c.event)
	}
	return err
}

package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// aServer is one of a view: its letters are v for voter, n for nonvoter, d for dead, u for unfit, x for one that
// was started with --nonvoter, l for one that leaves, m for one that has moved.
type aServer struct {
	name, letters string
	applied       uint64
}

func viewOf(voters int, servers ...aServer) *view {
	now := time.Now()
	v := &view{self: "a/1", voters: voters, deadAfter: time.Minute, stableFor: 5 * time.Second, alive: map[string]gossipMember{}}
	vitals := map[string]vital{}
	for _, s := range servers {
		id := s.name + "/1"
		server := raft.Server{ID: raft.ServerID(id), Address: "old", Suffrage: raft.Nonvoter}
		member := gossipMember{id: id, meta: meta{Address: "old"}}
		state := vital{heard: now, fit: now.Add(-time.Minute), moved: now, answer: true, status: peerStatus{AppliedIndex: s.applied}}
		for _, letter := range s.letters {
			switch letter {
			case 'v':
				server.Suffrage = raft.Voter
			case 'd':
				state.heard, state.fit = now.Add(-2*time.Minute), time.Time{}
			case 'u':
				state.fit = now.Add(-time.Second)
			case 'x':
				member.meta.Nonvoter = true
			case 'l':
				state.status.Leaving = true
			case 'm':
				member.meta.Address = "new"
			}
		}
		v.servers = append(v.servers, server)
		v.alive[id], vitals[id] = member, state
	}
	v.vital = func(id string) vital { return vitals[id] }
	return v
}

func TestView_Plan(t *testing.T) {
	for name, c := range map[string]struct {
		view *view
		want string // kind and name
	}{
		"all well":                        {viewOf(3, aServer{"a", "v", 9}, aServer{"b", "v", 9}, aServer{"c", "v", 9}, aServer{"d", "n", 9}), ""},
		"too few voters":                  {viewOf(3, aServer{"a", "v", 9}, aServer{"b", "n", 9}), "voter b"},
		"who knows most is promoted":      {viewOf(3, aServer{"a", "v", 9}, aServer{"b", "n", 7}, aServer{"c", "n", 8}), "voter c"},
		"not yet stable":                  {viewOf(3, aServer{"a", "v", 9}, aServer{"b", "nu", 9}), ""},
		"never votes":                     {viewOf(3, aServer{"a", "v", 9}, aServer{"b", "nx", 9}), ""},
		"leaves":                          {viewOf(3, aServer{"a", "v", 9}, aServer{"b", "nl", 9}), ""},
		"silent stand-by":                 {viewOf(3, aServer{"a", "v", 9}, aServer{"b", "nd", 9}), ""},
		"dead voter, nobody stands by":    {viewOf(3, aServer{"a", "v", 9}, aServer{"b", "v", 9}, aServer{"c", "vd", 9}), ""},
		"dead voter is replaced":          {viewOf(3, aServer{"a", "v", 9}, aServer{"b", "v", 9}, aServer{"c", "vd", 9}, aServer{"d", "n", 9}), "voter d"},
		"and loses its vote":              {viewOf(3, aServer{"a", "v", 9}, aServer{"b", "v", 9}, aServer{"c", "vd", 9}, aServer{"d", "v", 9}), "demote c"},
		"not below a quorum":              {viewOf(3, aServer{"a", "v", 9}, aServer{"b", "vd", 9}, aServer{"c", "vd", 9}, aServer{"d", "vd", 9}), ""},
		"one voter too many":              {viewOf(3, aServer{"a", "v", 9}, aServer{"b", "v", 9}, aServer{"c", "v", 9}, aServer{"d", "v", 9}), "demote d"},
		"a voter that shall not vote":     {viewOf(3, aServer{"a", "v", 9}, aServer{"b", "vx", 9}, aServer{"c", "v", 9}), "demote b"},
		"a leader that shall not vote":    {viewOf(3, aServer{"a", "vx", 9}, aServer{"b", "v", 9}, aServer{"c", "v", 9}), "handOver a"},
		"the only voter keeps its vote":   {viewOf(3, aServer{"a", "vx", 9}), ""},
		"moved voter":                     {viewOf(3, aServer{"a", "v", 9}, aServer{"b", "vm", 9}, aServer{"c", "v", 9}), "voter b"},
		"moved nonvoter":                  {viewOf(1, aServer{"a", "v", 9}, aServer{"b", "nm", 9}), "nonvoter b"},
		"silent at an address it has not": {viewOf(3, aServer{"a", "v", 9}, aServer{"b", "vmd", 9}, aServer{"c", "v", 9}), ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := c.view.plan()
			text := [...]string{none: "", addNonvoter: "nonvoter ", addVoter: "voter ", demote: "demote ", remove: "remove ", handOver: "handOver "}[got.kind]
			if got.kind != none {
				text += nameOf(got.id)
			}
			if text != c.want {
				t.Errorf("got %q (%s), want %q", text, got.why, c.want)
			}
		})
	}
}

func TestView_Settle(t *testing.T) {
	v := viewOf(3, aServer{"a", "v", 9}, aServer{"b", "v", 9})
	answers, silent := func(string) bool { return true }, func(string) bool { return false }
	for name, c := range map[string]struct {
		id     string
		status peerStatus
		alive  func(string) bool
		kind   changeKind
	}{
		"new":                       {"c/1", peerStatus{}, answers, addNonvoter},
		"rebuilt":                   {"b/2", peerStatus{}, silent, remove},
		"namesake of a live one":    {"b/2", peerStatus{}, answers, none},
		"of another cluster":        {"c/1", peerStatus{Formed: true}, answers, none},
		"the same, and a namesake":  {"b/2", peerStatus{Formed: true}, silent, none},
		"only the end of a name":    {"xb/1", peerStatus{}, silent, addNonvoter},
		"only the beginning of one": {"bb/1", peerStatus{}, silent, addNonvoter},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := v.settle(gossipMember{id: c.id, meta: meta{Address: "x"}}, c.status, c.alive)
			if got.kind != c.kind || (err != nil) != (c.kind == none) || err != nil && !errors.Is(err, ErrRefused) {
				t.Errorf("got %v %v, want kind %v", got, err, c.kind)
			}
		})
	}
}

// TestCensus_Stuck ensures that a follower counts as stuck when it answers and its log wants entries for long, and
// not while it is sent a snapshot, wants nothing or cannot write.
func TestCensus_Stuck(t *testing.T) {
	past := time.Now().Add(-time.Hour)
	for name, c := range map[string]struct {
		before, after peerStatus
		stuck         bool
	}{
		"gets nothing":         {peerStatus{LastLogIndex: 5}, peerStatus{LastLogIndex: 5}, true},
		"grows":                {peerStatus{LastLogIndex: 5}, peerStatus{LastLogIndex: 6}, false},
		"wants nothing":        {peerStatus{LastLogIndex: 9}, peerStatus{LastLogIndex: 9}, false},
		"is sent a snapshot":   {peerStatus{LastLogIndex: 5, Received: 1}, peerStatus{LastLogIndex: 5, Received: 2}, false},
		"its disk is the case": {peerStatus{LastLogIndex: 5}, peerStatus{LastLogIndex: 5, Disk: "full"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			census := census{vitals: map[string]*vital{"b/1": {status: c.before, heard: past, moved: past, answer: true}}}
			census.note("b/1", c.after, true, 9)
			got, _ := census.of("b/1")
			if stuck := time.Since(got.moved) > replicationPatience; stuck != c.stuck {
				t.Errorf("stuck: %v, want %v", stuck, c.stuck)
			}
		})
	}
}

// guarded returns a node of which only the guards work.
func guarded(t *testing.T) *Node {
	ctx, cancel := context.WithCancelCause(t.Context())
	return &Node{ctx: ctx, cancel: cancel, logger: slog.New(slog.DiscardHandler), raft: &raft.Raft{}}
}

// TestGuard_Transfer ensures that a hand-over which refuses writes for too long ends the node with ErrRestart,
// and that one after which a write was taken does not.
func TestGuard_Transfer(t *testing.T) {
	n := guarded(t)
	refused := fmt.Errorf("apply: %w", raft.ErrLeadershipTransferInProgress)
	n.noteTransfer(refused)
	n.transferring.since = time.Now().Add(-2 * transferPatience)
	n.noteTransfer(nil)
	n.noteTransfer(refused)
	n.noteTransfer(refused)
	if n.ctx.Err() != nil {
		t.Fatalf("ended by two hand-overs with a write between them: %v", context.Cause(n.ctx))
	}
	n.transferring.since = time.Now().Add(-2 * transferPatience)
	n.noteTransfer(refused)
	if err := context.Cause(n.ctx); !errors.Is(err, ErrRestart) || n.events.counts[EventTransferStuck] != 1 {
		t.Errorf("ended by: %v, counted %v", err, n.events.counts)
	}
}

// TestGuard_SnapshotLoop ensures that a node to which one snapshot after the other is sent ends with ErrRestart.
func TestGuard_SnapshotLoop(t *testing.T) {
	n := guarded(t)
	for i := range snapshotLoop + 2 {
		n.restores.at = append(n.restores.at, time.Now().Add(-time.Hour+time.Duration(i)*snapshotLoopTime))
	}
	for range snapshotLoop - 1 {
		n.restored(1)
	}
	if n.ctx.Err() != nil {
		t.Fatalf("ended by some snapshots: %v", context.Cause(n.ctx))
	}
	n.restored(1)
	if err := context.Cause(n.ctx); !errors.Is(err, ErrRestart) || n.events.counts[EventSnapshotLoop] != 1 {
		t.Errorf("ended by: %v, counted %v", err, n.events.counts)
	}
}

// TestCensus_FreshBetweenRounds ensures that a server of a large cluster, where each is asked seldom, counts as there until it
// has missed some rounds.
func TestCensus_FreshBetweenRounds(t *testing.T) {
	servers := map[string]string{}
	for i := range 500 {
		servers[fmt.Sprint(i)] = "address"
	}
	var c census
	every := c.meet(servers)
	c.note("7", peerStatus{}, true, 0)
	v, _ := c.of("7")
	if v.heard = time.Now().Add(-every); !v.fresh() {
		t.Errorf("forgotten %v after its answer", every)
	}
	if v.heard = time.Now().Add(-3 * every); v.fresh() {
		t.Error("remembered for ever")
	}
}

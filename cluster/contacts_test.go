package cluster

import (
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// TestContacts_Confirm ensures that only what voters have answered to messages sent after the question confirms the lead,
// and only in the term of the question.
func TestContacts_Confirm(t *testing.T) {
	servers := []raft.Server{{ID: "lead"}, {ID: "v1"}, {ID: "v2"}, {ID: "r1", Suffrage: raft.Nonvoter}, {ID: "r2", Suffrage: raft.Nonvoter}}
	c := contacts{heard: make(chan struct{}), votes: func(raft.ServerID) bool { return true }}
	const term = 7
	answered := func(id raft.ServerID, term, question uint64) {
		c.answered(id, c.follower(id, term), new(raft.AppendEntriesRequest), question, time.Now())
	}
	before := c.asked.Load()
	question := c.ask()
	defer c.settle()
	confirmed := func() bool { return c.confirm(question, term, "lead", servers) }

	answered("v1", term, before)
	if confirmed() {
		t.Fatal("by an answer to a message that was sent before the question")
	}
	answered("r1", term, question)
	answered("r2", term, question)
	if confirmed() {
		t.Fatal("by nonvoters")
	}
	heard := c.next()
	answered("v1", term, question)
	select {
	case <-heard:
	default:
		t.Error("who waits is not told of an answer")
	}
	if !confirmed() {
		t.Fatal("not by a majority of the voters")
	}
	if c.confirm(question, term, "elsewhere", servers) {
		t.Error("by a leader that is no voter")
	}
	answered("v1", term, before) // it was slower
	if !confirmed() {
		t.Error("an older answer undoes a newer one")
	}
	answered("v2", term+1, question)
	if confirmed() {
		t.Error("in a term that has ended")
	}
	answered("v1", term, question)
	if c.confirm(question, term+1, "elsewhere", servers) {
		t.Error("by an answer of an older term")
	}
	if alone := servers[:1]; !c.confirm(c.ask(), term+1, "lead", alone) {
		t.Error("not by the only voter")
	}
}

// TestContacts_Known ensures that a message is sent unless it surely tells the follower nothing and the follower has answered
// lately: entries, a new commit index, the first message after a failure or of a term, and each to a voter while somebody asks
// whether this node leads.
func TestContacts_Known(t *testing.T) {
	const beat = 500 * time.Millisecond
	heartbeat := &raft.AppendEntriesRequest{}
	entry := &raft.AppendEntriesRequest{PrevLogEntry: 4, PrevLogTerm: 2, LeaderCommitIndex: 4, Entries: []*raft.Log{{Index: 5, Term: 3}}}
	after := func(index, term, commit uint64) *raft.AppendEntriesRequest {
		return &raft.AppendEntriesRequest{PrevLogEntry: index, PrevLogTerm: term, LeaderCommitIndex: commit}
	}
	same := after(5, 3, 4)
	at := func(ms time.Duration) time.Duration { return ms * time.Millisecond }
	for _, test := range []struct {
		name    string
		voter   bool
		taken   []*raft.AppendEntriesRequest // one each 100 ms
		then    func(*contacts, *contact)
		message *raft.AppendEntriesRequest
		later   time.Duration // than the last that was taken
		known   bool
	}{
		{"nothing was answered yet", false, nil, nil, heartbeat, 0, false},
		{"heartbeat after a heartbeat", false, []*raft.AppendEntriesRequest{heartbeat}, nil, heartbeat, at(199), true},
		{"heartbeat after a notice", false, []*raft.AppendEntriesRequest{same}, nil, heartbeat, at(199), true},
		{"heartbeat after too long", false, []*raft.AppendEntriesRequest{same}, nil, heartbeat, at(200), false},
		{"notice again", false, []*raft.AppendEntriesRequest{same}, nil, same, at(124), true},
		{"notice of what entries told", false, []*raft.AppendEntriesRequest{entry}, nil, same, at(124), true},
		{"notice after too long", false, []*raft.AppendEntriesRequest{same}, nil, same, at(125), false},
		{"notice after heartbeats", false, []*raft.AppendEntriesRequest{same, heartbeat}, nil, same, at(25), false},
		{"notice after mere heartbeats", false, []*raft.AppendEntriesRequest{heartbeat}, nil, same, 0, false},
		{"entries", false, []*raft.AppendEntriesRequest{same}, nil, entry, 0, false},
		{"new commit index", false, []*raft.AppendEntriesRequest{same}, nil, after(5, 3, 5), 0, false},
		{"other last entry", false, []*raft.AppendEntriesRequest{same}, nil, after(6, 3, 4), 0, false},
		{"other term of it", false, []*raft.AppendEntriesRequest{same}, nil, after(5, 2, 4), 0, false},
		{"heartbeat after a failure", false, []*raft.AppendEntriesRequest{same}, func(_ *contacts, f *contact) { f.failed() }, heartbeat, 0, false},
		{"notice after a failure and a heartbeat", false, []*raft.AppendEntriesRequest{same}, func(c *contacts, f *contact) {
			f.failed()
			c.answered("f", f, heartbeat, 0, f.looked.Add(at(1)))
		}, same, at(2), false},
		{"to a voter", true, []*raft.AppendEntriesRequest{same}, nil, heartbeat, at(49), true},
		{"to a voter after too long", true, []*raft.AppendEntriesRequest{same}, nil, heartbeat, at(50), false},
		{"to a voter when asked", true, []*raft.AppendEntriesRequest{same}, func(c *contacts, _ *contact) { c.ask() }, heartbeat, 0, false},
		{"to a nonvoter when asked", false, []*raft.AppendEntriesRequest{same}, func(c *contacts, _ *contact) { c.ask() }, heartbeat, 0, true},
		{"impatient tables", false, []*raft.AppendEntriesRequest{same}, func(c *contacts, _ *contact) { c.setBeat(beat, beat/5) }, heartbeat, at(40), false},
		{"patient followers", false, []*raft.AppendEntriesRequest{same}, func(c *contacts, _ *contact) { c.setBeat(time.Hour, time.Hour) }, heartbeat, at(200), false},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := contacts{heard: make(chan struct{}), votes: func(raft.ServerID) bool { return test.voter }}
			c.setBeat(beat, 0)
			f := c.follower("f", 3)
			now := time.Now()
			for i, m := range test.taken {
				if i > 0 {
					now = now.Add(at(100))
				}
				c.answered("f", f, m, 0, now)
			}
			if test.then != nil {
				test.then(&c, f)
			}
			if known := c.known(f, test.message, now.Add(test.later)); known != test.known {
				t.Errorf("known: %v", known)
			}
			if now = now.Add(test.later); c.known(c.follower("f", 4), test.message, now) {
				t.Error("known at the begin of the next term")
			}
		})
	}
}

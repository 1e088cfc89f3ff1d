package cluster

import (
	"testing"

	"github.com/hashicorp/raft"
)

// TestContacts_Confirm ensures that only what voters have answered to messages sent after the question confirms the lead,
// and only in the term of the question.
func TestContacts_Confirm(t *testing.T) {
	servers := []raft.Server{{ID: "lead"}, {ID: "v1"}, {ID: "v2"}, {ID: "r1", Suffrage: raft.Nonvoter}, {ID: "r2", Suffrage: raft.Nonvoter}}
	c := contacts{heard: make(chan struct{})}
	const term = 7
	before := c.asked.Load()
	question := c.ask()
	defer c.settle()
	confirmed := func() bool { return c.confirm(question, term, "lead", servers) }

	c.answered("v1", term, before)
	if confirmed() {
		t.Fatal("by an answer to a message that was sent before the question")
	}
	c.answered("r1", term, question)
	c.answered("r2", term, question)
	if confirmed() {
		t.Fatal("by nonvoters")
	}
	heard := c.next()
	c.answered("v1", term, question)
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
	c.answered("v1", term, before) // it was slower
	if !confirmed() {
		t.Error("an older answer undoes a newer one")
	}
	c.answered("v2", term+1, question)
	if confirmed() {
		t.Error("in a term that has ended")
	}
	c.answered("v1", term, question)
	if c.confirm(question, term+1, "elsewhere", servers) {
		t.Error("by an answer of an older term")
	}
	if alone := servers[:1]; !c.confirm(c.ask(), term+1, "lead", alone) {
		t.Error("not by the only voter")
	}
}

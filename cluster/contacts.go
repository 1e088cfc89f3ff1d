package cluster

import (
	"sync"
	"sync/atomic"

	"github.com/hashicorp/raft"
)

// contacts are what a leader knows, in its newest term, of what its followers have answered. They tell whether it led when
// it was asked: questions are counted, and a follower that has answered a message sent after a question followed this leader
// after the question.
type contacts struct {
	asked   atomic.Uint64 // questions so far
	waiting atomic.Int32  // of them that are not settled

	mu    sync.RWMutex
	term  uint64
	of    map[raft.ServerID]*contact
	heard chan struct{} // closed when a follower answers while questions wait
}

// A contact is one follower's.
type contact struct {
	mu       sync.Mutex
	question uint64 // the newest before the newest message that was answered
}

// ask begins a question; settle ends it.
func (c *contacts) ask() (question uint64) {
	c.waiting.Add(1)
	return c.asked.Add(1)
}

func (c *contacts) settle() { c.waiting.Add(-1) }

// next returns a channel that is closed when a follower answers, while a question waits.
func (c *contacts) next() <-chan struct{} {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.heard
}

// confirm reports whether a majority of the voters among servers has followed the leader self in term after a question.
func (c *contacts) confirm(question, term uint64, self string, servers []raft.Server) bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	voters, follow := 0, 0
	for _, s := range servers {
		if s.Suffrage != raft.Voter {
			continue
		}
		voters++
		if string(s.ID) == self || c.term == term && c.of[s.ID].follows(question) {
			follow++
		}
	}
	return follow > voters/2
}

func (c *contact) follows(question uint64) bool {
	if c == nil {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.question >= question
}

// follower returns the contact to a follower in a term.
func (c *contacts) follower(id raft.ServerID, term uint64) *contact {
	c.mu.RLock()
	f := c.of[id]
	if term != c.term {
		f = nil
	}
	c.mu.RUnlock()
	if f != nil {
		return f
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case term < c.term: // of a leadership that has ended
		return new(contact)
	case term > c.term:
		c.term, c.of = term, map[raft.ServerID]*contact{}
	}
	if c.of[id] == nil {
		c.of[id] = new(contact)
	}
	return c.of[id]
}

// answered notes that a follower has taken a message of this term. question was the newest before the message was sent.
func (c *contacts) answered(id raft.ServerID, term, question uint64) {
	f := c.follower(id, term)
	f.mu.Lock()
	f.question = max(f.question, question)
	f.mu.Unlock()
	if c.waiting.Load() > 0 {
		c.mu.Lock()
		close(c.heard)
		c.heard = make(chan struct{})
		c.mu.Unlock()
	}
}

package cluster

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// How long a follower may go without being told what it knows, in percent of the contacts' beat. Raft would tell it 26 times
// a second.
//
// The other voters are few, and elections hang on them: they hear of their leader as often as by raft's heartbeats alone.
// Raft counts a leader's lease from the last answer to it, and takes those made here for such, so a leader that is cut off
// holds its lease for 5/6 and 1/10 of the heartbeat timeout, which still ends before the voters' patience.
//
// A nonvoter that hears of no leader for the heartbeat timeout does no worse than to say so. With what raft lets pass between
// two messages of a kind, up to 100 ms or a fifth of the heartbeat timeout, it hears of one within 3/5 of it, mostly within
// 2/5. Either kind has a connection of its own, and is sent when the other is delayed.
//
// A follower that was started again knows no commit index, and mere heartbeats do not tell it: notices have their own share.
const (
	voterShare    = 10
	nonvoterShare = 40
	noticeShare   = 25
)

// longestBeat bounds the beat of a leader with a long heartbeat timeout: that of a follower may be shorter, while an operator
// changes it on one node after the other.
const longestBeat = 500 * time.Millisecond

// A nonvoter is sent no more often than each gatherTime what is written, unless it waits for that or lacks so much that there is
// no need to gather: its copy commits nothing, and what a message costs, here and on its disk, hangs little on how many entries
// are in it. Three of them are as long as raft takes to tell a follower that one entry is committed.
const (
	gatherTime  = 30 * time.Millisecond
	gatherBytes = 64 << 10
	raftBatch   = 64 // entries in a message at most
)

// contacts are what a leader knows, in its newest term, of what its followers have answered. They tell two things.
//
// Whether it led when it was asked: questions are counted, and a follower that has answered a message sent after a question
// followed this leader after the question.
//
// And what a follower surely knows: a message that tells it nothing new need not be sent while its last answer is new.
type contacts struct {
	votes func(raft.ServerID) bool // whether a server is a voter
	beat  atomic.Int64             // a Duration: the patience of the followers; zero spares them nothing

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
	question uint64    // the newest before the newest message that was answered
	heard    time.Time // when that message was sent; zero after one that was not answered well
	notice   notice    // the newest that was answered
	noticed  time.Time // when it was sent; zero as above
	voter    bool
	looked   time.Time // whether it is a voter
	wrote    time.Time // when the newest entries that it has taken were sent
	wanted   uint64    // index of an entry that it waits for
	hurry    chan struct{}
}

func newContact() *contact { return &contact{hurry: make(chan struct{}, 1)} }

// A notice is what a message tells of the leader's log. That of a mere heartbeat is zero.
type notice struct{ last, lastTerm, commit uint64 }

// noticeOf returns what a follower knows that has taken a message.
func noticeOf(m *raft.AppendEntriesRequest) notice {
	if n := len(m.Entries); n > 0 {
		return notice{m.Entries[n-1].Index, m.Entries[n-1].Term, m.LeaderCommitIndex}
	}
	return notice{m.PrevLogEntry, m.PrevLogTerm, m.LeaderCommitIndex}
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
		return newContact()
	case term > c.term:
		c.term, c.of = term, map[raft.ServerID]*contact{}
	}
	if c.of[id] == nil {
		c.of[id] = newContact()
	}
	return c.of[id]
}

// known reports whether a follower surely knows what a message tells, and has answered lately. Voters have to answer while
// a question waits.
func (c *contacts) known(f *contact, m *raft.AppendEntriesRequest, now time.Time) bool {
	if len(m.Entries) > 0 {
		return false
	}
	n := noticeOf(m)
	f.mu.Lock()
	defer f.mu.Unlock()
	share := time.Duration(nonvoterShare)
	if f.voter {
		share = voterShare
		if c.waiting.Load() > 0 {
			return false
		}
	}
	if now.Sub(f.heard) >= c.share(share) {
		return false
	}
	return n == notice{} || n == f.notice && now.Sub(f.noticed) < c.share(noticeShare)
}

func (c *contacts) share(percent time.Duration) time.Duration {
	return time.Duration(c.beat.Load()) * percent / 100
}

// setBeat takes the heartbeat timeout, and the shortest max-staleness that is known, 0 if there is none.
func (c *contacts) setBeat(timeout, staleness time.Duration) {
	beat := min(timeout, longestBeat)
	if staleness > 0 {
		beat = min(beat, staleness)
	}
	c.beat.Store(int64(beat))
}

// answered notes that a follower has taken a message, which was sent when question was the newest.
func (c *contacts) answered(id raft.ServerID, f *contact, m *raft.AppendEntriesRequest, question uint64, sent time.Time) {
	n := noticeOf(m)
	f.mu.Lock()
	f.question = max(f.question, question)
	if sent.After(f.heard) {
		f.heard = sent
	}
	if len(m.Entries) > 0 {
		f.wrote = sent
	}
	if n != (notice{}) {
		f.notice, f.noticed = n, sent
	}
	if sent.Sub(f.looked) > c.share(noticeShare) {
		f.voter, f.looked = c.votes(id), sent
	}
	f.mu.Unlock()
	if c.waiting.Load() > 0 {
		c.mu.Lock()
		close(c.heard)
		c.heard = make(chan struct{})
		c.mu.Unlock()
	}
}

// gather returns how long a message is to wait, so that more entries go with the next one, unless hurry speaks before.
func (f *contact) gather(m *raft.AppendEntriesRequest, now time.Time) (wait time.Duration) {
	if len(m.Entries) == 0 {
		return 0
	}
	bytes := 0
	for _, e := range m.Entries {
		bytes += len(e.Data)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.voter || f.looked.IsZero() || bytes > gatherBytes || len(m.Entries) >= raftBatch || m.Entries[0].Index <= f.wanted {
		return 0
	}
	return max(gatherTime-now.Sub(f.wrote), 0)
}

// wants notes that a follower, if id is one, waits for an entry.
func (c *contacts) wants(id string, index uint64) {
	c.mu.RLock()
	f := c.of[raft.ServerID(id)]
	c.mu.RUnlock()
	if f == nil {
		return
	}
	f.mu.Lock()
	f.wanted = max(f.wanted, index)
	f.mu.Unlock()
	select {
	case f.hurry <- struct{}{}:
	default:
	}
}

// failed notes that a follower has not taken a message, or not answered: it may have been started again.
func (f *contact) failed() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.heard, f.noticed = time.Time{}, time.Time{}
}

package cluster

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"
)

const (
	censusEvery = time.Second // with up to 50 servers; the more there are, the rarer
	censusAsks  = 32          // servers asked at once
)

// A census is what a leader knows of how the other servers do: it asks each of them, again and again.
type census struct {
	mu     sync.Mutex
	vitals map[string]*vital // by id; nil while this node does not lead
	every  time.Duration     // how often each is asked
}

// A vital is how one server does.
type vital struct {
	status peerStatus
	heard  time.Time     // of its last answer; of the leader's first day, if it never answered
	fit    time.Time     // since when it has always answered, caught up and been able to write; zero when it is not
	moved  time.Time     // when its log was last seen to grow, a snapshot to arrive, or nothing to be wanting
	answer bool          // it has answered at all
	next   time.Duration // when it is asked again, after it was heard

	unstuck int // how often its connections were closed since its log moved
}

// fresh reports whether a server has answered one of the last times.
func (v vital) fresh() bool {
	return v.answer && time.Since(v.heard) < 3*max(v.next, censusEvery)
}

// of returns how a server does, as far as this node has asked.
func (c *census) of(id string) (vital, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	v, ok := c.vitals[id]
	if !ok {
		return vital{}, false
	}
	return *v, true
}

func (c *census) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.vitals = nil
}

// takeCensus asks the servers until ctx ends with this leadership.
func (n *Node) takeCensus(ctx context.Context) {
	defer n.census.clear()
	for ctx.Err() == nil {
		servers := n.serverAddresses()
		every := n.census.meet(servers)
		levels, voters := n.serverLevels(), n.voters()
		n.census.ask(ctx, servers, func(ctx context.Context, id, address string) (peerStatus, error) {
			var q statusQuestion
			if slices.Contains(voters, id) {
				q.Levels = levels
			}
			return n.askStatus(ctx, id, address, q)
		}, n.raft.CommitIndex())
		n.learnLevels(n.serverLevels())
		n.unstick(ctx, servers)
		select {
		case <-time.After(every):
		case <-ctx.Done():
		}
	}
}

// serverAddresses returns where the servers of the newest configuration are, as gossip or else the
// configuration has it.
func (n *Node) serverAddresses() map[string]string {
	addresses := map[string]string{}
	alive := n.alive()
	for _, s := range n.raft.GetConfiguration().Configuration().Servers {
		addresses[string(s.ID)] = string(s.Address)
		if m, ok := alive[string(s.ID)]; ok {
			addresses[string(s.ID)] = m.meta.Address
		}
	}
	return addresses
}

// meet begins to count the days of servers that are new, and forgets those that are none any more. It returns how often
// they are to be asked.
func (c *census) meet(servers map[string]string) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.every = censusEvery * time.Duration(1+len(servers)/50)
	if c.vitals == nil {
		c.vitals = map[string]*vital{}
	}
	maps.DeleteFunc(c.vitals, func(id string, _ *vital) bool { _, ok := servers[id]; return !ok })
	for id := range servers {
		if c.vitals[id] == nil {
			c.vitals[id] = &vital{heard: time.Now(), moved: time.Now()}
		}
	}
	return c.every
}

func (c *census) ask(ctx context.Context, servers map[string]string, statusOf func(context.Context, string, string) (peerStatus, error), commit uint64) {
	var asking sync.WaitGroup
	slots := make(chan struct{}, censusAsks)
	for id, address := range servers {
		slots <- struct{}{}
		asking.Go(func() {
			defer func() { <-slots }()
			status, err := statusOf(ctx, id, address)
			c.note(id, status, err == nil, commit)
		})
	}
	asking.Wait()
}

// note keeps what a server has answered. commit is what was committed before it was asked.
func (c *census) note(id string, status peerStatus, answered bool, commit uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	v, ok := c.vitals[id]
	if !ok {
		return
	}
	now := time.Now()
	if !answered || status.AppliedIndex+caughtUp < commit || status.Disk != "" {
		v.fit = time.Time{}
	} else if v.fit.IsZero() {
		v.fit = now
	}
	if !answered {
		return
	}
	if status.LastLogIndex > v.status.LastLogIndex || status.LastLogIndex >= commit || status.Received != v.status.Received || status.Disk != "" {
		v.moved, v.unstuck = now, 0
	}
	v.status, v.heard, v.answer, v.next = status, now, true, c.every
}

package cluster

import (
	"context"
	"maps"
	"time"

	"postraft/dict"
	"postraft/fsm"
)

const (
	// expireEvery is how often a leader looks whether time has to be told to a table, or something is due.
	expireEvery = 500 * time.Millisecond

	// A table that is not empty is told the time each 64th part of its expire-after, and at least so often. No change of
	// leaders loses more than one such part.
	tellTimeEvery = 10 * time.Minute
)

// tick is how often a table with this expire-after is told the time.
func tick(expireAfter time.Duration) time.Duration {
	return min(max(expireAfter/64, expireEvery), tellTimeEvery)
}

// A clockSeen is where a table's clock stood when this leader looked.
type clockSeen struct {
	at    time.Duration
	since time.Time
}

// expire tells the tables of which entries expire how much time has passed, and goes on with what is due, until ctx ends
// with this leadership.
//
// No clock of the wall is asked, on no node: one that is set forward, or was wrong and is put right, would empty a cache,
// and one that is set back would keep all. Time is what passes on the leader's monotonic clock from when it sees a table's
// clock stand somewhere to when it moves it on; a new leader begins with where the log has left it. So the clock of a table
// never runs faster than time does. It stands while there is no leader, while all are down, and for what an old leader had
// not told yet: entries live longer by that. The command names where the clock was seen to stand and does nothing if it
// stands elsewhere, so that none counts twice, whatever is delayed or repeated.
//
// There is nothing to do for tables that are empty or whose entries do not expire.
func (n *Node) expire(ctx context.Context) {
	seen := map[string]clockSeen{}
	ticker := time.NewTicker(expireEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		s := n.fsm.State()
		maps.DeleteFunc(seen, func(name string, _ clockSeen) bool { _, ok := s.Table(name); return !ok })
		for name, t := range s.Each() {
			if t.Settings.Bounded() {
				n.expireTable(ctx, name, t, seen)
			}
		}
	}
}

// expireTable does what is to be done now for one table.
func (n *Node) expireTable(ctx context.Context, name string, t *fsm.Table, seen map[string]clockSeen) {
	now := time.Now()
	was, ok := seen[name]
	if !ok || was.at != t.Clock() {
		was = clockSeen{t.Clock(), now}
		seen[name] = was
	}
	passed := now.Sub(was.since)
	tell := t.Settings.ExpireAfter > 0 && t.Len() > 0 && passed >= tick(t.Settings.ExpireAfter)
	if !tell {
		passed = 0
	}
	for more := tell || t.Overdue(); more && ctx.Err() == nil; {
		command := &fsm.Expire{Table: name, From: was.at, To: was.at + passed}
		doing, cancel := context.WithTimeout(ctx, writeTimeout)
		r, err := n.apply(doing, &fsm.Command{Expire: command})
		cancel()
		if err != nil || r.Status != fsm.Applied { // what is wrong passes, or the table has gone or was set anew: look again
			n.logger.Debug("time not told to a table", "table", name, "status", r.Status, "err", err)
			return
		}
		// What was written before the command was carried out is taken to be as old as that, so time counts from now on.
		was, passed = clockSeen{command.To, time.Now()}, 0
		if tell {
			seen[name] = was
		}
		t, ok = n.fsm.State().Table(name)
		more = ok && t.Overdue() && t.Clock() == was.at
	}
}

// SetTable changes settings of a table. Settings that such a table cannot have are an ErrBadSource.
func (n *Node) SetTable(ctx context.Context, name string, change dict.SettingsChange) error {
	if t, ok := n.fsm.State().Table(name); ok {
		if err := t.Settings.With(change).Check(t.Type); err != nil {
			return err
		}
	}
	r, err := n.apply(ctx, &fsm.Command{Set: &fsm.Set{Table: name, Change: change}})
	if err != nil {
		return err
	}
	return n.statusError(name, r)
}

package proxy

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// The requests that are counted by table are lookup, update, delete and sequence, and their answers are these.
const (
	counted = 4
	results = 4

	resultOK     = int(statusOK)
	resultNoKey  = int(statusNoKey)
	resultRetry  = int(statusRetry)
	resultConfig = 3
)

// A tally is what one connection counts. Only who has the connection writes, so that the words that it writes to are in
// the cache of nobody else; whoever sums up only reads.
type tally struct {
	of      *counting
	service string

	mu     sync.Mutex // guards tables: its length, not what is counted
	tables []*tableTally

	malformed, passed, notPassed atomic.Uint64
	lookup, write                latency
}

// A tableTally counts the requests for one table.
type tableTally struct {
	table   string // empty: it is not named
	results [counted][results]atomic.Uint64
	denied  atomic.Uint64
}

// table returns the tableTally of a table.
func (t *tally) table(name string) *tableTally {
	at := slices.IndexFunc(t.tables, func(tt *tableTally) bool { return tt.table == name })
	if at >= 0 {
		return t.tables[at]
	}
	if !t.of.named(t.service, name) && name != "" {
		return t.table("")
	}
	tt := &tableTally{table: name}
	t.mu.Lock()
	t.tables = append(t.tables, tt)
	t.mu.Unlock()
	return tt
}

func (t *tableTally) count(op operation, s status) {
	result := int(s)
	if s == statusConfig {
		result = resultConfig
	}
	t.results[op-opLookup][result].Add(1)
}

func (t *tally) addTo(s *serviceTotals) {
	s.malformed += t.malformed.Load()
	s.passed += t.passed.Load()
	s.notPassed += t.notPassed.Load()
	t.mu.Lock()
	tables := t.tables
	t.mu.Unlock()
	for _, tt := range tables {
		sum := s.tables[tt.table]
		if sum == nil {
			sum = &tableTotals{}
			s.tables[tt.table] = sum
		}
		sum.denied += tt.denied.Load()
		for op := range tt.results {
			for result := range tt.results[op] {
				sum.results[op][result] += tt.results[op][result].Load()
			}
		}
	}
}

// A latency counts one kind of request by the time that it took.
type latency struct {
	counts [len(LatencyBounds) + 1]atomic.Uint64
	sum    atomic.Int64
}

// observe counts n requests that took d each.
func (l *latency) observe(d time.Duration, n int) {
	if n == 0 {
		return
	}
	bucket := 0
	for bucket < len(LatencyBounds) && d > LatencyBounds[bucket] {
		bucket++
	}
	l.counts[bucket].Add(uint64(n))
	l.sum.Add(int64(n) * int64(d))
}

func (l *latency) addTo(sum *Latency) {
	for i := range l.counts {
		sum.Counts[i] += l.counts[i].Load()
	}
	sum.Sum += time.Duration(l.sum.Load())
}

// count notes how a request for a raft table was answered. A table that has answered exists, so it may be counted
// by its name from now on, whoever chose that.
func (c *conn) count(h *handle, s status) {
	if !h.named && s != statusRetry {
		h.tally, h.named = c.tally.table(h.raft), true
	}
	op := c.req.op
	h.tally.count(op, s)
	if op == opLookup {
		c.lookups++
	} else if op != opSequence {
		c.writes++
	}
}

// tallyFor chooses where requests for a table are counted: by its name if the operator has named it or it exists.
func (c *conn) tallyFor(h *handle) {
	switch {
	case h.raft == "":
	case c.approved.names(h.name):
		h.named = true
	default:
		_, _, err := c.s.cfg.Tables.Table(h.raft).Lookup(nil)
		h.named = err == nil
	}
	name := ""
	if h.named {
		name = h.raft
	}
	h.tally = c.tally.table(name)
}

// A look at the clock is a hundredth of a lookup, so only one read in so many is timed, the first of each connection
// among them. Writes, which take a thousand times as long, are all timed.
const timedReads = 16

// timeRead is called when something was received.
func (c *conn) timeRead() {
	c.arrived = time.Time{}
	if c.reads%timedReads == 0 {
		c.arrived = time.Now()
	}
	c.reads++
}

// timeWrite is called before a write.
func (c *conn) timeWrite() {
	if c.arrived.IsZero() {
		c.arrived = time.Now()
	}
}

// observe notes when replies are about to be sent.
func (c *conn) observe(now time.Time) {
	if c.lookups+c.writes > 0 && !c.arrived.IsZero() {
		took := now.Sub(c.arrived)
		c.tally.lookup.observe(took, c.lookups)
		c.tally.write.observe(took, c.writes)
	}
	c.lookups, c.writes = 0, 0
}

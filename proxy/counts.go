package proxy

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"time"
)

// Counts are what the connections of a server did since it began, for those who watch it.
type Counts struct {
	Services []ServiceCounts // by name
	Lookup   Latency         // of some lookups, see timedReads
	Write    Latency         // of updates and deletes
}

// ServiceCounts are about all services of one name.
type ServiceCounts struct {
	Service     string
	Open        int           // connections now
	Connections uint64        // in all
	Malformed   uint64        // what was no request, or not one that can be answered
	Passed      uint64        // requests for local tables that the stock service has answered
	NotPassed   uint64        // those that it has not
	Tables      []TableCounts // by name
}

// TableCounts are about one raft table. Table is empty for tables that are not named: those that clients ask for
// and that neither exist nor are approved by their names, and local tables as far as requests for them were denied or
// answered here.
type TableCounts struct {
	Table                                string
	Lookups, Updates, Deletes, Sequences Results
	Denied                               uint64
}

// Results count requests by their answer.
type Results struct{ OK, NoKey, Retry, Config uint64 }

// LatencyBounds are the upper bounds of the buckets of a Latency.
var LatencyBounds = [...]time.Duration{
	5 * time.Microsecond, 10 * time.Microsecond, 50 * time.Microsecond, 100 * time.Microsecond, 250 * time.Microsecond,
	time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond, 10 * time.Millisecond, 25 * time.Millisecond,
	100 * time.Millisecond, 500 * time.Millisecond, 2500 * time.Millisecond, 5 * time.Second,
}

// Latency counts answers by the time from the arrival of the request to its reply. Counts[i] are those that took
// as long as LatencyBounds[i] at most and longer than the bound before it; the last count is of the others.
type Latency struct {
	Counts [len(LatencyBounds) + 1]uint64
	Sum    time.Duration
}

const (
	maxServices    = 64   // that are counted by name
	maxNamedTables = 1024 // for each of them

	otherServices = "other"
)

// counting keeps the counters of a server: those of connections that have ended, and the tallies of those that
// are open.
type counting struct {
	mu       sync.Mutex
	open     map[*tally]struct{}
	services map[string]*serviceTotals
	lookup   Latency
	write    Latency
}

type serviceTotals struct {
	open                                      int
	connections, malformed, passed, notPassed uint64
	tables                                    map[string]*tableTotals
}

type tableTotals struct {
	results [counted][results]uint64
	denied  uint64
}

// begin makes the tally of a connection. fresh says that no other server has had it.
func (c *counting) begin(service string, fresh bool) *tally {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := &tally{of: c, service: service}
	s := c.services[service]
	if s == nil {
		if len(c.services) >= maxServices {
			t.service = otherServices
		}
		s = c.totals(t.service)
	}
	s.open++
	if fresh {
		s.connections++
	}
	if c.open == nil {
		c.open = map[*tally]struct{}{}
	}
	c.open[t] = struct{}{}
	return t
}

func (c *counting) totals(service string) *serviceTotals {
	s := c.services[service]
	if s == nil {
		s = &serviceTotals{tables: map[string]*tableTotals{}}
		if c.services == nil {
			c.services = map[string]*serviceTotals{}
		}
		c.services[service] = s
	}
	return s
}

// end takes over what the tally of a connection says, which has ended.
func (c *counting) end(t *tally) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.open, t)
	s := c.services[t.service]
	s.open--
	t.addTo(s)
	t.lookup.addTo(&c.lookup)
	t.write.addTo(&c.write)
}

// named reports whether a table may be counted by its name: there is a limit, so that no client can make more
// and more of them.
func (c *counting) named(service, table string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.services[service]
	if s.tables[table] == nil {
		if len(s.tables) >= maxNamedTables {
			return false
		}
		s.tables[table] = &tableTotals{}
	}
	return true
}

func (s *serviceTotals) clone() *serviceTotals {
	next := *s
	next.tables = make(map[string]*tableTotals, len(s.tables))
	for name, t := range s.tables {
		copied := *t
		next.tables[name] = &copied
	}
	return &next
}

// counts adds up.
func (c *counting) counts() Counts {
	c.mu.Lock()
	defer c.mu.Unlock()
	sums := make(map[string]*serviceTotals, len(c.services))
	for name, s := range c.services {
		sums[name] = s.clone()
	}
	all := Counts{Lookup: c.lookup, Write: c.write}
	for t := range c.open {
		t.addTo(sums[t.service])
		t.lookup.addTo(&all.Lookup)
		t.write.addTo(&all.Write)
	}
	for _, name := range slices.Sorted(maps.Keys(sums)) {
		s := sums[name]
		counts := ServiceCounts{
			Service: name, Open: s.open, Connections: s.connections, Malformed: s.malformed, Passed: s.passed, NotPassed: s.notPassed,
		}
		for table, t := range s.tables {
			counts.Tables = append(counts.Tables, TableCounts{
				Table: table, Denied: t.denied, Lookups: t.of(opLookup), Updates: t.of(opUpdate), Deletes: t.of(opDelete), Sequences: t.of(opSequence),
			})
		}
		slices.SortFunc(counts.Tables, func(a, b TableCounts) int { return cmp.Compare(a.Table, b.Table) })
		all.Services = append(all.Services, counts)
	}
	return all
}

func (t *tableTotals) of(op operation) Results {
	n := &t.results[op-opLookup]
	return Results{OK: n[resultOK], NoKey: n[resultNoKey], Retry: n[resultRetry], Config: n[resultConfig]}
}

// Counts returns what the server's connections did since it began, those that are open among them. It never
// waits for a connection.
func (s *Server) Counts() Counts { return s.counting.counts() }

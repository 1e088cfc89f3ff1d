package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// A demand is how lookups are asked for while something else goes on.
type demand struct {
	name  string
	conns int
	pace  time.Duration // of each connection; 0 is as fast as replies come
}

var demands = []demand{
	{"8 connections, 4,000 lookups/s", 8, 2 * time.Millisecond},
	{"8 connections, as fast as they go", 8, 0},
}

// A disturbance is what lookups were like before and while something else went on.
type disturbance struct {
	Quiet     time.Duration `json:"quiet_p999_ns"`
	Disturbed time.Duration `json:"disturbed_p999_ns"`
	Late      time.Duration `json:"late_p999_ns"` // the client's own timers meanwhile; 0 where it has none
	Worst     time.Duration `json:"disturbed_max_ns"`
	Took      time.Duration `json:"took_ns"` // the disturbance
	Count     uint64        `json:"lookups"` // while it went on
}

// under makes lookups as a demand says while do runs, which sets the phases.
func (d demand) under(l *lab, a *agent, entries int, do func(*phases) error) (*phases, error) {
	callers, err := open(d.conns, func(int) (caller, error) {
		conn, err := dialProxymap(a.socket("proxymap"))
		if err != nil {
			return nil, err
		}
		return newLookup(conn, table, entries).orReplaced(), nil
	})
	if err != nil {
		return nil, err
	}
	p := new(phases)
	p.set(between)
	ctx, cancel := context.WithCancel(l.ctx)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- p.run(ctx, callers, d.pace) }() // ends with ctx
	wait(ctx, time.Now().Add(warm))
	err = do(p)
	p.set(between)
	cancel()
	return p, errors.Join(err, <-ended)
}

// compare reads the phases.
func (p *phases) compare(took time.Duration) (disturbance, error) {
	before, while := p.of(quiet), p.of(disturbed)
	if before.total == 0 || while.total == 0 {
		return disturbance{}, fmt.Errorf("%d lookups were counted while it was quiet and %d while it was not: too few to tell", before.total, while.total)
	}
	return disturbance{before.quantile(.999), while.quantile(.999), p.late(disturbed).quantile(.999), while.max, took, while.total}, nil
}

// oneLarge starts an agent with a large table, and returns the sources of that and of one with the same keys.
func oneLarge(l *lab, entries int) (a *agent, sources []string, err error) {
	agents, err := l.cluster("a", 1)
	if err != nil {
		return nil, nil, err
	}
	a = agents[0]
	sources = []string{l.path("virtual"), l.path("other")}
	for i, format := range []string{valueFormat, otherFormat} {
		if err := writeSource(sources[i], entries, format); err != nil {
			return nil, nil, err
		}
	}
	if _, err := a.postraft("table", "create", "small"); err != nil {
		return nil, nil, err
	}
	_, err = a.postraft("table", "import", "virtual", sources[0])
	return a, sources, err
}

// whileReplaced measures lookups while an import replaces all values of their table.
func whileReplaced(l *lab, o options) (*section, error) {
	a, sources, err := oneLarge(l, o.entries)
	if err != nil {
		return nil, err
	}
	s := disturbedSection("Lookups while the table is replaced")
	s.say("One agent with %s entries, all of whose values a table import replaces; each import is compared with the %v before it. The importing command reads and sorts its source on this machine's processors too. A lookup that begins late, because the one before took long, counts from when it should have begun. Each reply is checked: it must be the old or the new value.",
		thousands(float64(o.entries)), 2*o.time)
	next := 1
	lists, err := takeTurns(o.rounds, len(demands), func(i int) (disturbance, error) {
		var took time.Duration
		p, err := demands[i].under(l, a, o.entries, func(p *phases) error {
			p.set(quiet)
			wait(l.ctx, time.Now().Add(2*o.time))
			p.set(disturbed)
			begin := time.Now()
			_, err := a.postraft("table", "import", "virtual", sources[next%2])
			took = time.Since(begin)
			return err
		})
		next++
		if err != nil {
			return disturbance{}, err
		}
		// The next quiet time shall not see what this import leaves to tidy up.
		wait(l.ctx, time.Now().Add(3*time.Second))
		return p.compare(took)
	})
	if err != nil {
		return nil, err
	}
	s.addDisturbances("import", lists)
	return s, nil
}

// whileSnapshot measures lookups while raft takes a snapshot of a large table.
func whileSnapshot(l *lab, o options) (*section, error) {
	a, _, err := oneLarge(l, o.entries)
	if err != nil {
		return nil, err
	}
	s := disturbedSection("Lookups during a snapshot of raft")
	s.say("One agent with %s entries. Raft takes a snapshot within a minute after %s small changes; lookups of that time, when nothing else goes on, are compared with those that begin or end while the snapshot is being written, which is seen within 2 ms.",
		thousands(float64(o.entries)), thousands(snapshotDue))
	lists, err := takeTurns(o.rounds, len(demands), func(i int) (disturbance, error) {
		due, err := l.growLog([]*agent{a})
		if err != nil {
			return disturbance{}, err
		}
		var took time.Duration
		p, err := demands[i].under(l, a, o.entries, func(p *phases) (err error) {
			took, err = due.watch(p)
			return err
		})
		if err != nil {
			return disturbance{}, err
		}
		return p.compare(took)
	})
	if err != nil {
		return nil, err
	}
	s.addDisturbances("snapshot", lists)
	return s, nil
}

// watch sets the phases as the snapshot of the one agent comes and goes, and returns how long it took. Where it has come
// already, the log grows on for the next one.
func (d *due) watch(p *phases) (time.Duration, error) {
	l := d.lab
	var began time.Time
	for limit := time.Now().Add(2 * snapshotWait); time.Now().Before(limit); wait(l.ctx, time.Now().Add(2*time.Millisecond)) {
		_, writing, err := snapshotNames(d.agents[0])
		if err != nil || l.ctx.Err() != nil {
			return 0, errors.Join(err, l.ctx.Err())
		}
		switch taken := d.taken() == nil; {
		case taken && !began.IsZero():
			return time.Since(began), nil
		case taken:
			p.set(between)
			next, err := l.growLog(d.agents)
			if err != nil {
				return 0, err
			}
			d = next
		case !writing:
			p.set(quiet)
		case p.now.Load() == int32(quiet):
			began = time.Now()
			p.set(disturbed)
		}
	}
	return 0, fmt.Errorf("no snapshot of %s was seen to come and go: it takes none, or the table is too small for one that takes time", d.agents[0].name)
}

func disturbedSection(title string) *section {
	return &section{Title: title, Head: []string{"lookups", "takes", "quiet p99.9", "lookups meanwhile", "their p99.9", "slowest", "times quiet", "client's timers late by"}}
}

// addDisturbances adds the rows of all demands.
func (s *section) addDisturbances(what string, lists [][]disturbance) {
	s.say("How late the client's own timers are meanwhile, 99.9 %% of them, tells how long a process waits for a processor that does nothing but sleep: a reply cannot be seen sooner.")
	bars := plot{Title: "99.9 % of all lookups are answered within", Unit: "ms", Series: []series{{Name: "quiet"}, {Name: what}}}
	nanoseconds := func(f func(disturbance) time.Duration) func(disturbance) float64 {
		return func(d disturbance) float64 { return float64(f(d)) }
	}
	before := nanoseconds(func(d disturbance) time.Duration { return d.Quiet })
	while := nanoseconds(func(d disturbance) time.Duration { return d.Disturbed })
	for i, list := range lists {
		name := demands[i].name
		times := of(list, func(d disturbance) float64 { return while(d) / before(d) })
		late := "-" // without a pace there are no timers
		if demands[i].pace > 0 {
			late = of(list, nanoseconds(func(d disturbance) time.Duration { return d.Late })).duration()
		}
		s.keep(name, list)
		s.row(name, of(list, nanoseconds(func(d disturbance) time.Duration { return d.Took })).duration(), of(list, before).duration(),
			of(list, func(d disturbance) float64 { return float64(d.Count) }).count(), of(list, while).duration(),
			of(list, nanoseconds(func(d disturbance) time.Duration { return d.Worst })).duration(), times.factor(),
			late)
		bars.Groups = append(bars.Groups, name)
		for j, figure := range []func(disturbance) float64{before, while} {
			n := of(list, figure)
			bars.Series[j].Points = append(bars.Series[j].Points, spread{n.Median / 1e6, n.Low / 1e6, n.High / 1e6})
		}
		s.atMost("p99.9 during "+what+" to quiet, "+name, times.Median, 3)
	}
	s.Plots = append(s.Plots, bars)
}

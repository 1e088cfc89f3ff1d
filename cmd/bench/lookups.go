package main

import (
	"context"
	"fmt"
	"path/filepath"
	"time"
)

const (
	smallTable = 100_000
	table      = "raft:virtual"
	waitStart  = 10 * time.Second
)

// callers of a unix socket, each on a connection of its own.
func lookupsAt(path, table string, entries, conns int, server processes) func(context.Context, time.Duration) (sample, error) {
	return func(ctx context.Context, d time.Duration) (sample, error) {
		callers, err := open(conns, func(int) (caller, error) {
			conn, err := dialProxymap(path)
			if err != nil {
				return nil, err
			}
			return newLookup(conn, table, entries), nil
		})
		if err != nil {
			return sample{}, err
		}
		return load(ctx, callers, d, server)
	}
}

// lookups compares lookups in a table of 100,000 entries: through the agent's own socket, through the front end that
// master(8) runs, in the stock proxymap over lmdb, and an echo.
func lookups(l *lab, o options) (*section, error) {
	agents, err := l.cluster("a", 1)
	if err != nil {
		return nil, err
	}
	source := l.path("virtual")
	if err := agents[0].load("virtual", source, smallTable); err != nil {
		return nil, err
	}
	lmdb := "lmdb:" + source
	stock, err := l.postfix(agents[0].runDir, "proxy:"+table, "proxy:"+lmdb)
	if err != nil {
		return nil, err
	}
	if err := l.postmap(source); err != nil {
		return nil, err
	}
	probe := newLookup(nil, table, 1)
	echoSocket, echoProcess, err := l.echoServer(len(probe.want))
	if err != nil {
		return nil, err
	}
	s := &section{
		Title: "Lookups",
		Head:  []string{"connections", "server", "lookups/s", "p50", "p99", "p99.9", "CPU/lookup", "memory", "to stock", "to echo"},
	}
	s.say("%s entries. *agent* is the agent's own socket, *front end* the connection that master(8) gives to postraft-proxymap, *stock* the stock proxymap(8) over lmdb, *echo* answers with the same number of bytes and looks nothing up.", thousands(smallTable))
	byRate := plot{Title: "Lookups per second, by connections", Unit: "lookups/s"}
	byTail := plot{Title: "99 % of all lookups are answered within", Unit: "µs"}
	names := []string{"agent", "front end", "stock", "echo"}
	for _, name := range names {
		byRate.Series = append(byRate.Series, series{Name: name})
		byTail.Series = append(byTail.Series, series{Name: name})
	}
	frontEnd := join(agents[0].processes, children(stock.master, "postraft-proxymap"))
	for i, conns := range []int{1, 8, 64} {
		l.say("%d connections", conns)
		samples, err := inTurn(l, o, []contestant{
			{"agent", lookupsAt(agents[0].socket("proxymap"), table, smallTable, conns, agents[0].processes)},
			{"front end", lookupsAt(stock.socket("proxymap"), table, smallTable, conns, frontEnd)},
			{"stock", lookupsAt(stock.socket("proxymap-local"), lmdb, smallTable, conns, children(stock.master, "proxymap"))},
			{"echo", echoes(echoSocket, smallTable, conns, echoProcess)},
		})
		if err != nil {
			return nil, err
		}
		s.keep(fmt.Sprint(conns), samples)
		byRate.Groups = append(byRate.Groups, fmt.Sprint(conns))
		byTail.Groups = append(byTail.Groups, fmt.Sprint(conns))
		for j, name := range names {
			list := samples[name]
			s.row(fmt.Sprint(conns), name, rate(list).count(), durations(list, p50).duration(), durations(list, p99).duration(),
				durations(list, p999).duration(), short(durations(list, cpu).Median), megabytes(float64(list[len(list)-1].Memory)),
				ratio(list, samples["stock"], rates).factor(), ratio(list, samples["echo"], rates).factor())
			byRate.Series[j].Points = append(byRate.Series[j].Points, rate(list))
			tail := durations(list, p99)
			byTail.Series[j].Points = append(byTail.Series[j].Points, spread{tail.Median / 1e3, tail.Low / 1e3, tail.High / 1e3})
		}
		s.atLeast(fmt.Sprintf("rate to stock, %d connections", conns), ratio(samples["agent"], samples["stock"], rates).Median, []float64{1.25, 3, 3}[i])
		s.atLeast(fmt.Sprintf("rate to echo, %d connections", conns), ratio(samples["agent"], samples["echo"], rates).Median, .85)
		s.atMost(fmt.Sprintf("p99 to stock, %d connections", conns), ratio(samples["agent"], samples["stock"], tails).Median, 1)
		s.atLeast(fmt.Sprintf("front end to agent, %d connections", conns), ratio(samples["front end"], samples["agent"], rates).Median, .95)
	}
	s.Plots = []picture{byRate, byTail}
	return s, nil
}

// echoes is lookupsAt for the echo, which announces nothing.
func echoes(path string, entries, conns int, server processes) func(context.Context, time.Duration) (sample, error) {
	return func(ctx context.Context, d time.Duration) (sample, error) {
		callers, err := open(conns, func(int) (caller, error) {
			conn, err := dial(path)
			if err != nil {
				return nil, err
			}
			c := newLookup(conn, table, entries)
			c.echo = true
			return c, nil
		})
		if err != nil {
			return sample{}, err
		}
		return load(ctx, callers, d, server)
	}
}

// sizes compares lookups in tables of so many entries with those in the first.
func sizes(l *lab, o options, counts ...int) (*section, error) {
	s := &section{
		Title: "Lookups by size of the table",
		Head:  []string{"connections", "entries", "lookups/s", "p50", "p99", "p99.9", "to " + thousands(float64(counts[0])) + " entries"},
	}
	s.say("The same lookups, of keys taken evenly from the whole table, each table in an agent of its own.")
	var sockets []string
	var servers []processes
	for i, n := range counts {
		agents, err := l.cluster(fmt.Sprintf("s%d", i), 1)
		if err != nil {
			return nil, err
		}
		source := l.path(fmt.Sprint(n))
		if err := writeSource(source, n, valueFormat); err != nil {
			return nil, err
		}
		l.say("import of %s entries", thousands(float64(n)))
		if _, err := agents[0].postraft("table", "import", "virtual", source); err != nil {
			return nil, err
		}
		sockets = append(sockets, filepath.Join(agents[0].runDir, "proxymap"))
		servers = append(servers, agents[0].processes)
	}
	byRate := plot{Title: "Lookups per second, by size of the table", Unit: "lookups/s", Groups: []string{"1 connection", "8", "64"}}
	for _, n := range counts {
		byRate.Series = append(byRate.Series, series{Name: thousands(float64(n)) + " entries"})
	}
	for _, conns := range []int{1, 8, 64} {
		l.say("%d connections", conns)
		var contestants []contestant
		for i, n := range counts {
			contestants = append(contestants, contestant{fmt.Sprint(n), lookupsAt(sockets[i], table, n, conns, servers[i])})
		}
		samples, err := inTurn(l, o, contestants)
		if err != nil {
			return nil, err
		}
		s.keep(fmt.Sprint(conns), samples)
		small := samples[fmt.Sprint(counts[0])]
		for i, n := range counts {
			list := samples[fmt.Sprint(n)]
			to := ratio(list, small, rates)
			s.row(fmt.Sprint(conns), thousands(float64(n)), rate(list).count(), durations(list, p50).duration(), durations(list, p99).duration(), durations(list, p999).duration(), to.factor())
			byRate.Series[i].Points = append(byRate.Series[i].Points, rate(list))
			if i > 0 {
				s.atLeast(fmt.Sprintf("rate with %s entries to that with %s, %d connections", thousands(float64(n)), thousands(float64(counts[0])), conns), to.Median, .85)
			}
		}
	}
	s.Plots = []picture{byRate}
	return s, nil
}

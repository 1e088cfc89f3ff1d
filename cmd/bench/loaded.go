package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"time"
)

// spinProcess keeps one processor busy until it is told to end.
func spinProcess(ctx context.Context, _ []string) error {
	for ctx.Err() == nil {
		for range 1_000_000 {
		}
	}
	return nil
}

// loaded keeps all processors busy and counts elections, of which there is no need: no leader fails.
func loaded(l *lab, o options) (*section, error) {
	agents, err := l.cluster("a", 3)
	if err != nil {
		return nil, err
	}
	source := l.path("virtual")
	if err := agents[0].load("virtual", source, smallTable); err != nil {
		return nil, err
	}
	if _, err := agents[0].postraft("table", "create", "small"); err != nil {
		return nil, err
	}
	if err := l.settled(agents); err != nil {
		return nil, err
	}
	before, err := agents[0].status()
	if err != nil {
		return nil, err
	}
	for i := range runtime.NumCPU() {
		if _, err := l.helper("spin", fmt.Sprint(i)); err != nil {
			return nil, err
		}
	}
	// What comes first in an agent's day: lookups as fast as they go, and ten updates a second.
	callers, err := open(8, func(int) (caller, error) {
		conn, err := dialProxymap(agents[1].socket("proxymap"))
		if err != nil {
			return nil, err
		}
		return newLookup(conn, table, smallTable), nil
	})
	if err != nil {
		return nil, err
	}
	conn, err := dialProxymap(agents[2].socket("proxywrite"))
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(l.ctx, o.loaded)
	defer cancel()
	l.say("  %d processors busy for %v", runtime.NumCPU(), o.loaded)
	lookups, writes := new(phases), new(phases)
	refused := 0
	ended := make(chan error, 1)
	go func() { // ends with ctx
		ended <- writes.run(ctx, []caller{tolerant{newUpdate(conn, "raft:small", 100, 0), &refused}}, 100*time.Millisecond)
	}()
	err = lookups.run(ctx, callers, 0)
	if err := errors.Join(err, <-ended, l.ctx.Err()); err != nil {
		return nil, err
	}
	after, err := agents[0].status()
	if err != nil {
		return nil, err
	}
	s := &section{
		Title: "All processors busy",
		Head:  []string{"time", "elections", "lookups", "lookup p99.9", "slowest", "updates", "update p50", "update p99", "slowest", "RETRY"},
	}
	s.say("Three agents on this machine with the default timeouts, beside a process for each of the %d processors that does nothing but use it, 8 connections that look up as fast as they can, and ten updates a second. Elections are counted by raft's term.", runtime.NumCPU())
	elections := float64(after.Term - before.Term)
	reads, changes := lookups.of(quiet), writes.of(quiet)
	s.row(o.loaded.String(), fmt.Sprint(elections), thousands(float64(reads.total)), short(float64(reads.quantile(.999))), short(float64(reads.max)),
		thousands(float64(changes.total)), short(float64(changes.quantile(.5))), short(float64(changes.quantile(.99))), short(float64(changes.max)), fmt.Sprint(refused))
	s.atMost("elections in "+o.loaded.String(), elections, 0)
	return s, nil
}

// tolerant counts updates that are answered RETRY, instead of ending with them.
type tolerant struct {
	*updateCaller
	refused *int
}

func (t tolerant) call(r *rand.Rand) error {
	err := t.updateCaller.call(r)
	if errors.Is(err, errRetry) {
		*t.refused++
		return nil
	}
	return err
}

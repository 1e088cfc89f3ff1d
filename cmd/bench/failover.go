package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// killsPerRound is how often the leader is killed in each round.
const killsPerRound = 4

// A pause is what a writer on a survivor sees when the leader is killed.
type pause struct {
	Silence time.Duration `json:"silence_ns"` // the longest between two acknowledged updates
	Refused int           `json:"refused"`    // updates answered with RETRY
}

// failover kills the leader as a power failure would, and measures how long a writer on another node waits.
func failover(l *lab, o options) (*section, error) {
	agents, err := l.cluster("a", 3)
	if err != nil {
		return nil, err
	}
	if _, err := agents[0].postraft("table", "create", "virtual"); err != nil {
		return nil, err
	}
	s := &section{Title: "The leader is killed", Head: []string{"kills", "writes pause for", "updates answered RETRY"}}
	s.say("Three agents with the default timeouts. One client makes one update after the other at a survivor; the leader is killed with SIGKILL. The pause is the longest time between two acknowledged updates. The killed agent is started again before the next kill.")
	var list []pause
	for range killsPerRound * o.rounds {
		if err := l.settled(agents); err != nil {
			return nil, err
		}
		g, err := killLeader(l, agents, len(list))
		if err != nil {
			return nil, fmt.Errorf("kill %d: %w", len(list)+1, err)
		}
		list = append(list, g)
		l.say("  writes pause for %v, %d refused", g.Silence, g.Refused)
	}
	s.keep("kills", list)
	silence := of(list, func(p pause) float64 { return float64(p.Silence) })
	refused := of(list, func(p pause) float64 { return float64(p.Refused) })
	s.row(fmt.Sprint(len(list)), silence.duration(), fmt.Sprintf("%.0f (%.0f–%.0f)", refused.Median, refused.Low, refused.High))
	bars := plot{Title: "Pause of writes at each kill of the leader", Unit: "ms", Series: []series{{Name: "pause"}}}
	for i, g := range list {
		bars.Groups = append(bars.Groups, fmt.Sprint(i+1))
		ms := float64(g.Silence) / 1e6
		bars.Series[0].Points = append(bars.Series[0].Points, spread{ms, ms, ms})
	}
	s.Plots = []picture{bars}
	s.atMost(fmt.Sprintf("seconds without writes, median of %d", len(list)), silence.Median/1e9, 1)
	return s, nil
}

// settled waits until all agents know each other, and show the same.
func (l *lab) settled(agents []*agent) error {
	err := l.until(time.Minute, "all agents see each other", func() error {
		for _, a := range agents {
			s, err := a.status()
			if err != nil {
				return err
			}
			if !s.Ready || s.Leader == "" || len(s.Alive) != len(agents) || len(s.Voters) != len(agents) {
				return fmt.Errorf("%s sees the leader %q, alive %v, voters %v", a.name, s.Leader, s.Alive, s.Voters)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return same(agents)
}

// killLeader kills the leader under a writer, and starts it again.
func killLeader(l *lab, agents []*agent, nth int) (p pause, err error) {
	lead, err := leader(agents)
	if err != nil {
		return p, err
	}
	survivor := agents[0]
	if survivor == lead {
		survivor = agents[1]
	}
	conn, err := dialProxymap(survivor.socket("proxywrite"))
	if err != nil {
		return p, err
	}
	c := newUpdate(conn, table, smallTable, nth*1_000_000)
	ctx, cancel := context.WithTimeout(l.ctx, 30*time.Second)
	defer cancel()
	done := make(chan error, 1)
	killed := make(chan struct{})
	go func() { // ends when writes have resumed, or with ctx, which closes the connection
		defer c.close()
		defer context.AfterFunc(ctx, c.close)()
		r := random(nth)
		isKilled := false
		for last, after := time.Now(), 0; after < 100; {
			if !isKilled {
				select {
				case <-killed:
					isKilled = true
				default:
				}
			}
			switch err := c.call(r); {
			case errors.Is(err, errRetry):
				p.Refused++
				wait(ctx, time.Now().Add(time.Millisecond))
			case err != nil:
				done <- err
				return
			default:
				now := time.Now()
				p.Silence = max(p.Silence, now.Sub(last))
				if last = now; isKilled {
					after++
				}
			}
		}
		done <- nil
	}()
	wait(ctx, time.Now().Add(300*time.Millisecond))
	lead.kill()
	close(killed)
	err = <-done
	if err != nil {
		return p, survivor.failure(fmt.Sprintf("writes did not resume: %v", err))
	}
	if err := lead.start(); err != nil {
		return p, err
	}
	return p, lead.ready(time.Minute)
}

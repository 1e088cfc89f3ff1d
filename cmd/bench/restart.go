package main

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// A comeback is how long an agent took after it was started, until it did something.
type comeback struct {
	Ready  time.Duration `json:"ready_ns"`  // its status says so
	Lookup time.Duration `json:"lookup_ns"` // it answered a lookup rightly
}

// restart measures how long a follower with a table takes to come back: from its log, and from a snapshot.
func restart(l *lab, o options, entries int, aim time.Duration) (*section, error) {
	agents, err := l.cluster("a", 3)
	if err != nil {
		return nil, err
	}
	if _, err := agents[0].postraft("table", "create", "small"); err != nil {
		return nil, err
	}
	source := l.path("virtual")
	if err := writeSource(source, entries, valueFormat); err != nil {
		return nil, err
	}
	l.say("  import of %s entries", thousands(float64(entries)))
	if _, err := agents[0].postraft("table", "import", "virtual", source); err != nil {
		return nil, err
	}
	if err := same(agents); err != nil {
		return nil, err
	}
	lead, err := leader(agents)
	if err != nil {
		return nil, err
	}
	follower := agents[0]
	if follower == lead {
		follower = agents[1]
	}
	s := &section{
		Title: fmt.Sprintf("Restart with %s entries", thousands(float64(entries))),
		Head:  []string{"from", "ready", "first right lookup"},
	}
	s.say("A follower of a cluster of three is stopped (SIGTERM) and started again, its files in the page cache, but for the log of the import the first time; time from exec. *log*: the import as entries of the log. *snapshot*: after %s more small entries and raft's own snapshot.", thousands(snapshotDue))
	for _, from := range []string{"log", "snapshot"} {
		if from == "snapshot" {
			l.say("  waiting for the snapshot")
			due, err := l.growLog(agents)
			if err != nil {
				return nil, err
			}
			if err := due.await(); err != nil {
				return nil, err
			}
		}
		var list []comeback
		for range o.rounds {
			c, err := follower.comeback(entries)
			if err != nil {
				return nil, err
			}
			list = append(list, c)
			l.say("  from the %-16s ready %v  lookup %v", from, c.Ready, c.Lookup)
		}
		s.keep(from, list)
		ready := of(list, func(c comeback) float64 { return float64(c.Ready) })
		lookup := of(list, func(c comeback) float64 { return float64(c.Lookup) })
		s.row(from, ready.duration(), lookup.duration())
		s.atMost("seconds to ready, from "+from, ready.Median/1e9, aim.Seconds())
		s.atMost("seconds to a lookup, from "+from, lookup.Median/1e9, aim.Seconds())
	}
	return s, nil
}

// comeback stops the agent and starts it again.
func (a *agent) comeback(entries int) (c comeback, err error) {
	a.stop()
	begin := time.Now()
	if err := a.start(); err != nil {
		return c, err
	}
	var looked error
	var looking sync.WaitGroup
	looking.Go(func() {
		looked = a.lab.until(time.Minute, "a lookup at "+a.name, func() error { return lookupOnce(a.socket("proxymap"), entries/2) })
		c.Lookup = time.Since(begin)
	})
	ready := a.lab.until(time.Minute, a.name+" ready", func() error {
		s, err := a.status()
		if err == nil && !s.Ready {
			err = errors.New(s.NotReady)
		}
		return err
	})
	c.Ready = time.Since(begin)
	looking.Wait()
	if err := errors.Join(ready, looked); err != nil {
		return c, a.failure(err.Error())
	}
	return c, a.ready(time.Minute)
}

// lookupOnce looks one entry up, on a connection of its own.
func lookupOnce(path string, number int) error {
	conn, err := net.DialTimeout("unix", path, time.Second)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return err
	}
	c := newLookup(conn, table, number+1)
	c.set(number)
	if _, err := conn.Write(c.bytes); err != nil {
		return err
	}
	put(c.want[c.digits:], number)
	want := append([]byte(announcement), c.want...)
	got := make([]byte, 0, 4096)
	for !bytes.HasSuffix(got, []byte("\x00\x00")) || len(got) <= len(announcement) {
		n, err := conn.Read(got[len(got):cap(got)])
		if err != nil {
			return err
		}
		got = got[:len(got)+n]
	}
	if !bytes.Equal(got, want) {
		return fmt.Errorf("the reply is %q", got)
	}
	return nil
}

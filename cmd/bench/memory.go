package main

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// settle is how long an agent is left alone before its memory counts as that of a quiet one.
const settle = 10 * time.Second

// memory measures what three agents keep in memory: with a table, and at most during what makes them take more. aim is
// the quiet agent's, as a multiple of the bytes of keys and values.
func memory(l *lab, entries int, aim float64) (*section, error) {
	agents, err := l.cluster("a", 3)
	if err != nil {
		return nil, err
	}
	if _, err := agents[0].postraft("table", "create", "small"); err != nil {
		return nil, err
	}
	source, other := l.path("virtual"), l.path("other")
	if err := writeSource(source, entries, valueFormat); err != nil {
		return nil, err
	}
	if err := writeSource(other, entries, otherFormat); err != nil {
		return nil, err
	}
	lead, err := leader(agents)
	if err != nil {
		return nil, err
	}
	bytes := float64(entries * (len(fmt.Sprintf(keyFormat, 0)) + len(fmt.Sprintf(valueFormat, 0))))
	s := &section{
		Title: fmt.Sprintf("Memory of an agent with %s entries", thousands(float64(entries))),
		Head:  []string{"while", "time", "most resident", "to the data", "10 s later", "to the data"},
	}
	s.say("Three agents on this machine, a table whose keys and values are %s. Each figure is the highest of the three, once; *most resident* is what the kernel noted (VmHWM), which includes %s of the program itself that are mapped from its file.",
		megabytes(bytes), megabytes(fileMapped(lead)))
	track := l.trackMemory(agents)
	imported := func(file string) func() error {
		return func() error {
			if _, err := agents[0].postraft("table", "import", "virtual", file); err != nil {
				return err
			}
			return same(agents)
		}
	}
	for _, phase := range []struct {
		name string
		do   func() error
	}{
		{"nothing, no table", func() error { return nil }},
		{"first import", imported(source)},
		{"import that replaces all values", imported(other)},
		{"snapshot save at the leader", func() error {
			_, err := lead.postraft("snapshot", "save", l.path("saved"))
			return err
		}},
		{"8,300 updates, and the snapshot of raft on all", func() error {
			due, err := l.growLog(agents)
			if err != nil {
				return err
			}
			return due.await()
		}},
		{"restart of all, one after the other", func() error {
			for _, a := range agents {
				a.stop()
				if err := a.start(); err != nil {
					return err
				}
				track.follow(agents)
				if err := a.ready(time.Minute); err != nil {
					return err
				}
			}
			return nil
		}},
	} {
		l.say("  %s", phase.name)
		pids, err := all(agents)()
		if err != nil {
			return nil, err
		}
		for _, pid := range pids {
			if err := forgetPeak(pid); err != nil {
				return nil, err
			}
		}
		track.mark(phase.name)
		begin := time.Now()
		if err := phase.do(); err != nil {
			return nil, fmt.Errorf("%s: %w", phase.name, err)
		}
		took := time.Since(begin)
		peak, err := highest(agents, "VmHWM")
		if err != nil {
			return nil, err
		}
		if wait(l.ctx, time.Now().Add(settle)); l.ctx.Err() != nil {
			return nil, l.ctx.Err()
		}
		quiet, err := highest(agents, "VmRSS")
		if err != nil {
			return nil, err
		}
		l.say("    at most %s, then %s", megabytes(peak), megabytes(quiet))
		s.keep(phase.name, map[string]float64{"peak": peak, "quiet": quiet})
		s.row(phase.name, short(float64(took)), megabytes(peak), fmt.Sprintf("%.2f", peak/bytes), megabytes(quiet), fmt.Sprintf("%.2f", quiet/bytes))
		if phase.name != "nothing, no table" {
			s.atMost("resident to the data, during "+phase.name, peak/bytes, aim*1.3)
			s.atMost("resident to the data, after "+phase.name, quiet/bytes, aim)
		}
	}
	s.Plots = append(s.Plots, track.stop())
	return s, nil
}

// highest returns the highest figure of all agents.
func highest(agents []*agent, name string) (most float64, err error) {
	for _, a := range agents {
		n, err := statusBytes(a.cmd.Process.Pid, name)
		if err != nil {
			return 0, err
		}
		most = max(most, float64(n))
	}
	return most, nil
}

func fileMapped(a *agent) float64 {
	n, err := statusBytes(a.cmd.Process.Pid, "RssFile")
	if err != nil {
		return 0
	}
	return float64(n)
}

// A memoryTrack draws what is resident over time.
type memoryTrack struct {
	began  time.Time
	cancel context.CancelFunc
	ended  chan struct{}

	mu     sync.Mutex // guards what follows
	pids   []int
	curves curves
}

// trackMemory looks at agents four times a second, until stop is called or the lab ends.
func (l *lab) trackMemory(agents []*agent) *memoryTrack {
	t := &memoryTrack{began: time.Now(), ended: make(chan struct{})}
	t.curves = curves{Title: "What is resident of each agent", Unit: "MB", Along: "seconds"}
	for _, a := range agents {
		t.curves.Lines = append(t.curves.Lines, line{Name: a.name})
	}
	t.follow(agents)
	ctx, cancel := context.WithCancel(l.ctx)
	t.cancel = cancel
	l.atEnd(cancel)
	go func() { // ends with stop or the lab
		defer close(t.ended)
		for ctx.Err() == nil {
			t.look()
			wait(ctx, time.Now().Add(250*time.Millisecond))
		}
	}()
	return t
}

// follow says that agents have other processes from now on.
func (t *memoryTrack) follow(agents []*agent) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.pids = nil
	for _, a := range agents {
		t.pids = append(t.pids, a.cmd.Process.Pid)
	}
}

func (t *memoryTrack) look() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, pid := range t.pids {
		n, err := statusBytes(pid, "VmRSS")
		if err != nil {
			continue // it is being restarted
		}
		t.curves.Lines[i].Points = append(t.curves.Lines[i].Points, point{X: time.Since(t.began).Seconds(), spread: spread{Median: float64(n) / 1e6}})
	}
}

// mark says what begins now.
func (t *memoryTrack) mark(text string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.curves.Marks = append(t.curves.Marks, mark{time.Since(t.began).Seconds(), text})
}

// stop returns the picture.
func (t *memoryTrack) stop() curves {
	t.cancel()
	<-t.ended
	return t.curves
}

package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// nonvoterCounts are how many nonvoters there are, one after the other.
var nonvoterCounts = []int{3, 10, 25, 50}

const (
	writePace = 10 * time.Millisecond
	manyHosts = 500 // that the curve is carried on to
)

// A burden is what the leader does in one span of time.
type burden struct {
	CPU    float64 `json:"cpu"`    // seconds of processor time in each second
	Bytes  float64 `json:"bytes"`  // sent in each second
	Writes float64 `json:"writes"` // in each second
}

// followers measures what nonvoters cost the leader: an agent, with two more voters, and the nonvoters all in another
// process, so that their work is not the leader's.
func followers(l *lab, o options) (*section, error) {
	agents, err := l.cluster("a", 3, "--voters", "3")
	if err != nil {
		return nil, err
	}
	if _, err := agents[0].postraft("table", "create", "small"); err != nil {
		return nil, err
	}
	lead, err := leader(agents)
	if err != nil {
		return nil, err
	}
	status, err := lead.status()
	if err != nil {
		return nil, err
	}
	crowd, err := l.nonvoters(l.path("a.secret"), status.Gossip)
	if err != nil {
		return nil, err
	}
	s := &section{
		Title: "What followers cost the leader",
		Head:  []string{"nonvoters", "quiet: CPU", "quiet: sent", "CPU/write", "sent/write"},
	}
	s.say("A leader that is an agent of its own, two more voters, and so many nonvoters, all in one process whose disk is memory. Processor time and bytes sent (TCP, with TLS) are the leader's process alone. Spans without a write alternate with spans of %d updates a second, one at a time, made at the leader; a write costs what the second has more than the first. The leader gathers what it sends to nonvoters, so at another pace a write costs something else.", time.Second/writePace)
	var lines [4]line // quiet CPU, quiet bytes, CPU and bytes of a write
	for _, n := range nonvoterCounts {
		if err := crowd.grow(n); err != nil {
			return nil, err
		}
		if err := lead.sees(n + len(agents)); err != nil {
			return nil, err
		}
		spans, err := takeTurns(o.rounds, 2, func(i int) (burden, error) { return lead.burden(o.time, i == 1) })
		if err != nil {
			return nil, err
		}
		s.keep(fmt.Sprint(n), spans)
		var each [][4]float64
		for i, quiet := range spans[0] {
			busy := spans[1][i]
			each = append(each, [4]float64{quiet.CPU * 100, quiet.Bytes / 1e3, (busy.CPU - quiet.CPU) / busy.Writes * 1e6, (busy.Bytes - quiet.Bytes) / busy.Writes / 1e3})
		}
		cells := []string{fmt.Sprint(n)}
		for i, unit := range []string{" % of a core", " kB/s", " µs", " kB"} {
			figures := of(each, func(e [4]float64) float64 { return e[i] })
			lines[i].Points = append(lines[i].Points, point{float64(n), figures})
			lines[i].Dots = true
			cells = append(cells, fmt.Sprintf("%.3g (%.3g–%.3g)%s", figures.Median, figures.Low, figures.High, unit))
		}
		s.row(cells...)
		l.say("  %v", cells)
		if still, err := leader(agents); err != nil || still != lead {
			return nil, errors.Join(err, errors.New("the leader has changed: the machine is too busy for this"))
		}
	}
	for i, title := range []string{"The leader's processor time when nothing is written", "What the leader sends when nothing is written", "The leader's processor time for a write", "What the leader sends for a write"} {
		lines[i].Name = "leader"
		s.Plots = append(s.Plots, curves{Title: title, Unit: []string{"% of a core", "kB/s", "µs", "kB"}[i], Along: "nonvoters", Lines: lines[i : i+1]})
	}
	s.say("%s", carriedOn(lines))
	return s, nil
}

// carriedOn says what the curves mean for many hosts.
func carriedOn(lines [4]line) string {
	var at, slope [4]float64
	for i, l := range lines {
		var start float64
		start, slope[i] = straight(l.Points)
		at[i] = start + slope[i]*manyHosts
	}
	text := fmt.Sprintf("Straight lines through these points: each further nonvoter costs the leader %.2g %% of a core and %.2g kB/s when nothing is written, and %.3g µs and %.2g kB for each write. Carried on to %d nonvoters, which nobody has measured: %.0f %% of a core and %.0f kB/s quiet; %.1f ms and %.0f kB for a write.",
		slope[0], slope[1], slope[2], slope[3], manyHosts, at[0], at[1], at[2]/1e3, at[3])
	if free := 1 - at[0]/100; free > 0 && at[2] > 0 {
		text += fmt.Sprintf(" One core of the leader would then carry %.0f writes a second at what each costs at this pace; more of them are gathered, and share the cost.", free/(at[2]/1e6))
	}
	return text
}

// straight returns the line of least squares through points.
func straight(points []point) (start, slope float64) {
	var x, y, xx, xy float64
	for _, p := range points {
		x, y, xx, xy = x+p.X, y+p.Median, xx+p.X*p.X, xy+p.X*p.Median
	}
	n := float64(len(points))
	if d := n*xx - x*x; d != 0 {
		slope = (n*xy - x*y) / d
	}
	return (y - slope*x) / n, slope
}

// sees waits until so many members are alive, and all show what this agent shows.
func (a *agent) sees(members int) error {
	err := a.lab.until(2*time.Minute, fmt.Sprintf("%d members", members), func() error {
		s, err := a.status()
		if err == nil && len(s.Alive) != members {
			err = fmt.Errorf("%d are alive", len(s.Alive))
		}
		return err
	})
	if err != nil {
		return err
	}
	s, err := a.status()
	if err != nil {
		return err
	}
	_, err = a.postraft("status", "--wait-index", fmt.Sprint(s.AppliedIndex), "--all")
	return err
}

// burden measures this agent, while it is written to or not.
func (a *agent) burden(d time.Duration, writes bool) (b burden, err error) {
	ctx, cancel := context.WithTimeout(a.lab.ctx, warm+d)
	defer cancel()
	ended := make(chan error, 1)
	p := new(phases)
	p.set(between)
	var callers []caller
	if writes {
		conn, err := dialProxymap(a.socket("proxywrite"))
		if err != nil {
			return b, err
		}
		callers = append(callers, newUpdate(conn, "raft:small", 1000, int(time.Now().UnixNano()%90_000_000)))
	}
	go func() { ended <- p.run(ctx, callers, writePace) }() // ends with ctx
	wait(ctx, time.Now().Add(warm))
	pid := a.cmd.Process.Pid
	sent, err1 := sentBy(pid)
	cpu, err2 := threadTime(pid)
	p.set(quiet)
	begin := time.Now()
	wait(ctx, begin.Add(d))
	took := time.Since(begin).Seconds()
	cpuNow, err3 := threadTime(pid)
	sentNow, err4 := sentBy(pid)
	if err := errors.Join(<-ended, err1, err2, err3, err4, a.lab.ctx.Err()); err != nil {
		return b, err
	}
	b = burden{(cpuNow - cpu).Seconds() / took, float64(sentNow.since(sent)) / took, float64(p.of(quiet).total) / took}
	if writes && b.Writes == 0 {
		return b, errors.New("no update was answered")
	}
	return b, nil
}

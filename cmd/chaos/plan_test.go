package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
)

// A fault is a kind of fault. draw decides by r all there is to decide, so that a seed makes the same schedule
// again; who leads is found out when the fault begins.
type fault struct {
	name   string
	kind   kind
	weight int
	draw   func(r *rand.Rand) act
}

// kind sorts faults: those of different kinds may come together, those of kind alone come alone.
type kind string

const (
	ofProcess kind = "process"
	ofNetwork kind = "network"
	ofDisk    kind = "disk"
	ofClock   kind = "clock"
	alone     kind = "alone"
)

// An act is one fault with everything decided: it begins it, waits, and ends it.
type act struct {
	what string
	run  func(ctx context.Context, l *load) error
}

// A step is what happens before the cluster has to heal.
type step struct {
	calm  time.Duration // before
	names []string
	acts  []act
	delay []time.Duration // of each act
}

func (s step) String() string {
	var words []string
	for i, a := range s.acts {
		words = append(words, fmt.Sprintf("%s (%s) after %v", s.names[i], a.what, s.delay[i]))
	}
	return strings.Join(words, " and ")
}

// A plan draws steps from faults.
type plan struct {
	r      *rand.Rand
	faults []fault
}

func newPlan(seed uint64, faults []fault) *plan {
	return &plan{r: rand.New(rand.NewPCG(seed, 77)), faults: faults}
}

func (p *plan) next() step {
	s := step{calm: between(p.r, 200*time.Millisecond, 2*time.Second)}
	used := map[kind]bool{}
	for want := 1 + p.r.IntN(5)/3; len(s.acts) < want; {
		f := p.pick(used)
		if f == nil {
			break
		}
		s.names, s.acts = append(s.names, f.name), append(s.acts, f.draw(p.r))
		s.delay = append(s.delay, between(p.r, 0, 2*time.Second))
		used[f.kind] = true
	}
	s.delay[0] = 0
	return s
}

// pick chooses a fault that goes together with those of the kinds that are used.
func (p *plan) pick(used map[kind]bool) *fault {
	var fit []*fault
	sum := 0
	for i := range p.faults {
		f := &p.faults[i]
		if used[alone] || used[f.kind] || f.kind == alone && len(used) > 0 {
			continue
		}
		fit = append(fit, f)
		sum += f.weight
	}
	if len(fit) == 0 {
		return nil
	}
	at := p.r.IntN(sum)
	for _, f := range fit {
		if at -= f.weight; at < 0 {
			return f
		}
	}
	return nil
}

// between draws a duration, in whole milliseconds.
func between(r *rand.Rand, least, most time.Duration) time.Duration {
	return (least + time.Duration(r.Int64N(int64(most-least)+1))).Truncate(time.Millisecond)
}

// A victim is a node by its role.
type victim struct {
	leader bool
	number int // of a follower, or of any node
	any    bool
}

func drawVictim(r *rand.Rand) victim {
	switch r.IntN(5) {
	case 0, 1:
		return victim{leader: true}
	case 2:
		return victim{any: true, number: r.IntN(nodeCount)}
	}
	return victim{number: r.IntN(nodeCount - 1)}
}

func (v victim) String() string {
	switch {
	case v.leader:
		return "the leader"
	case v.any:
		return fmt.Sprintf("n%d", v.number+1)
	}
	return fmt.Sprintf("follower %d", v.number+1)
}

// find returns the node that is meant now.
func (v victim) find(ctx context.Context, s *site) *node {
	if v.any {
		return s.nodes[v.number]
	}
	lead := s.leader(ctx)
	if v.leader {
		return lead
	}
	at := v.number
	for _, n := range s.nodes {
		if n == lead {
			continue
		}
		if at == 0 {
			return n
		}
		at--
	}
	return lead
}

// some draws so many different nodes.
func some(r *rand.Rand, count int) []int { return r.Perm(nodeCount)[:count] }

func namesOf(numbers []int) string {
	var names []string
	for _, i := range numbers {
		names = append(names, fmt.Sprintf("n%d", i+1))
	}
	return strings.Join(names, " ")
}

package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"
)

// A cutting says which directed links are cut, once the leader is known.
type cutting struct {
	name string
	cuts func(r *rand.Rand) (what string, cut func(ctx context.Context, s *site) func(from, to int) bool)
}

func cuttings() []cutting {
	among := func(numbers []int, i int) bool {
		for _, n := range numbers {
			if n == i {
				return true
			}
		}
		return false
	}
	one := func(r *rand.Rand, side func(victim, from, to int) bool) (string, func(context.Context, *site) func(from, to int) bool) {
		v := drawVictim(r)
		return v.String(), func(ctx context.Context, s *site) func(from, to int) bool {
			n := v.find(ctx, s).number
			return func(from, to int) bool { return side(n, from, to) }
		}
	}
	return []cutting{
		{"isolate", func(r *rand.Rand) (string, func(context.Context, *site) func(from, to int) bool) {
			return one(r, func(n, from, to int) bool { return from == n || to == n })
		}},
		{"deaf", func(r *rand.Rand) (string, func(context.Context, *site) func(from, to int) bool) {
			return one(r, func(n, _, to int) bool { return to == n })
		}},
		{"mute", func(r *rand.Rand) (string, func(context.Context, *site) func(from, to int) bool) {
			return one(r, func(n, from, _ int) bool { return from == n })
		}},
		{"halves", func(r *rand.Rand) (string, func(context.Context, *site) func(from, to int) bool) {
			few := some(r, 2)
			return namesOf(few) + " from the others", func(context.Context, *site) func(from, to int) bool {
				return func(from, to int) bool { return among(few, from) != among(few, to) }
			}
		}},
		{"one-way-halves", func(r *rand.Rand) (string, func(context.Context, *site) func(from, to int) bool) {
			some := some(r, 2+r.IntN(2))
			return namesOf(some) + " to the others", func(context.Context, *site) func(from, to int) bool {
				return func(from, to int) bool { return among(some, from) && !among(some, to) }
			}
		}},
		{"ring", func(r *rand.Rand) (string, func(context.Context, *site) func(from, to int) bool) {
			order := some(r, nodeCount)
			return namesOf(order), func(context.Context, *site) func(from, to int) bool {
				place := map[int]int{}
				for i, n := range order {
					place[n] = i
				}
				return func(from, to int) bool {
					d := (place[from] - place[to] + nodeCount) % nodeCount
					return d != 1 && d != nodeCount-1
				}
			}
		}},
		{"bridge", func(r *rand.Rand) (string, func(context.Context, *site) func(from, to int) bool) {
			order := some(r, nodeCount)
			return namesOf(order[:1]) + " between " + namesOf(order[1:3]) + " and " + namesOf(order[3:]), func(context.Context, *site) func(from, to int) bool {
				return func(from, to int) bool {
					return from != order[0] && to != order[0] && among(order[1:3], from) != among(order[1:3], to)
				}
			}
		}},
		{"everything", func(*rand.Rand) (string, func(context.Context, *site) func(from, to int) bool) {
			return "all links", func(context.Context, *site) func(from, to int) bool { return all }
		}},
	}
}

func all(int, int) bool { return true }

func networkFaults() []fault {
	var faults []fault
	for _, c := range cuttings() {
		faults = append(faults, fault{c.name, ofNetwork, 4, func(r *rand.Rand) act {
			what, cut := c.cuts(r)
			d := between(r, time.Second, 12*time.Second)
			flap := time.Duration(0)
			if r.IntN(4) == 0 {
				flap = between(r, 100*time.Millisecond, 1500*time.Millisecond)
				what += fmt.Sprintf(", flapping every %v", flap)
			}
			return act{fmt.Sprintf("%s for %v", what, d), func(ctx context.Context, l *load) error {
				on := cut(ctx, l.s)
				defer l.s.network.heal()
				l.s.network.change(on, func(r *rule) { r.cut = true })
				if flap == 0 {
					every(ctx, d)
					return nil
				}
				for began := time.Now(); time.Since(began) < d && every(ctx, flap); {
					l.s.network.change(on, func(r *rule) { r.cut = !r.cut })
				}
				return nil
			}}
		}})
	}
	quality := func(name string, weight int, draw func(r *rand.Rand) (string, func(*rule))) fault {
		return fault{name, ofNetwork, weight, func(r *rand.Rand) act {
			what, edit := draw(r)
			d := between(r, 2*time.Second, 12*time.Second)
			number := r.IntN(nodeCount)
			choose := all
			if r.IntN(2) == 0 {
				choose = func(from, to int) bool { return from == number || to == number }
				what += fmt.Sprintf(" at n%d", number+1)
			}
			return act{fmt.Sprintf("%s for %v", what, d), func(ctx context.Context, l *load) error {
				defer l.s.network.heal()
				l.s.network.change(choose, edit)
				every(ctx, d)
				return nil
			}}
		}}
	}
	return append(faults,
		quality("loss", 6, func(r *rand.Rand) (string, func(*rule)) {
			loss := 0.01 + 0.49*r.Float64()*r.Float64()
			return fmt.Sprintf("%.0f %%", loss*100), func(r *rule) { r.loss = loss }
		}),
		quality("delay", 6, func(r *rand.Rand) (string, func(*rule)) {
			delay, jitter := between(r, 5*time.Millisecond, 250*time.Millisecond), between(r, 0, 200*time.Millisecond)
			return fmt.Sprintf("%v to %v", delay, delay+jitter), func(r *rule) { r.delay, r.jitter = delay, jitter }
		}),
		quality("narrow", 3, func(r *rand.Rand) (string, func(*rule)) {
			rate := 8<<10 + r.IntN(64<<10)
			return fmt.Sprintf("%d bytes a second on each link", rate), func(r *rule) { r.rate = rate }
		}),
		fault{"lone-restart", ofNetwork, 5, func(r *rand.Rand) act {
			v, d, cut := drawVictim(r), between(r, time.Second, 8*time.Second), r.IntN(2) == 0
			return act{fmt.Sprintf("%s cut off and killed, back on its own for %v, power cut %t", v, d, cut), func(ctx context.Context, l *load) error {
				n := v.find(ctx, l.s)
				defer l.s.network.heal()
				l.s.network.change(func(from, to int) bool { return from == n.number || to == n.number }, func(r *rule) { r.cut = true })
				every(ctx, 300*time.Millisecond)
				stop := (*node).kill
				if cut && n.disk != nil {
					stop = func(n *node) error { return l.powerCut(n, rand.New(rand.NewPCG(1, 1))) }
				}
				if err := outOf(ctx, l, []*node{n}, 0, stop); err != nil {
					return err
				}
				every(ctx, d)
				return nil
			}}
		}},
	)
}

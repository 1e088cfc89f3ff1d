package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"syscall"
	"time"
)

const stopPatience = 15 * time.Second // for a clean stop: 5 s are promised, the machine may be busy

func processFaults() []fault {
	return []fault{
		{"kill", ofProcess, 10, func(r *rand.Rand) act {
			v, away := drawVictim(r), between(r, 0, 5*time.Second)
			return act{fmt.Sprintf("%s, away %v", v, away), func(ctx context.Context, l *load) error {
				return outOf(ctx, l, []*node{v.find(ctx, l.s)}, away, (*node).kill)
			}}
		}},
		{"kill-some", ofProcess, 4, func(r *rand.Rand) act {
			who, away := some(r, 2+r.IntN(nodeCount-2)), between(r, 0, 6*time.Second)
			return act{fmt.Sprintf("%s, away %v", namesOf(who), away), func(ctx context.Context, l *load) error {
				return outOf(ctx, l, l.pick(who), away, (*node).kill)
			}}
		}},
		{"kill-all", ofProcess, 4, func(r *rand.Rand) act {
			order, away := some(r, nodeCount), between(r, 0, time.Second)
			return act{fmt.Sprintf("start as %s, after %v", namesOf(order), away), func(ctx context.Context, l *load) error {
				return outOf(ctx, l, l.pick(order), away, (*node).kill)
			}}
		}},
		{"kill-loop", ofProcess, 3, func(r *rand.Rand) act {
			v, times := drawVictim(r), 3+r.IntN(4)
			alive := between(r, 50*time.Millisecond, 1500*time.Millisecond)
			return act{fmt.Sprintf("%s %d times, alive %v", v, times, alive), func(ctx context.Context, l *load) error {
				n := v.find(ctx, l.s)
				for range times {
					if err := outOf(ctx, l, []*node{n}, 0, (*node).kill); err != nil || !every(ctx, alive) {
						return err
					}
				}
				return nil
			}}
		}},
		{"rolling-restart", ofProcess, 3, func(r *rand.Rand) act {
			order, gap := some(r, nodeCount), between(r, 500*time.Millisecond, 3*time.Second)
			return act{fmt.Sprintf("%s, %v apart", namesOf(order), gap), func(ctx context.Context, l *load) error {
				for _, n := range l.pick(order) {
					if err := outOf(ctx, l, []*node{n}, 0, (*node).terminate); err != nil || !every(ctx, gap) {
						return err
					}
				}
				return nil
			}}
		}},
		{"freeze", ofProcess, 8, func(r *rand.Rand) act {
			v, d := drawVictim(r), between(r, time.Second, 15*time.Second)
			if r.IntN(2) == 0 {
				d = between(r, 500*time.Millisecond, 3*time.Second)
			}
			return act{fmt.Sprintf("%s for %v", v, d), func(ctx context.Context, l *load) error {
				n := v.find(ctx, l.s)
				if err := n.freeze(); err != nil {
					return err
				}
				every(ctx, d)
				return n.thaw()
			}}
		}},
		{"freeze-some", ofProcess, 3, func(r *rand.Rand) act {
			who, d := some(r, 2+r.IntN(2)), between(r, 500*time.Millisecond, 6*time.Second)
			return act{fmt.Sprintf("%s for %v", namesOf(who), d), func(ctx context.Context, l *load) error {
				var errs []error
				for _, n := range l.pick(who) {
					errs = append(errs, n.freeze())
				}
				every(ctx, d)
				for _, n := range l.pick(who) {
					errs = append(errs, n.thaw())
				}
				return errors.Join(errs...)
			}}
		}},
		{"transfer", ofProcess, 4, func(r *rand.Rand) act {
			times, gap := 1+r.IntN(6), between(r, 0, time.Second)
			return act{fmt.Sprintf("%d times, %v apart", times, gap), func(ctx context.Context, l *load) error {
				for i := range times {
					// It may be refused: what counts is that the cluster goes on.
					err := l.s.nodes[i%nodeCount].admin(3*time.Second).TransferLeader(ctx, "")
					l.s.record.step("  transfer: %v", err)
					if !every(ctx, gap) {
						break
					}
				}
				return nil
			}}
		}},
	}
}

// pick returns nodes by their numbers.
func (l *load) pick(numbers []int) (nodes []*node) {
	for _, i := range numbers {
		nodes = append(nodes, l.s.nodes[i])
	}
	return nodes
}

// terminate ends the agent as an operator does.
func (n *node) terminate() error {
	if err := n.thaw(); err != nil {
		return err
	}
	return n.end(syscall.SIGTERM, stopPatience)
}

// outOf stops nodes and starts them again, in this order.
func outOf(ctx context.Context, l *load, nodes []*node, away time.Duration, stop func(*node) error) error {
	var errs []error
	for _, n := range nodes {
		l.s.record.step("  stop %s", n.name)
		errs = append(errs, stop(n))
	}
	every(ctx, away)
	for _, n := range nodes {
		l.s.record.step("  start %s", n.name)
		errs = append(errs, n.start())
	}
	return errors.Join(errs...)
}

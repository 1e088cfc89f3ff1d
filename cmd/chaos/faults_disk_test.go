package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"syscall"
	"time"
)

// powerCut kills the agent and takes its disk back to what was fsynced.
func (l *load) powerCut(n *node, r *rand.Rand) error {
	if err := n.kill(); err != nil {
		return err
	}
	account, err := n.disk.powerCut(r)
	l.s.record.step("  power of %s is cut: %s", n.name, account)
	return err
}

func diskFaults() []fault {
	faults := []fault{
		{"power-cut", ofProcess, 8, func(r *rand.Rand) act {
			v, away, seed := drawVictim(r), between(r, 0, 3*time.Second), r.Uint64()
			return act{fmt.Sprintf("%s, away %v", v, away), func(ctx context.Context, l *load) error {
				r := rand.New(rand.NewPCG(seed, 0))
				return outOf(ctx, l, []*node{v.find(ctx, l.s)}, away, func(n *node) error { return l.powerCut(n, r) })
			}}
		}},
		{"power-cut-all", ofProcess, 8, func(r *rand.Rand) act {
			order, seed := some(r, nodeCount), r.Uint64()
			return act{"start as " + namesOf(order), func(ctx context.Context, l *load) error {
				r := rand.New(rand.NewPCG(seed, 0))
				nodes := l.pick(order)
				var errs []error
				for _, n := range nodes {
					errs = append(errs, n.freeze()) // the power goes at once for all, killing takes a while
				}
				return errors.Join(append(errs, outOf(ctx, l, nodes, 0, func(n *node) error { return l.powerCut(n, r) }))...)
			}}
		}},
	}
	ail := func(name string, weight int, draw func(r *rand.Rand) (string, ailments)) {
		faults = append(faults, fault{name, ofDisk, weight, func(r *rand.Rand) act {
			what, a := draw(r)
			v, d, cut, seed := drawVictim(r), between(r, time.Second, 10*time.Second), r.IntN(4) == 0, r.Uint64()
			if cut {
				what += ", then the power goes"
			}
			return act{fmt.Sprintf("%s at %s for %v", what, v, d), func(ctx context.Context, l *load) error {
				n := v.find(ctx, l.s)
				n.disk.ail(a)
				every(ctx, d)
				if cut {
					r := rand.New(rand.NewPCG(seed, 0))
					return outOf(ctx, l, []*node{n}, 0, func(n *node) error { return l.powerCut(n, r) })
				}
				n.disk.ail(ailments{})
				return nil
			}}
		}})
	}
	part := func(r *rand.Rand) (string, float64) {
		if r.IntN(2) == 0 {
			return "all", 0
		}
		f := 0.05 + 0.5*r.Float64()
		return fmt.Sprintf("%.0f %% of the", f*100), f
	}
	ail("write-error", 4, func(r *rand.Rand) (string, ailments) {
		words, f := part(r)
		return words + " writes fail", ailments{write: syscall.EIO, failing: f}
	})
	ail("sync-error", 4, func(r *rand.Rand) (string, ailments) {
		words, f := part(r)
		return words + " fsyncs fail", ailments{sync: syscall.EIO, failing: f}
	})
	ail("full", 3, func(r *rand.Rand) (string, ailments) {
		if r.IntN(2) == 0 {
			return "no file can grow", ailments{full: true}
		}
		return "no room for any write", ailments{write: syscall.ENOSPC}
	})
	ail("slow-sync", 4, func(r *rand.Rand) (string, ailments) {
		most := between(r, 100*time.Millisecond, 5*time.Second)
		return fmt.Sprintf("fsyncs take up to %v", most), ailments{syncTime: most}
	})
	ail("forgetful-sync", 4, func(r *rand.Rand) (string, ailments) {
		words, f := part(r)
		return words + " fsyncs fail, and later ones do not make up for them", ailments{sync: syscall.EIO, failing: f, forget: true}
	})
	ail("hung-sync", 4, func(*rand.Rand) (string, ailments) { return "fsyncs hang", ailments{hang: true} })
	return faults
}

func clockFaults() []fault {
	return []fault{{"clock", ofClock, 5, func(r *rand.Rand) act {
		scale := []time.Duration{10 * time.Second, time.Hour, 36 * time.Hour, 60 * 24 * time.Hour, 3 * 365 * 24 * time.Hour}[r.IntN(5)]
		by := between(r, -scale, scale).Truncate(time.Second)
		who, d := some(r, 1+r.IntN(2)*r.IntN(nodeCount)), between(r, time.Second, 10*time.Second)
		return act{fmt.Sprintf("%s wrong by %v for %v", namesOf(who), by, d), func(ctx context.Context, l *load) error {
			var errs []error
			for _, n := range l.pick(who) {
				errs = append(errs, n.clock.set(by))
			}
			every(ctx, d)
			for _, n := range l.pick(who) {
				errs = append(errs, n.clock.set(0))
			}
			return errors.Join(errs...)
		}}
	}}}
}

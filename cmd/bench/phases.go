package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// A phase is what goes on while requests are made. A request belongs to the highest phase that it has seen.
type phase int32

const (
	quiet     phase = iota
	between         // does not count
	disturbed       // what is measured goes on
	allPhases
)

// phases counts requests by phase. The zero value is quiet.
type phases struct {
	now atomic.Int32

	mu     sync.Mutex // guards what follows
	counts [allPhases]histogram
	lates  [allPhases]histogram // by how much callers with a pace woke up late
}

func (p *phases) set(to phase) { p.now.Store(int32(to)) }

// of returns what was counted of a phase. run must have ended.
func (p *phases) of(which phase) *histogram { return &p.counts[which] }

// late returns by how much the callers' own timers were late in a phase. run must have ended.
func (p *phases) late(which phase) *histogram { return &p.lates[which] }

// run lets callers call until ctx ends, and closes them. With a pace, each caller begins one request in each such
// time, or at once when the one before has taken that long, and then the delay counts as time that the request took.
func (p *phases) run(ctx context.Context, callers []caller, pace time.Duration) error {
	failures := make([]error, len(callers))
	var tasks sync.WaitGroup
	for i, c := range callers {
		tasks.Go(func() {
			defer c.close()
			// Spread over the pace, as clients are that know nothing of each other.
			first := time.Now().Add(pace * time.Duration(i) / time.Duration(len(callers)))
			failures[i] = p.runOne(ctx, c, random(i), pace, first)
		})
	}
	tasks.Wait()
	return errors.Join(failures...)
}

func (p *phases) runOne(ctx context.Context, c caller, r *rand.Rand, pace time.Duration, next time.Time) error {
	var counts, lates [allPhases]histogram
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		for i := range counts {
			p.counts[i].merge(&counts[i])
			p.lates[i].merge(&lates[i])
		}
	}()
	for ctx.Err() == nil {
		begin := time.Now()
		if pace > 0 {
			if begin.Before(next) {
				slept := p.now.Load()
				if wait(ctx, next); ctx.Err() != nil {
					return nil
				}
				begin = time.Now() // a timer that is late is not the server's fault
				lates[max(slept, p.now.Load())].add(begin.Sub(next))
			} else {
				begin = next
			}
			next = next.Add(pace)
		}
		at := p.now.Load()
		if err := c.call(r); err != nil {
			return err
		}
		counts[max(at, p.now.Load())].add(time.Since(begin))
	}
	return nil
}

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

	mu     sync.Mutex // guards counts
	counts [allPhases]histogram
}

func (p *phases) set(to phase) { p.now.Store(int32(to)) }

// of returns what was counted of a phase. run must have ended.
func (p *phases) of(which phase) *histogram { return &p.counts[which] }

// run lets callers call until ctx ends, and closes them. With a pace, each caller begins one request in each such
// time, or at once when it is late, and what it is late by counts as time that the request took.
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
	var counts [allPhases]histogram
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		for i := range counts {
			p.counts[i].merge(&counts[i])
		}
	}()
	for ctx.Err() == nil {
		begin := time.Now()
		if pace > 0 {
			if begin.Before(next) {
				if wait(ctx, next); ctx.Err() != nil {
					return nil
				}
				begin = time.Now() // a timer that is late is not the server's fault
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

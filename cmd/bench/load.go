package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"
)

// A caller makes one request and waits for its reply, which it checks. It belongs to one goroutine.
type caller interface {
	call(r *rand.Rand) error
	close()
}

// A sample is what one run of callers has seen.
type sample struct {
	Rate   float64       `json:"rate"` // requests per second
	P50    time.Duration `json:"p50_ns"`
	P99    time.Duration `json:"p99_ns"`
	P999   time.Duration `json:"p999_ns"`
	Max    time.Duration `json:"max_ns"`
	CPU    time.Duration `json:"cpu_ns"` // of the server, for each request
	Memory int64         `json:"memory"` // of the server, bytes resident at the end
}

// warm is how long callers run before they are measured.
const warm = 300 * time.Millisecond

// load lets callers call in a closed loop for d, and closes them.
func load(ctx context.Context, callers []caller, d time.Duration, server processes) (sample, error) {
	defer func() {
		for _, c := range callers {
			c.close()
		}
	}()
	begin := time.Now().Add(warm)
	end := begin.Add(d)
	histograms := make([]histogram, len(callers))
	failures := make([]error, len(callers))
	var before, after time.Duration
	var cpuErr error
	var tasks sync.WaitGroup
	tasks.Go(func() {
		var err error
		wait(ctx, begin)
		before, cpuErr = server.cpu()
		wait(ctx, end)
		after, err = server.cpu()
		cpuErr = errors.Join(cpuErr, err)
	})
	for i, c := range callers {
		tasks.Go(func() {
			r := random(i)
			for now := time.Now(); now.Before(end) && ctx.Err() == nil; {
				if err := c.call(r); err != nil {
					failures[i] = err
					return
				}
				done := time.Now()
				if now.After(begin) && done.Before(end) {
					histograms[i].add(done.Sub(now))
				}
				now = done
			}
		})
	}
	tasks.Wait()
	if err := errors.Join(append(failures, cpuErr, ctx.Err())...); err != nil {
		return sample{}, err
	}
	all := &histograms[0]
	for i := range histograms[1:] {
		all.merge(&histograms[i+1])
	}
	if all.total == 0 {
		return sample{}, fmt.Errorf("no request of %d callers was answered within %v", len(callers), d)
	}
	memory, err := server.memory()
	return sample{
		Rate: float64(all.total) / d.Seconds(),
		P50:  all.quantile(.5), P99: all.quantile(.99), P999: all.quantile(.999), Max: all.max,
		CPU: (after - before) / time.Duration(all.total), Memory: memory,
	}, err
}

func wait(ctx context.Context, until time.Time) {
	timer := time.NewTimer(time.Until(until))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// open makes n callers.
func open(n int, dial func(i int) (caller, error)) (callers []caller, err error) {
	for i := range n {
		c, err := dial(i)
		if err != nil {
			for _, c := range callers {
				c.close()
			}
			return nil, err
		}
		callers = append(callers, c)
	}
	return callers, nil
}

// random returns a source of numbers, the same ones each time for each caller.
func random(nth int) *rand.Rand { return rand.New(rand.NewPCG(uint64(nth), 1)) }

package main

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// A contestant is one of those that are compared.
type contestant struct {
	name string
	run  func(ctx context.Context, d time.Duration) (sample, error)
}

// inTurn measures all contestants, o.rounds times.
func inTurn(l *lab, o options, contestants []contestant) (map[string][]sample, error) {
	lists, err := takeTurns(o.rounds, len(contestants), func(i int) (sample, error) {
		c := contestants[i]
		s, err := c.run(l.ctx, o.time)
		if err != nil {
			return sample{}, fmt.Errorf("%s: %w", c.name, err)
		}
		l.say("  %-24s %10.0f/s  p99 %v", c.name, s.Rate, s.P99)
		return s, nil
	})
	samples := map[string][]sample{}
	for i, list := range lists {
		samples[contestants[i].name] = list
	}
	return samples, err
}

// takeTurns measures n things, round by round, so that what else the machine does meets them alike. Each round begins
// with another. It returns what was measured of each.
func takeTurns[T any](rounds, n int, measure func(i int) (T, error)) ([][]T, error) {
	results := make([][]T, n)
	for round := range rounds {
		for i := range n {
			at := (i + round) % n
			result, err := measure(at)
			if err != nil {
				return nil, fmt.Errorf("round %d: %w", round+1, err)
			}
			results[at] = append(results[at], result)
		}
	}
	return results, nil
}

// A spread is the median of some figures, with the lowest and the highest.
type spread struct{ Median, Low, High float64 }

func spreadOf(figures []float64) spread {
	if len(figures) == 0 {
		return spread{}
	}
	sorted := slices.Sorted(slices.Values(figures))
	n := len(sorted)
	return spread{(sorted[(n-1)/2] + sorted[n/2]) / 2, sorted[0], sorted[n-1]}
}

// of collects one figure of all that was measured.
func of[T any](list []T, figure func(T) float64) spread {
	var figures []float64
	for _, one := range list {
		figures = append(figures, figure(one))
	}
	return spreadOf(figures)
}

func rate(samples []sample) spread { return of(samples, rates) }

func durations(samples []sample, figure func(sample) time.Duration) spread {
	return of(samples, func(s sample) float64 { return float64(figure(s)) })
}

func p50(s sample) time.Duration  { return s.P50 }
func p99(s sample) time.Duration  { return s.P99 }
func p999(s sample) time.Duration { return s.P999 }
func cpu(s sample) time.Duration  { return s.CPU }

// ratio compares two contestants pair by pair: the figures of one round belong together.
func ratio[T any](of, to []T, figure func(T) float64) spread {
	var ratios []float64
	for i := range min(len(of), len(to)) {
		ratios = append(ratios, figure(of[i])/figure(to[i]))
	}
	return spreadOf(ratios)
}

func rates(s sample) float64 { return s.Rate }
func tails(s sample) float64 { return float64(s.P99) }

package main

import (
	"cmp"
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

// inTurn measures all contestants, round by round, so that what else the machine does meets them alike. Each round
// begins with another.
func inTurn(l *lab, o options, contestants []contestant) (map[string][]sample, error) {
	samples := map[string][]sample{}
	for round := range o.rounds {
		for i := range contestants {
			c := contestants[(i+round)%len(contestants)]
			s, err := c.run(l.ctx, o.time)
			if err != nil {
				return nil, fmt.Errorf("%s, round %d: %w", c.name, round+1, err)
			}
			samples[c.name] = append(samples[c.name], s)
			l.say("  %-24s %10.0f/s  p99 %v", c.name, s.Rate, s.P99)
		}
	}
	return samples, nil
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

// of collects one figure of all samples.
func of[F cmp.Ordered](samples []sample, figure func(sample) F, as func(F) float64) spread {
	var figures []float64
	for _, s := range samples {
		figures = append(figures, as(figure(s)))
	}
	return spreadOf(figures)
}

func rate(samples []sample) spread {
	return of(samples, func(s sample) float64 { return s.Rate }, func(f float64) float64 { return f })
}

func durations(samples []sample, figure func(sample) time.Duration) spread {
	return of(samples, figure, func(d time.Duration) float64 { return float64(d) })
}

func p50(s sample) time.Duration  { return s.P50 }
func p99(s sample) time.Duration  { return s.P99 }
func p999(s sample) time.Duration { return s.P999 }
func cpu(s sample) time.Duration  { return s.CPU }

// ratio compares two contestants pair by pair: the figures of one round belong together.
func ratio(of, to []sample, figure func(sample) float64) spread {
	var ratios []float64
	for i := range min(len(of), len(to)) {
		ratios = append(ratios, figure(of[i])/figure(to[i]))
	}
	return spreadOf(ratios)
}

func rates(s sample) float64 { return s.Rate }
func tails(s sample) float64 { return float64(s.P99) }

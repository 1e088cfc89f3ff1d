package cluster

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestGathering ensures that who comes alone is not kept waiting, that those who were served together, and those who
// came meanwhile, are awaited, and that this ends when not all of them come.
func TestGathering(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		g := newGathering()
		var there atomic.Int64
		began := make(chan bool, 1)
		var full atomic.Bool
		wait := func() { began <- g.wait(ctx, func() (int, bool) { return int(there.Load()), full.Load() }) }
		come := func() { g.came(int(there.Add(1)), full.Load()) }
		round := func(took time.Duration, count, waiting int) {
			g.begin()
			time.Sleep(took)
			there.Store(int64(waiting))
			g.end(count, waiting, 1)
			go wait()
		}
		want := func(what string, begins bool) {
			t.Helper()
			synctest.Wait()
			if begins != (len(began) > 0) {
				t.Fatalf("%s: a round begins: %v", what, !begins)
			}
			if begins {
				<-began
			}
		}
		go wait()
		want("nobody", false)
		come()
		want("the first", true)
		round(40*time.Millisecond, 2, 1)
		want("one of three", false)
		come()
		want("two of three", false)
		come()
		want("all three", true)
		round(40*time.Millisecond, 3, 1)
		time.Sleep(9 * time.Millisecond)
		want("one of four", false)
		time.Sleep(2 * time.Millisecond)
		want("one of four, after a quarter of the round", true)
		round(10*time.Second, 3, 1)
		time.Sleep(60 * time.Millisecond)
		want("one of four, after a round without leader", true)
		round(time.Second, 3, 0)
		time.Sleep(time.Hour)
		want("nobody", false)
		come()
		want("one of three, late", true)
		round(time.Second, 5, 1)
		want("one of six", false)
		full.Store(true)
		come()
		want("two of six, who fill the round", true)
		full.Store(false)
		round(time.Second, 0, 0) // none of them comes back
		come()
		want("the first one after that", true)
		round(time.Second, 1, 0)
		cancel()
		synctest.Wait()
		if <-began {
			t.Error("a round begins at the end")
		}
	})
}

// A mill is where several come again and again, as soon as they were served and after a while of their own.
type mill struct {
	round time.Duration
	away  []time.Duration
	busy  chan struct{} // held by whoever works; nil: all work at the same time
}

func (m *mill) work(d time.Duration) {
	if m.busy != nil {
		m.busy <- struct{}{}
		defer func() { <-m.busy }()
	}
	time.Sleep(d)
}

// run returns how many were served, in how many rounds.
func (m *mill) run(t *testing.T, d time.Duration) (served, rounds int) {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	g := newGathering()
	waiting := make(chan chan struct{}, len(m.away))
	var all sync.WaitGroup
	defer all.Wait()
	for _, away := range m.away {
		all.Go(func() {
			done := make(chan struct{}, 1)
			for ctx.Err() == nil {
				m.work(away)
				waiting <- done
				g.came(len(waiting), false)
				select {
				case <-done:
				case <-ctx.Done():
				}
			}
		})
	}
	for g.wait(ctx, func() (int, bool) { return len(waiting), false }) {
		var batch []chan struct{}
		for range len(waiting) {
			batch = append(batch, <-waiting)
		}
		g.begin()
		m.work(m.round)
		for _, done := range batch {
			done <- struct{}{}
		}
		g.end(len(batch), len(waiting), len(batch))
		served += len(batch)
		rounds++
	}
	return served, rounds
}

// TestGathering_Busy ensures that where rounds and writers share a processor, all who take part share a round.
func TestGathering_Busy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &mill{round: time.Millisecond, away: []time.Duration{200 * time.Microsecond, 400 * time.Microsecond, 400 * time.Microsecond}, busy: make(chan struct{}, 1)}
		served, rounds := m.run(t, 10*time.Second)
		if each := float64(served) / float64(rounds); each < 2.8 {
			t.Errorf("%d were served in %d rounds, %.2f in each: want nearly all three", served, rounds, each)
		}
	})
}

// TestGathering_Far ensures that who is near is not kept waiting for who is as far away as a round takes.
func TestGathering_Far(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &mill{round: 50 * time.Millisecond, away: []time.Duration{time.Millisecond, 60 * time.Millisecond}}
		served, rounds := m.run(t, 100*time.Second)
		// With both in each round it would be 1,800 in 900 rounds.
		if served < 2400 {
			t.Errorf("%d were served in %d rounds", served, rounds)
		}
	})
}

// TestGathering_Strangers ensures that where who comes has nothing to do with who was served, nobody is kept waiting for
// long: it could not carry more.
func TestGathering_Strangers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const round = time.Millisecond
		r := rand.New(rand.NewPCG(1, 2))
		ctx, cancel := context.WithCancel(t.Context())
		g := newGathering()
		waiting := make(chan time.Time, 1000)
		go func() {
			defer cancel()
			for range 40_000 {
				time.Sleep(time.Duration(r.ExpFloat64() * float64(round)))
				waiting <- time.Now()
				g.came(len(waiting), false)
			}
		}()
		var total time.Duration
		served := 0
		for g.wait(ctx, func() (int, bool) { return len(waiting), false }) {
			var batch []time.Time
			for range len(waiting) {
				batch = append(batch, <-waiting)
			}
			g.begin()
			time.Sleep(round)
			for _, came := range batch {
				total += time.Since(came)
			}
			served += len(batch)
			g.end(len(batch), len(waiting), len(batch))
		}
		// Without any waiting it would be 1.5, with as much as patience has 2.1.
		if rounds := float64(total) / float64(served) / float64(round); rounds > 1.8 {
			t.Errorf("who comes waits for %.2f rounds", rounds)
		}
	})
}

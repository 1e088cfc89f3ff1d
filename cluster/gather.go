package cluster

import (
	"context"
	"sync/atomic"
	"time"
)

// A gathering decides when what waits sets out. Those who were served together come back together, so a round that waits
// for them carries what would else be several, and a round costs more than a write in it. Who comes alone is not kept
// waiting.
//
// For how long to wait depends on what a round costs. Where rounds keep processors or disks busy, the fewer the better;
// where they are mostly the way to other hosts and back, who is there had better set out while others are on their way. So
// now and then some rounds are made the other way, and what carries more in a second is kept.
//
// It belongs to one goroutine, but for came.
type gathering struct {
	wake  chan struct{}
	want  atomic.Int64 // how many are waited for
	timer *time.Timer
	began time.Time     // of the round
	took  time.Duration // the last round
	until time.Time     // nobody is waited for longer

	patient bool    // what carried more in the last trial
	trial   bool    // the other way is being tried
	rate    float64 // without trial, in load per nanosecond
	next    int     // spells until the next trial
	pause   int     // spells between trials

	// The spell, which is some rounds that are judged together.
	since  time.Time
	rounds int
	load   int
}

const (
	spellRounds = 16

	// Spells between two trials: fewer at first, and the more the longer it stays as it is.
	pauseLeast = 2
	pauseMost  = 64

	better = 1.05 // so much more makes a difference

	// Others are waited for at most as many times the last round, and not when for the time of a round nobody came.
	patience   = 4
	impatience = 0.25
	waitMost   = 50 * time.Millisecond // the round may have taken so long because there was no leader

	idleRounds = 8 // who waited for the first to come for so many rounds was idle
)

func newGathering() *gathering {
	return &gathering{wake: make(chan struct{}, 1), timer: time.NewTimer(time.Hour), next: pauseLeast, pause: pauseLeast}
}

// came tells that there is one more, and how many that makes. Any goroutine may call it.
func (g *gathering) came(count int) {
	if count > 1 && int64(count) < g.want.Load() {
		return
	}
	select {
	case g.wake <- struct{}{}:
	default:
	}
}

// begin tells that a round begins.
func (g *gathering) begin() { g.began = time.Now() }

// end tells that the round has ended, how many were in it, how many wait already, and how much it carried, in any unit.
func (g *gathering) end(count, waiting, load int) {
	now := time.Now()
	g.took = now.Sub(g.began)
	g.rounds++
	g.load += load
	if g.rounds == spellRounds {
		g.judge(float64(g.load) / float64(max(now.Sub(g.since), 1)))
		g.spell(now)
	}
	share := impatience
	if g.patient != g.trial {
		share = patience
	}
	g.until = now.Add(min(time.Duration(share*float64(g.took)), waitMost))
	g.want.Store(int64(count + waiting))
}

// spell begins with the next rounds that are judged.
func (g *gathering) spell(now time.Time) { g.since, g.rounds, g.load = now, 0, 0 }

// judge draws the conclusion from a spell.
func (g *gathering) judge(rate float64) {
	switch {
	case !g.trial:
		if g.rate == 0 {
			g.rate = rate
		}
		g.rate = (g.rate + rate) / 2
		g.next--
		g.trial = g.next <= 0
		return
	case rate > g.rate*better:
		g.patient, g.rate, g.pause = !g.patient, rate, pauseLeast
	default:
		g.pause = min(2*g.pause, pauseMost)
	}
	g.trial, g.next = false, g.pause
}

// wait returns true when a round is to begin, false when ctx has ended. waiting tells how many wait.
func (g *gathering) wait(ctx context.Context, waiting func() int) bool {
	began := time.Now()
	for n := waiting(); n == 0; n = waiting() {
		select {
		case <-g.wake:
		case <-ctx.Done():
			return false
		}
	}
	if now := time.Now(); now.Sub(began) > idleRounds*g.took {
		g.spell(now) // what was carried while there was nothing to carry tells nothing
	}
	for {
		n := waiting()
		left := time.Until(g.until)
		if int64(n) >= g.want.Load() || left <= 0 {
			return true
		}
		g.timer.Reset(min(left, g.took))
		select {
		case <-g.wake:
		case <-g.timer.C:
			if waiting() == n {
				return true
			}
		case <-ctx.Done():
			return false
		}
	}
}

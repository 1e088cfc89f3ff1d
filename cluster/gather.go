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
// where they are mostly the way to other hosts and back, or where who comes has nothing to do with who was served, who is
// there had better set out. So now and then some rounds are made the other way, and patience stays as long as it carries
// more in a second.
//
// It belongs to one goroutine, but for came.
type gathering struct {
	wake  chan struct{}
	want  atomic.Int64 // how many are waited for
	timer *time.Timer
	began time.Time     // of the round
	took  time.Duration // the last round
	until time.Time     // nobody is waited for longer

	patient bool    // patience carried more in the last trial
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
	spellRounds = 32

	// Spells between two trials: few at first and after a change, and the more the longer it stays as it is. Patience that
	// was of no use is not tried again soon.
	pauseLeast   = 2
	pauseUseless = 8
	pauseMost    = 64

	begins = 1.05 // so much more patience has to carry to be begun with; to be kept, just more

	changes = 1.5 // with so much more or less to carry, what was learned is of another time

	// Others are waited for at most as many times the last round, and not when for the time of a round nobody came.
	patience   = 4
	impatience = 0.25
	waitMost   = 50 * time.Millisecond // the round may have taken so long because there was no leader

	idleRounds = 8 // who waited for the first to come for so many rounds was idle
)

func newGathering() *gathering {
	return &gathering{wake: make(chan struct{}, 1), timer: time.NewTimer(time.Hour), next: pauseLeast, pause: pauseLeast}
}

// came tells that there is one more, how many that makes, and whether it makes a round full. Any goroutine may call it.
func (g *gathering) came(count int, full bool) {
	if !full && count > 1 && int64(count) < g.want.Load() {
		return
	}
	select {
	case g.wake <- struct{}{}:
	default:
	}
}

// begin tells that a round begins.
func (g *gathering) begin() { g.began = time.Now() }

// end tells that the round has ended, how many of those in it may come back, how many that can be in the next one wait
// already, and how much it carried, in any unit: 0 where that tells nothing of other rounds.
func (g *gathering) end(back, waiting, load int) {
	now := time.Now()
	g.took = now.Sub(g.began)
	g.rounds++
	g.load += load
	switch {
	case load == 0:
		g.spell(now)
	case g.rounds == spellRounds:
		g.judge(float64(g.load) / float64(max(now.Sub(g.since), 1)))
		g.spell(now)
	}
	share := impatience
	if g.patient != g.trial {
		share = patience
	}
	g.until = now.Add(min(time.Duration(share*float64(g.took)), waitMost))
	g.want.Store(int64(back + waiting))
}

// spell begins with the next rounds that are judged.
func (g *gathering) spell(now time.Time) { g.since, g.rounds, g.load = now, 0, 0 }

// judge draws the conclusion from a spell.
func (g *gathering) judge(rate float64) {
	if !g.trial {
		if rate > g.rate*changes || rate < g.rate/changes {
			g.rate, g.pause, g.next = rate, pauseLeast, pauseLeast
		}
		g.rate = (g.rate + rate) / 2
		g.next--
		g.trial = g.next <= 0
		return
	}
	switch {
	case !g.patient && rate > g.rate*begins:
		g.patient, g.rate, g.pause = true, rate, pauseLeast
	case g.patient && rate > g.rate:
		g.patient, g.rate, g.pause = false, rate, pauseUseless
	default:
		g.pause = min(2*g.pause, pauseMost)
	}
	g.trial, g.next = false, g.pause
}

// wait returns true when a round is to begin, false when ctx has ended. next tells how many of those who wait can be in it,
// and whether it is full: nobody else can.
func (g *gathering) wait(ctx context.Context, next func() (count int, full bool)) bool {
	began := time.Now()
	for {
		if n, _ := next(); n > 0 {
			break
		}
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
		n, full := next()
		left := time.Until(g.until)
		if full || int64(n) >= g.want.Load() || left <= 0 {
			return true
		}
		g.timer.Reset(min(left, g.took))
		select {
		case <-g.wake:
		case <-g.timer.C:
			if now, _ := next(); now == n {
				return true
			}
		case <-ctx.Done():
			return false
		}
	}
}

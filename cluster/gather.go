package cluster

import (
	"context"
	"time"
)

// A gathering decides when what waits sets out. Those who were served together come back together: a few moments of
// patience after a round, until as many are there again, make one round of what would else be several, and a round costs
// more than a write in it. Who comes alone is not kept waiting.
//
// It belongs to one goroutine, but for came.
type gathering struct {
	wake  chan struct{}
	want  int       // how many are waited for
	until time.Time // but not longer
	began time.Time // of the round
	timer *time.Timer
}

const (
	// gatherMost is how many are worth waiting for: with more the round is a small part of the cost, and it had better
	// begin while others come.
	gatherMost = 24

	// A round is awaited for so large a part of the time that the last one took.
	gatherShare = 4
)

func newGathering() *gathering {
	return &gathering{wake: make(chan struct{}, 1), timer: time.NewTimer(time.Hour)}
}

// came tells that there is one more. Any goroutine may call it.
func (g *gathering) came() {
	select {
	case g.wake <- struct{}{}:
	default:
	}
}

// begin tells that a round begins.
func (g *gathering) begin() { g.began = time.Now() }

// end tells that the round has ended, and how many were in it.
func (g *gathering) end(count int) {
	now := time.Now()
	g.want, g.until = min(count, gatherMost), now.Add(now.Sub(g.began)/gatherShare)
}

// wait returns true when a round is to begin, false when ctx has ended. waiting tells how many wait.
func (g *gathering) wait(ctx context.Context, waiting func() int) bool {
	for {
		n := waiting()
		left := time.Duration(0)
		if n > 0 {
			if n >= g.want {
				return true
			}
			if left = time.Until(g.until); left <= 0 {
				return true
			}
			g.timer.Reset(left)
		}
		select {
		case <-g.wake:
		case <-g.timer.C:
		case <-ctx.Done():
			return false
		}
	}
}

package handoff

import (
	"sync"
	"time"
)

// usage counts the clients of a front end, for max_idle and max_use.
type usage struct {
	maxIdle time.Duration // 0: never spent for idleness
	maxUse  int           // 0: never spent for use
	spent   chan struct{}

	mu    sync.Mutex // guards what follows
	now   int
	total int
	idle  *time.Timer // runs while now is 0 and maxIdle is set
	over  bool
}

func newUsage(maxIdle time.Duration, maxUse int) *usage {
	u := &usage{maxIdle: maxIdle, maxUse: maxUse, spent: make(chan struct{})}
	u.mu.Lock()
	u.restLocked()
	u.mu.Unlock()
	return u
}

// begin counts a client that came. It returns true for the very first.
func (u *usage) begin() (first bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.now++
	u.total++
	if u.idle != nil {
		u.idle.Stop()
		u.idle = nil
	}
	return u.total == 1
}

// end counts n clients that went.
func (u *usage) end(n int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.now -= n
	u.restLocked()
}

func (u *usage) restLocked() {
	if u.now > 0 || u.over {
		return
	}
	if u.maxUse > 0 && u.total >= u.maxUse {
		u.overLocked()
		return
	}
	if u.maxIdle > 0 && u.idle == nil {
		u.idle = time.AfterFunc(u.maxIdle, func() {
			u.mu.Lock()
			defer u.mu.Unlock()
			if u.now == 0 && u.idle != nil && !u.over {
				u.overLocked()
			}
		})
	}
}

func (u *usage) overLocked() {
	u.over = true
	close(u.spent)
}

// stop ends the timer.
func (u *usage) stop() {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.idle != nil {
		u.idle.Stop()
		u.idle = nil
	}
}

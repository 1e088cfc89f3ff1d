package chaos

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// errViolation ends a run whose checks found something.
var errViolation = errors.New("an invariant does not hold")

// An operation is what a worker asked and what it was told.
type operation struct {
	began, took time.Duration // since the start of the run
	worker      string
	node        string
	what        string
	table, key  string
	value       string // written
	answer      string
}

func (o operation) String() string {
	return fmt.Sprintf("%9.3fs +%6.3fs %s at %s: %s %s %s %s -> %s",
		o.began.Seconds(), o.took.Seconds(), o.worker, o.node, o.what, o.table, o.key, o.value, o.answer)
}

// A record keeps what happened.
type record struct {
	start  time.Time
	cancel context.CancelCauseFunc

	operations atomic.Int64
	checks     atomic.Int64
	faults     atomic.Int64

	mu         sync.Mutex
	log        *os.File
	ring       []operation
	next       int
	steps      []string
	violations []string
	unknown    int           // histories that were too long to check
	slowest    time.Duration // recovery
}

const (
	ringSize     = 40000
	aroundKey    = 60 // operations that a violation shows
	mostReported = 5  // violations: those behind the first ones follow from them
)

func newRecord(log *os.File, cancel context.CancelCauseFunc) *record {
	return &record{start: time.Now(), cancel: cancel, log: log, ring: make([]operation, 0, ringSize)}
}

// now returns the time since the start.
func (r *record) now() time.Duration { return time.Since(r.start) }

func (r *record) add(o operation) {
	r.operations.Add(1)
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.ring) < ringSize {
		r.ring = append(r.ring, o)
		return
	}
	r.ring[r.next] = o
	r.next = (r.next + 1) % ringSize
}

// step notes what the schedule does.
func (r *record) step(format string, args ...any) {
	line := fmt.Sprintf("%9.3fs ", r.now().Seconds()) + fmt.Sprintf(format, args...)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.steps = append(r.steps, line)
	fmt.Fprintln(r.log, line)
}

// violate notes that an invariant does not hold and ends the run.
func (r *record) violate(invariant, table, key, format string, args ...any) {
	line := fmt.Sprintf("%9.3fs %s violated: ", r.now().Seconds(), invariant) + fmt.Sprintf(format, args...)
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.violations) >= mostReported {
		return
	}
	var around []string
	for i := range r.ring {
		if o := r.ring[(r.next+i)%len(r.ring)]; key != "" && o.table == table && o.key == key {
			around = append(around, "    "+o.String())
		}
	}
	if len(around) > aroundKey {
		around = around[len(around)-aroundKey:]
	}
	if len(around) > 0 {
		line += fmt.Sprintf("\n  operations on %s %s:\n", table, key) + strings.Join(around, "\n")
	}
	r.violations = append(r.violations, line)
	fmt.Fprintln(r.log, line)
	r.cancel(errViolation)
}

func (r *record) recovered(took time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.slowest = max(r.slowest, took)
}

// report returns the violations and the steps that led to them.
func (r *record) report() (violations, steps []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.violations, r.steps
}

package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"syscall"
	"time"
)

// ErrDamaged says that what is on disk is not what was written there. It does not pass by itself.
var ErrDamaged = errors.New("damaged")

var errClosed = errors.New("store is closed")

const (
	retryFirst = 50 * time.Millisecond
	retryMost  = time.Second
	slowMemory = 10 * time.Second // how long a slow write is held against the disk
)

// A Disk watches the writes of one data directory. Raft handles a failed write badly: it ends the process, or
// goes on with a wrong idea of its log. So a write that fails is tried again until it works, and meanwhile
// Health says what is wrong: raft stands still, lookups go on, and writes resume when there is room again.
//
// Its methods may be called from any goroutine.
type Disk struct {
	dir    string
	logger *slog.Logger
	ctx    context.Context
	cancel context.CancelFunc

	mu      sync.Mutex
	failing error
	since   time.Time         // of failing
	busy    map[int]time.Time // writes under way, and when they began
	next    int
	slowest time.Duration // the slowest write of late
	slowAt  time.Time
	damage  error
	damaged chan struct{} // closed when damage is set
}

// A Health is how the disk does now.
type Health struct {
	Failing error         // why writes fail; nil when they do not
	Since   time.Time     // since when
	Busy    time.Duration // how long the oldest write under way has taken so far
	Slowest time.Duration // the slowest write of the last ten seconds
}

func newDisk(dir string, logger *slog.Logger) *Disk {
	d := &Disk{dir: dir, logger: logger, busy: map[int]time.Time{}, damaged: make(chan struct{})}
	d.ctx, d.cancel = context.WithCancel(context.Background())
	return d
}

// Health returns how the disk does now.
func (d *Disk) Health() Health {
	d.mu.Lock()
	defer d.mu.Unlock()
	h := Health{Failing: d.failing, Since: d.since}
	for _, began := range d.busy {
		h.Busy = max(h.Busy, time.Since(began))
	}
	if time.Since(d.slowAt) < slowMemory {
		h.Slowest = d.slowest
	}
	return h
}

// Damaged is closed when something on disk was found damaged; Damage tells what.
func (d *Disk) Damaged() <-chan struct{} { return d.damaged }

// Damage returns what was found damaged, nil if nothing was.
func (d *Disk) Damage() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.damage
}

func (d *Disk) setDamage(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.damage == nil {
		d.damage = err
		close(d.damaged)
	}
}

// do runs a write, again and again while the disk fails it. It returns an error when that is not one of the
// disk's, and errClosed when the stores are closed meanwhile.
func (d *Disk) do(what string, write func() error) error { return d.repeat(what, write, ofDisk) }

// until is do for a write that nobody takes back: it is tried again whatever its error is.
func (d *Disk) until(what string, write func() error) error {
	return d.repeat(what, write, func(error) bool { return true })
}

func (d *Disk) repeat(what string, write func() error, again func(error) bool) error {
	for pause := retryFirst; ; pause = min(2*pause, retryMost) {
		done := d.begin()
		err := write()
		done()
		if err == nil || !again(err) {
			d.recovered()
			return err
		}
		d.fails(fmt.Errorf("%s in %s: %w", what, d.dir, err))
		select {
		case <-time.After(pause):
		case <-d.ctx.Done():
			return errClosed
		}
	}
}

// ofDisk reports whether an error came from the file system.
func ofDisk(err error) bool {
	var errno syscall.Errno
	return errors.As(err, &errno)
}

func (d *Disk) begin() (done func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	began, id := time.Now(), d.next
	d.next++
	d.busy[id] = began
	return func() {
		took := time.Since(began)
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.busy, id)
		if took >= d.slowest || time.Since(d.slowAt) >= slowMemory {
			d.slowest, d.slowAt = took, time.Now()
		}
	}
}

func (d *Disk) fails(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.failing == nil {
		d.since = time.Now()
		d.logger.Error("disk fails: writes wait until it works again", "err", err, "advice", advice(err))
	}
	d.failing = err
}

func (d *Disk) recovered() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.failing != nil {
		d.logger.Info("disk works again", "dir", d.dir, "failed_for", time.Since(d.since).Round(time.Millisecond))
		d.failing = nil
	}
}

func advice(err error) string {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return "make room on the file system; nothing needs a restart"
	}
	return "look at the disk; if it is broken, start this node with an empty data directory on another one"
}

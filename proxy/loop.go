package proxy

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// A turn says what a connection is waiting for, or why it came back from a loop to its goroutine.
type turn uint8

const (
	waiting  turn = iota // for the client
	again                // for another turn: there may be more to be done
	slow                 // a request is there that may take time
	gone                 // the client has gone
	long                 // a request is longer than MaxList
	late                 // the client is too slow
	shut                 // the connection belongs to another server by now
	recalled             // the connection's context has ended, or the server is closing
)

// A loop waits for the requests of many connections and answers lookups that cannot wait. A goroutine that reads by
// itself costs two more system calls for a request, because it looks for it too early and is woken by way of the
// poller, and a switch between goroutines; the loop asks the kernel once for all connections. It starts updates too, and
// is told when they are over: of many at once, for one command carries them. Everything that may take time is the business
// of the connection's own goroutine, which takes no part meanwhile: at any time a connection belongs to one of the two.
//
// A connection stays with epoll from its first wait to its end, edge triggered, so that going back and forth costs no
// system call. What comes while its goroutine has it is noted in missed.
type loop struct {
	epoll, wake int

	mu     sync.Mutex         // guards what follows, and of each conn what is called so there; who owns that reads it without
	conns  map[int32]*conn    // by descriptor
	timed  map[*conn]struct{} // those that are here and have a deadline
	scan   time.Time          // when to look for those whose time is up: at the first deadline or before; zero for never
	kicked []*conn            // to be recalled
	over   []*conn            // whose changes have an outcome
	ending bool

	ended chan struct{}
}

const (
	maxLoops = 16

	// maxReads bounds a turn: a client that sends without end must not keep the others waiting.
	maxReads = 8
)

// newLoops starts a loop for each processor, even if more goroutines may run.
func newLoops() ([]*loop, error) {
	var loops []*loop
	for range min(runtime.GOMAXPROCS(0), runtime.NumCPU(), maxLoops) {
		l, err := newLoop()
		if err != nil {
			endLoops(loops)
			return nil, err
		}
		loops = append(loops, l)
	}
	return loops, nil
}

func newLoop() (*loop, error) {
	l := &loop{conns: map[int32]*conn{}, timed: map[*conn]struct{}{}, ended: make(chan struct{})}
	var err error
	if l.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, fmt.Errorf("wait for requests: epoll_create: %w", err)
	}
	if l.wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		unix.Close(l.epoll)
		return nil, fmt.Errorf("wait for requests: eventfd: %w", err)
	}
	event := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(l.wake)}
	if err := unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, l.wake, &event); err != nil {
		unix.Close(l.epoll)
		unix.Close(l.wake)
		return nil, fmt.Errorf("wait for requests: epoll_ctl: %w", err)
	}
	go l.run() // endLoops awaits it
	return l, nil
}

// endLoops gives back what waits in the loops and waits until they have ended.
func endLoops(loops []*loop) {
	for _, l := range loops {
		l.mu.Lock()
		l.ending = true
		l.rouseLocked()
		l.mu.Unlock()
	}
	for _, l := range loops {
		<-l.ended
	}
}

// rouseLocked makes the loop look at what was asked of it.
func (l *loop) rouseLocked() {
	one := [8]byte{1} // a uint64 that is not zero in either byte order
	unix.Write(l.wake, one[:])
}

// wait leaves c to the loop until there is something for its goroutine, which calls it. A recalled connection stays
// until its replies are sent.
func (l *loop) wait(c *conn) (turn, error) {
	l.mu.Lock()
	switch {
	case c.change.update != nil && c.change.over.Load():
		l.mu.Unlock()
		return again, nil
	case l.ending || c.recalled.Load() && c.idle():
		l.mu.Unlock()
		return recalled, nil
	case c.missed:
		c.missed, c.unread = false, true
		if c.change.update == nil {
			l.mu.Unlock()
			return again, nil
		}
	}
	if err := l.listenLocked(c); err != nil {
		l.mu.Unlock()
		return gone, err
	}
	c.here = true
	if l.timeLocked(c) {
		l.rouseLocked()
	}
	l.mu.Unlock()
	return <-c.turns, nil
}

// tell tells that c's change has an outcome. Any goroutine may call it; it does not wait.
func (l *loop) tell(c *conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c.change.over.Store(true)
	if !c.here || l.ending {
		return // its goroutine looks for itself
	}
	if l.over = append(l.over, c); len(l.over) == 1 {
		l.rouseLocked()
	}
}

// listenLocked has epoll look for what c waits for.
func (l *loop) listenLocked(c *conn) error {
	want := uint32(unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLET)
	if len(c.out) > 0 {
		want = unix.EPOLLOUT | unix.EPOLLET // and nothing else: who does not listen has nothing to ask
	}
	if want == c.interest {
		return nil
	}
	op := unix.EPOLL_CTL_MOD // tells what is there already, as ADD does
	if c.interest == 0 {
		op = unix.EPOLL_CTL_ADD
	}
	event := unix.EpollEvent{Events: want, Fd: int32(c.fd)}
	if err := unix.EpollCtl(l.epoll, op, c.fd, &event); err != nil {
		return fmt.Errorf("wait for requests: epoll_ctl: %w", err)
	}
	c.interest, l.conns[int32(c.fd)] = want, c
	return nil
}

// timeLocked sees to c's deadline. It returns true if the loop has to look sooner than it would have.
func (l *loop) timeLocked(c *conn) bool {
	if c.deadline.Equal(c.due) {
		return false
	}
	c.due = c.deadline
	if c.due.IsZero() {
		delete(l.timed, c)
		return false
	}
	l.timed[c] = struct{}{}
	first := l.scan.IsZero() || c.due.Before(l.scan)
	if first {
		l.scan = c.due
	}
	return first
}

// forget ends what the loop has to do with c. c's goroutine calls it.
func (l *loop) forget(c *conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c.interest != 0 && l.conns[int32(c.fd)] == c {
		delete(l.conns, int32(c.fd))
		unix.EpollCtl(l.epoll, unix.EPOLL_CTL_DEL, c.fd, nil) // others may have the socket too, so to close it is not enough
	}
}

// recall gives c back to its goroutine, now or once its replies are sent. Any goroutine may call it.
func (l *loop) recall(c *conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c.recalled.Store(true)
	if !l.ending {
		l.kicked = append(l.kicked, c)
		l.rouseLocked()
	}
}

func (l *loop) run() {
	defer close(l.ended)
	takeShortTurns()
	events := make([]unix.EpollEvent, 128)
	var ready, more []*conn // more: those that want another turn
	for {
		n, err := unix.EpollWait(l.epoll, events, l.patience(len(more) > 0))
		if err != nil && !errors.Is(err, unix.EINTR) {
			panic(fmt.Sprintf("epoll_wait on our own descriptor: %v", err)) // EBADF, EFAULT, EINVAL: a bug
		}
		l.mu.Lock()
		more = append(more, l.over...)
		clear(l.over)
		l.over = l.over[:0]
		ready = l.readyLocked(ready[:0], more, events[:max(n, 0)])
		kicked := l.kicked
		l.kicked = nil
		ending, scan := l.ending, l.scan
		l.mu.Unlock()
		if ending {
			l.end()
			return
		}
		more = more[:0]
		for _, c := range ready {
			c.queued = false
			if l.serve(c) {
				more = append(more, c)
			}
		}
		for _, c := range kicked {
			l.release(c, recalled)
		}
		if len(ready) >= yieldFrom {
			yield()
		}
		if !scan.IsZero() {
			if now := time.Now(); !now.Before(scan) {
				l.expire(now)
			}
		}
	}
}

// readyLocked appends the connections that have a turn: those of more and of events that are still here.
func (l *loop) readyLocked(ready, more []*conn, events []unix.EpollEvent) []*conn {
	for _, c := range more {
		if c.here && !c.queued && l.conns[int32(c.fd)] == c {
			c.queued = true
			ready = append(ready, c)
		}
	}
	for i := range events {
		fd := events[i].Fd
		if int(fd) == l.wake {
			var count [8]byte
			unix.Read(l.wake, count[:])
			continue
		}
		c, ok := l.conns[fd]
		if ok && events[i].Events&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
			c.ended.Store(true)
		}
		switch {
		case !ok: // an event of one that was forgotten meanwhile
		case !c.here:
			c.missed = true
		default:
			c.unread = true
			if !c.queued {
				c.queued = true
				ready = append(ready, c)
			}
		}
	}
	return ready
}

// patience returns how long to wait for events, in milliseconds; -1 is for ever.
func (l *loop) patience(busy bool) int {
	if busy {
		return 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.scan.IsZero() {
		return -1
	}
	return int((max(time.Until(l.scan), 0) + time.Millisecond - 1) / time.Millisecond)
}

// serve lets c do what it can. It returns true if c wants another turn.
func (l *loop) serve(c *conn) (more bool) {
	why := c.step()
	switch why {
	case again:
		return true
	case waiting:
		if (len(c.out) > 0) == (c.interest&unix.EPOLLOUT != 0) && c.deadline.Equal(c.due) {
			return false // as before
		}
		l.mu.Lock()
		err := l.listenLocked(c)
		l.timeLocked(c)
		l.mu.Unlock()
		if err == nil {
			return false
		}
		why = gone
	}
	l.release(c, why)
	return false
}

// release gives c back to its goroutine, if it is here. A recalled connection has replies to send first.
func (l *loop) release(c *conn, why turn) {
	l.mu.Lock()
	here := c.here && !(why == recalled && !c.idle())
	if here {
		c.here, c.due = false, time.Time{}
		delete(l.timed, c)
	}
	l.mu.Unlock()
	if here {
		c.turns <- why
	}
}

// expire gives back the connections whose time is up.
func (l *loop) expire(now time.Time) {
	l.mu.Lock()
	var slow []*conn
	l.scan = time.Time{}
	for c := range l.timed {
		l.timeLocked(c) // it is ours, and may have done with the old one without having waited since
		switch {
		case c.due.IsZero():
		case !now.Before(c.due):
			slow = append(slow, c)
		case l.scan.IsZero() || c.due.Before(l.scan):
			l.scan = c.due
		}
	}
	l.mu.Unlock()
	for _, c := range slow {
		l.release(c, late)
	}
}

// end gives everything back.
func (l *loop) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.conns {
		if c.here {
			c.here = false
			c.turns <- recalled
		}
	}
	clear(l.conns) // what is closed now is not to be asked any more
	clear(l.timed)
	unix.Close(l.epoll)
	unix.Close(l.wake)
}

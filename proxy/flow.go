package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"postraft/dict"
)

// own takes the descriptor from nc, which is closed: Go's network poller would wake a thread of its own for each
// request.
func own(nc net.Conn) (fd int, err error) {
	defer nc.Close()
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return -1, fmt.Errorf("take over a connection: %T is no socket", nc)
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return -1, fmt.Errorf("take over a connection: %w", err)
	}
	var dupErr error
	err = raw.Control(func(old uintptr) { fd, dupErr = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0) })
	if err = errors.Join(err, dupErr); err != nil {
		return -1, fmt.Errorf("take over a connection: %w", err)
	}
	return fd, nil
}

// serve answers requests. It returns true where another server may go on with what is in c.in.
func (c *conn) serve(ctx context.Context) (clean bool) {
	stop := context.AfterFunc(ctx, func() { c.loop.recall(c) })
	defer stop()
	defer c.loop.forget(c)
	defer c.writing.stop()
	for why := c.step(); ; {
		if c.change.update != nil && why != waiting {
			c.conclude(c.change.update.Outcome()) // whatever it came back for: the client gets its answer
			why = again
		}
		switch why {
		case again:
			why = c.step()
		case slow:
			c.serveNext()
			why = c.step()
		case waiting:
			var err error
			if why, err = c.loop.wait(c); err != nil {
				c.s.notices.warn(c.logger(), "connection not served", "service", c.svc.Name, "err", err)
			}
		case long:
			c.s.notices.warn(c.logger(), "request too long", "service", c.svc.Name, "limit", MaxList)
			return false
		case late:
			what := "request not completed in time"
			if len(c.out) > 0 {
				what = "reply not taken in time"
			}
			c.s.notices.warn(c.logger(), what, "service", c.svc.Name, "pid", c.pid)
			return false
		case gone:
			return false
		case shut, recalled:
			return len(c.out) == 0
		}
	}
}

// idle reports whether the client waits for nothing.
func (c *conn) idle() bool { return len(c.out) == 0 && c.change.update == nil }

// step does what need not wait, a bounded part of it: it sends, answers lookups, and reads. It logs nothing, for that
// may wait too.
func (c *conn) step() turn {
	if c.change.update != nil {
		switch {
		case !c.change.over.Load():
			return waiting
		case c.change.update.Outcome() != nil:
			return slow
		}
		c.conclude(nil)
	}
	for range maxReads {
		if len(c.out) > 0 {
			switch sent, ok := c.send(); {
			case !ok:
				return gone
			case !sent:
				return waiting
			}
		}
		if len(c.in) == 0 && c.gated != nil {
			c.leave()
		}
		ending := c.recalled.Load()
		if ending && c.gated != nil {
			return recalled // what was received goes on to the next server
		}
		if c.serveLookups() {
			if c.begin() {
				return waiting
			}
			return slow
		}
		if len(c.out) > 0 {
			continue
		}
		switch {
		case ending:
			return recalled
		case len(c.in) == 0:
			c.deadline = time.Time{}
			if c.gated != nil {
				c.leave()
			}
		case len(c.in) >= MaxList:
			return long
		case c.deadline.IsZero():
			c.deadline = time.Now().Add(c.s.cfg.RequestTimeout)
		}
		if !c.unread {
			return waiting
		}
		if why := c.receive(); why != again {
			return why
		}
	}
	return again
}

// receive reads once. It returns again when there is something to be looked at.
func (c *conn) receive() turn {
	if c.gated != nil && !c.enter() {
		return shut
	}
	if cap(c.in)-len(c.in) < readSize/2 {
		c.in = append(make([]byte, 0, min(2*cap(c.in)+readSize, MaxList+readSize)), c.in...)
	}
	space := c.in[len(c.in):cap(c.in)]
	ended := c.ended.Load() // asked first: what is said of it later comes with an event of its own
	n, err := transfer(unix.SYS_RECVFROM, c.fd, space)
	c.unread = n == len(space) || ended // fewer bytes are all that there were, but for the end
	switch {
	case err == unix.EAGAIN:
		if c.gated != nil && len(c.in) == 0 {
			c.leave()
		}
		return waiting
	case err != 0 || n == 0:
		return gone
	}
	c.in = c.in[:len(c.in)+n]
	c.timeRead()
	return again
}

// send sends replies. sent says that it has sent all; ok is false where the client does not listen any more.
func (c *conn) send() (sent, ok bool) {
	if !c.arrived.IsZero() {
		c.observe(time.Now())
	}
	c.lookups, c.writes = 0, 0
	n, err := transfer(unix.SYS_SENDTO, c.fd, c.out[c.sent:])
	if err != 0 && err != unix.EAGAIN {
		return false, false
	}
	if c.sent += n; c.sent < len(c.out) {
		if n > 0 || c.deadline.IsZero() {
			c.deadline = time.Now().Add(c.s.cfg.RequestTimeout)
		}
		return false, true
	}
	if cap(c.out) > keepReply {
		c.out = nil
	}
	c.out, c.sent, c.deadline = c.out[:0], 0, time.Time{}
	return true, true
}

// transfer is recv(2) or send(2), neither of which ever waits, so the scheduler need not be told.
func transfer(call uintptr, fd int, p []byte) (n int, err syscall.Errno) {
	for {
		r, _, e := syscall.RawSyscall6(call, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
		runtime.KeepAlive(p)
		switch e {
		case 0:
			return int(r), 0
		case unix.EINTR:
		default:
			return 0, e
		}
	}
}

// serveLookups answers the requests that were received as long as they are lookups that cannot wait. It returns true
// when another one comes next.
func (c *conn) serveLookups() (other bool) {
	used := 0
	for used < len(c.in) && len(c.out) <= keepReply {
		size := c.list.parse(c.in[used:])
		if size == 0 {
			break
		}
		if other = !c.serveLookup(); other {
			break
		}
		used += size
	}
	c.consumed(used)
	return other
}

// serveLookup answers the list that is parsed into c.list if it is a lookup of a fixed key in a raft table that this
// connection has opened, and there is nothing to be said to a person.
func (c *conn) serveLookup() bool {
	r := &c.req
	if r.parse(&c.list, c.svc.Modern) != serve || r.op != opLookup || !c.current() {
		return false
	}
	h, ok := c.opened[string(r.table)]
	if !ok || !h.prompt || h.table.Kind()&dict.Fixed == 0 {
		return false
	}
	value, s, err := c.attempt(h)
	if err != nil {
		return false
	}
	c.count(h, s)
	c.out = r.appendReply(c.out, s, nil, value)
	return true
}

// serveNext answers the first request that was received.
func (c *conn) serveNext() {
	size := c.list.parse(c.in)
	c.serveList(c.in[:size])
	c.consumed(size)
}

// consumed drops what was answered.
func (c *conn) consumed(used int) {
	switch {
	case used == 0:
	case used == len(c.in):
		if c.in = c.in[:0]; cap(c.in) > 4*readSize {
			c.in = make([]byte, 0, readSize)
		}
	default:
		c.in = c.in[:copy(c.in, c.in[used:])]
		c.deadline = time.Time{} // the next request has its own time
	}
}

package handoff

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"postraft/dict"
	"postraft/proxy"
)

// A client is the connection of a Postfix process as the front end has it, whoever serves it.
type client struct {
	fd        int    // in non-blocking mode; ours
	announced bool   // it has had what the server says first
	rest      []byte // it has sent this, which is not answered
}

// end closes our descriptor. With shut the client sees its end at once, even if an agent that hangs has a
// descriptor too.
func (c *client) end(shut bool) {
	if shut {
		unix.Shutdown(c.fd, unix.SHUT_RDWR)
	}
	unix.Close(c.fd)
}

// clientPause is how long a Postfix client waits when its connection breaks, before it asks again.
const clientPause = time.Second

// stay keeps c until ctx ends; then it returns true, and c can be given to the agent. The first request that
// needs the agent waits a while for that too, untouched. It and all others are then answered here: a process
// that asks on behalf of others, such as trivial-rewrite(8), must not make them wait for each of its requests.
// stay returns false when the client has gone.
func (f *FrontEnd) stay(ctx context.Context, c *client) (kept bool) {
	if ctx.Err() != nil {
		return true
	}
	conn, err := connOf(c.fd)
	if err != nil {
		f.log.Error("connection lost", "err", err)
		return false
	}
	defer conn.Close()
	fresh, held := !c.announced, false
	if fresh && !f.turn(ctx, conn, c) {
		return false
	}
	for first := true; ctx.Err() == nil; first = false {
		request, waited := c.rest, false
		if len(request) == 0 {
			if request, waited, err = awaitRequest(ctx, conn); err != nil {
				return false
			}
		}
		if !held && ctx.Err() == nil && f.needsAgent(request) {
			held = true
			// A request that is found waiting has waited since the agent went, for all we know. A new
			// connection may well be one that broke then, after the client's pause.
			since := time.Now()
			switch {
			case fresh:
				since = since.Add(-clientPause)
			case first && !waited:
				since = time.Time{}
			}
			f.hold(ctx, since)
		}
		if ctx.Err() == nil && !f.turn(ctx, conn, c) {
			return false
		}
	}
	if c.fd, err = dup(conn); err != nil {
		f.log.Error("connection lost", "err", err)
		return false
	}
	return true
}

// needsAgent reports whether a request, of which this is the beginning, is better answered by the agent. An
// open has the same answer here, and so have most local tables.
func (f *FrontEnd) needsAgent(request []byte) bool {
	fields := bytes.SplitN(request, []byte{0}, 5)
	if len(fields) > 2 && string(fields[1]) == "open" {
		return false
	}
	if len(fields) < 5 || string(fields[2]) != "table" {
		return true
	}
	table := dict.TrimProxy(string(fields[3]))
	return strings.HasPrefix(table, dict.RaftType+":") || f.cfg.Agents != nil && f.cfg.Agents(table)
}

// hold lets a request that came at a time wait for the agent, or until it has to be answered here.
func (f *FrontEnd) hold(ctx context.Context, since time.Time) {
	f.mu.Lock()
	lost := f.lost
	f.mu.Unlock()
	if since.Before(lost) {
		since = lost
	}
	if wait := time.Until(since.Add(f.cfg.Hold)); wait > 0 && time.Since(lost) < restartTime {
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
}

// turn says what the server says first, or answers what the client asks now. It returns false when the client
// has gone.
func (f *FrontEnd) turn(ctx context.Context, conn net.Conn, c *client) (clean bool) {
	h := &proxy.Handover{Announced: c.announced, Input: c.rest, Gate: &turnstile{open: true}}
	if err := withFD(conn, func(fd int) { clean = f.cfg.Serve(ctx, fd, h) }); err != nil {
		return false
	}
	c.announced, c.rest = h.Announced, h.Input
	return clean && len(c.rest) <= maxRest
}

// A turnstile is a gate that lets its server through once: after each request it is seen whether there is an
// agent again.
type turnstile struct{ open bool }

func (t *turnstile) Enter() bool {
	was := t.open
	t.open = false
	return was
}

func (t *turnstile) Leave() {}

// awaitRequest waits until there is something to be read, or ctx ends, and takes nothing. It returns the
// beginning of what there is, and whether that was there without waiting. An error means that the client has
// gone.
func awaitRequest(ctx context.Context, conn net.Conn) (request []byte, waited bool, err error) {
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return nil, false, errors.New("not a socket")
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return nil, false, err
	}
	stop := context.AfterFunc(ctx, func() { conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	var failed error
	var space [256]byte
	err = raw.Read(func(fd uintptr) bool {
		n, _, err := unix.Recvfrom(int(fd), space[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		for err == unix.EINTR {
			n, _, err = unix.Recvfrom(int(fd), space[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		}
		switch {
		case err == unix.EAGAIN:
			waited = true
			return false
		case err != nil:
			failed = err
		case n == 0:
			failed = io.EOF
		}
		request = space[:max(n, 0)]
		return true
	})
	if failed == nil && ctx.Err() == nil {
		failed = err
	}
	return request, waited, failed
}

// dup returns a descriptor of conn for the caller.
func dup(conn net.Conn) (fd int, err error) {
	var failed error
	err = withFD(conn, func(old int) { fd, failed = unix.FcntlInt(uintptr(old), unix.F_DUPFD_CLOEXEC, 0) })
	if err = errors.Join(err, failed); err != nil {
		return -1, fmt.Errorf("duplicate descriptor: %w", err)
	}
	return fd, nil
}

package proxy

import (
	"context"
	"errors"
	"io"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// A Handover is the state in which one server leaves a connection to the next, so that the client does not
// notice the change: requests stand alone, so a connection between two of them carries nothing else.
type Handover struct {
	Announced bool   // what the server says first has been said
	Input     []byte // received from the client and not yet answered: the beginning of a request, or pipelined ones
	Gate      Gate   // says whether this server may read
}

// A Gate stands between a server and the bytes of a connection to which others have a descriptor too. One
// goroutine calls its methods, in turn.
type Gate interface {
	// Enter is called before the server reads, writes or takes up its Input, where it has no request in hand.
	// After false it does nothing, and is done with the connection.
	Enter() bool

	// Leave is called when all that was read has been answered, and the answers written, or when nothing
	// was there to be read.
	Leave()
}

// ServeHandover is ServeConn for a connection that may have had a server before and may get another. When it
// returns true the client is between two requests, and h says how the next server shall begin: because ctx has
// ended or the gate is shut. When it returns false the client has gone, or nothing can be known of where it
// stands: the connection is to be closed. nc must be a socket.
func (s *Server) ServeHandover(ctx context.Context, nc net.Conn, svc *Service, pid int, h *Handover) (clean bool) {
	c := s.newConn(nc, svc, pid, !h.Announced)
	defer s.counting.end(c.tally)
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	c.gated = &gated{gate: h.Gate, raw: raw}
	c.tryRead = c.readReady // once: a method value for each read would be an allocation
	c.in = append(c.in, h.Input...)
	stop := endReading(ctx, nc)
	defer stop()
	if !h.Announced {
		if !c.enter() {
			return true
		}
		if !c.announce() {
			return false
		}
		h.Announced = true
	}
	if len(c.in) > 0 && !c.enter() {
		return true
	}
	clean = c.serve(ctx)
	h.Input = c.in
	return clean
}

// errShut is the end of a connection that belongs to another server by now.
var errShut = errors.New("the connection belongs to another server")

// gated is what a conn has in addition when it can be left to another server.
type gated struct {
	gate    Gate
	busy    bool // entered and not left
	raw     syscall.RawConn
	tryRead func(fd uintptr) bool
	space   []byte // of tryRead: where to
	n       int    // of tryRead: how much
	err     error  // of tryRead
}

func (g *gated) enter() bool {
	g.busy = g.busy || g.gate.Enter()
	return g.busy
}

func (g *gated) leave() {
	if g.busy {
		g.busy = false
		g.gate.Leave()
	}
}

// readGated reads into space. The gate is asked before each attempt and not before each wait: a server that
// waits owns nothing.
func (c *conn) readGated(space []byte) (n int, err error) {
	c.space, c.n, c.err = space, 0, nil
	err = c.raw.Read(c.tryRead)
	c.space = nil
	if err != nil {
		return 0, err
	}
	return c.n, c.err
}

// readReady is called when there may be something to be read. It returns false to wait for that.
func (c *conn) readReady(fd uintptr) bool {
	if !c.enter() {
		c.err = errShut
		return true
	}
	for {
		n, err := unix.Read(int(fd), c.space)
		switch {
		case err == unix.EINTR:
		case err == unix.EAGAIN:
			if len(c.in) == 0 {
				c.leave()
			}
			return false
		case err != nil:
			c.err = err
			return true
		case n == 0:
			c.err = io.EOF
			return true
		default:
			c.n = n
			return true
		}
	}
}

package proxy

import (
	"context"
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

// ServeHandover is ServeConn for a socket that may have had a server before and may get another. When it returns true
// the client is between two requests, and h says how the next server shall begin: because ctx has ended or the gate is
// shut. When it returns false the client has gone, or nothing can be known of where it stands. fd stays the caller's,
// who closes it.
func (s *Server) ServeHandover(ctx context.Context, fd int, svc *Service, pid int, h *Handover) (clean bool) {
	c, err := s.newConn(fd, svc, pid, !h.Announced)
	if err != nil {
		s.notices.warn(s.logger(svc), "connection not served", "service", svc.Name, "err", err)
		return false
	}
	defer s.counting.end(c.tally)
	if h.Gate != nil {
		c.gated = &gated{gate: h.Gate}
	}
	c.in = append(c.in, h.Input...)
	begins := !h.Announced && svc.Announce
	if c.gated != nil && (!h.Announced || len(c.in) > 0) && !c.enter() {
		return true
	}
	if begins {
		c.out = append(c.out, announcement...)
	}
	h.Announced = true // unless the end is not clean, it is by then
	clean = c.serve(ctx)
	h.Input = c.in
	return clean
}

// gated is what a conn has in addition when it can be left to another server. The gate is asked before each attempt to
// read and not before each wait: a server that waits owns nothing.
type gated struct {
	gate Gate
	busy bool // entered and not left
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

package handoff

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"postraft/proxy"
)

// A frontLink is the agent's end of a link that was welcomed.
type frontLink struct {
	*link
	hello Hello
	page  *page // nil: connections end with this link
	room  *room // of the agent, for all links
	log   *slog.Logger
	out   *outbox
	said  time.Time // that a connection was not taken over; run's alone

	mu     sync.Mutex // guards what follows
	dials  map[uint64]chan dialed
	lastID uint64
	gone   bool
}

type dialed struct {
	conn net.Conn
	err  error
}

func newFrontLink(l *link, hello Hello, page *page, room *room, log *slog.Logger) *frontLink {
	f := &frontLink{link: l, hello: hello, page: page, room: room, out: newOutbox(l), dials: map[uint64]chan dialed{}}
	f.log = slog.New(&tee{log.Handler(), f.out, nil})
	return f
}

// Logger implements Peer.
func (f *frontLink) Logger() *slog.Logger { return f.log }

// run serves the connections that come until the front end goes or ctx ends. Then it finishes the requests
// at hand and, if the front end is still there, gives the connections back.
func (f *frontLink) run(ctx context.Context, session Session) error {
	f.out.start()
	defer f.out.stop()
	var conns sync.WaitGroup
	defer conns.Wait()
	connCtx, finish := context.WithCancel(context.WithoutCancel(ctx))
	defer finish()
	defer f.hangUp()
	places := make(chan struct{}, maxLinkConns)
	for {
		m, fd, err := f.receive()
		if err != nil {
			if ctx.Err() != nil {
				f.out.post(message{Kind: kindBye})
				return context.Cause(ctx)
			}
			return err
		}
		switch m.Kind {
		case kindConn:
			err := checkConn(m, fd)
			if err == nil && len(places) == cap(places) {
				err = fmt.Errorf("too many: the limit is %d", cap(places))
			}
			if err == nil {
				err = f.room.take()
			}
			if err != nil { // the client asks again after a second, and the others are served
				closeFD(fd)
				f.complain(err)
				f.out.post(message{Kind: kindDone, ID: m.ID})
				continue
			}
			places <- struct{}{}
			conns.Go(func() {
				defer func() { <-places }()
				defer f.room.give()
				f.out.post(f.serve(connCtx, session, fd, m))
			})
		case kindPing:
			closeFD(fd)
			f.out.post(message{Kind: kindPong})
		case kindDialed:
			f.dialed(m, fd)
		default:
			closeFD(fd)
		}
	}
}

// complain tells why a connection was not taken over, unless that was told lately.
func (f *frontLink) complain(err error) {
	if time.Since(f.said) >= complainEvery {
		f.log.Warn("connection not taken over: its client asks again each second", "err", err)
		f.said = time.Now()
	}
}

// checkConn checks a conn message.
func checkConn(m message, fd int) error {
	switch {
	case m.Slot < 0 || m.Slot >= maxLinkConns:
		return fmt.Errorf("no mark %d", m.Slot)
	case fd < 0:
		return errNoDescriptor
	}
	return nil
}

// serve serves a connection and returns what the front end has to know in the end: that it is to go on with
// the connection, or that there is nothing left to go on with. It closes fd.
func (f *frontLink) serve(ctx context.Context, session Session, fd int, m message) message {
	defer unix.Close(fd)
	h := &proxy.Handover{Announced: m.Announced, Input: m.Rest}
	if f.page != nil {
		h.Gate = f.page.mark(m.Slot)
	}
	clean := session.ServeConn(ctx, fd, h)
	if clean && h.Announced && len(h.Input) <= maxRest {
		return message{Kind: kindBack, ID: m.ID, Rest: h.Input}
	}
	return message{Kind: kindDone, ID: m.ID}
}

// DialStock implements Peer.
func (f *frontLink) DialStock(ctx context.Context) (net.Conn, error) {
	if !f.hello.Passthrough {
		return nil, errors.New("dial the stock service: none is configured")
	}
	answer := make(chan dialed, 1)
	f.mu.Lock()
	if f.gone {
		f.mu.Unlock()
		return nil, errors.New("dial the stock service: the front end has gone")
	}
	f.lastID++
	id := f.lastID
	f.dials[id] = answer
	f.mu.Unlock()
	f.out.post(message{Kind: kindDial, ID: id})
	select {
	case d := <-answer:
		return d.conn, d.err
	case <-ctx.Done():
		f.mu.Lock()
		delete(f.dials, id)
		f.mu.Unlock()
		select { // the answer may have come meanwhile
		case d := <-answer:
			return d.conn, d.err
		default:
			return nil, fmt.Errorf("dial the stock service: %w", context.Cause(ctx))
		}
	}
}

func (f *frontLink) dialed(m message, fd int) {
	f.mu.Lock()
	answer, ok := f.dials[m.ID]
	delete(f.dials, m.ID)
	if !ok {
		closeFD(fd)
	} else if m.Text != "" {
		closeFD(fd)
		answer <- dialed{err: fmt.Errorf("dial the stock service: %s", m.Text)}
	} else {
		conn, err := connOf(fd)
		answer <- dialed{conn, err}
	}
	f.mu.Unlock()
}

// hangUp answers the dials that will get no other answer.
func (f *frontLink) hangUp() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.gone = true
	for id, answer := range f.dials {
		delete(f.dials, id)
		answer <- dialed{err: errors.New("dial the stock service: the front end has gone")}
	}
}

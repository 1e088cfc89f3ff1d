package handoff

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"sync"
	"time"
)

// A Session serves the connections of one link.
type Session interface {
	// ServeConn serves conn. It returns when the client has gone, or when ctx has ended and the request at
	// hand, if any, is answered. It need not close conn.
	ServeConn(ctx context.Context, conn net.Conn)

	// Close is called when the link is down and all connections have ended.
	Close()
}

// A Peer is what the agent has of a front end besides its connections.
type Peer interface {
	// DialStock opens a connection to the stock proxymap service of that Postfix instance.
	DialStock(ctx context.Context) (net.Conn, error)

	// Logger writes to the agent's log, and warnings and errors to Postfix's log as well.
	Logger() *slog.Logger
}

// A Config says what the agent's side of the hand-off needs.
type Config struct {
	Path string // of the socket

	// UIDs may open links besides root and the agent's own user: mail_owner.
	UIDs []int

	// Open makes the session for a new link. Its error is sent to the front end as the reason of a refusal.
	Open func(hello Hello, peer Peer) (Session, error)

	Logger *slog.Logger
}

const (
	maxLinks     = 256
	maxLinkConns = 8192
)

// A Server is the agent's side of the hand-off.
type Server struct {
	cfg   Config
	ln    *net.UnixListener
	links sync.WaitGroup
	slots chan struct{}
}

// Listen makes the socket, in place of one that a dead agent left. The socket is open to every local user;
// who may use it is decided by the peer's credentials.
func Listen(cfg Config) (*Server, error) {
	if conn, err := Connect(cfg.Path); err == nil {
		conn.Close()
		return nil, fmt.Errorf("listen on %s: another agent answers there", cfg.Path)
	}
	if info, err := os.Lstat(cfg.Path); err == nil && info.Mode().Type() == os.ModeSocket {
		if err := os.Remove(cfg.Path); err != nil {
			return nil, fmt.Errorf("replace the socket of a dead agent: %w", err)
		}
	}
	ln, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: cfg.Path, Net: "unixpacket"})
	if err != nil {
		return nil, fmt.Errorf("listen for front ends: %w", err)
	}
	if err := os.Chmod(cfg.Path, 0o666); err != nil {
		ln.Close()
		return nil, fmt.Errorf("listen for front ends: %w", err)
	}
	return &Server{cfg: cfg, ln: ln, slots: make(chan struct{}, maxLinks)}, nil
}

// Serve takes links until ctx ends, then finishes: front ends are told, requests at hand are answered,
// connections closed, the socket removed.
func (s *Server) Serve(ctx context.Context) error {
	defer s.links.Wait()
	stop := context.AfterFunc(ctx, func() { s.ln.Close() })
	defer stop()
	defer s.ln.Close()
	for {
		conn, err := s.ln.AcceptUnix()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				conn.Close()
			}
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("accept a front end: %w", err)
		case err != nil: // out of descriptors, perhaps: it may pass
			s.cfg.Logger.Warn("front end not accepted", "err", err)
			select {
			case <-ctx.Done():
			case <-time.After(100 * time.Millisecond):
			}
			continue
		}
		select {
		case s.slots <- struct{}{}:
		default:
			s.cfg.Logger.Warn("front end turned away: too many", "limit", maxLinks)
			conn.Close()
			continue
		}
		s.links.Go(func() {
			defer func() { <-s.slots }()
			s.serveLink(ctx, conn)
		})
	}
}

// serveLink greets a front end and works its link.
func (s *Server) serveLink(ctx context.Context, conn *net.UnixConn) {
	l := newLink(conn, linkTimeout)
	defer l.close()
	stop := context.AfterFunc(ctx, func() { conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	front, session, err := s.welcome(l)
	if err != nil {
		if ctx.Err() == nil {
			s.cfg.Logger.Warn("front end refused", "err", err)
		}
		return
	}
	hello := front.hello
	s.cfg.Logger.Info("front end is here", "service", hello.Service, "pid", hello.PID, "config", hello.ConfigDir)
	err = front.run(ctx, session)
	session.Close()
	s.cfg.Logger.Info("front end has gone", "service", hello.Service, "pid", hello.PID, "reason", err)
}

func (s *Server) welcome(l *link) (*frontLink, Session, error) {
	cred, err := peerOf(l.conn)
	if err != nil {
		return nil, nil, err
	}
	refuse := func(why error) (*frontLink, Session, error) {
		l.send(message{Kind: kindRefuse, Text: why.Error()}, -1) // it is refused in any case
		return nil, nil, fmt.Errorf("pid %d, user %d: %w", cred.Pid, cred.Uid, why)
	}
	uid := int(cred.Uid)
	if uid != 0 && uid != os.Geteuid() && !slices.Contains(s.cfg.UIDs, uid) {
		return refuse(fmt.Errorf("user %d may not hand connections over", uid))
	}
	hello, err := readHello(l)
	if err != nil {
		return refuse(err)
	}
	front := newFrontLink(l, hello, s.cfg.Logger)
	session, err := s.cfg.Open(hello, front)
	if err != nil {
		return refuse(err)
	}
	if err := l.send(message{Kind: kindWelcome, Version: version}, -1); err != nil {
		session.Close()
		return nil, nil, err
	}
	return front, session, nil
}

func readHello(l *link) (Hello, error) {
	l.conn.SetReadDeadline(time.Now().Add(linkTimeout))
	defer l.conn.SetReadDeadline(time.Time{})
	var list []byte
	for {
		m, fd, err := l.receive()
		if err != nil {
			return Hello{}, err
		}
		closeFD(fd)
		switch {
		case m.Kind == kindList && len(list)+len(m.List) <= maxApproved:
			list = append(list, m.List...)
		case m.Kind == kindList:
			return Hello{}, fmt.Errorf("approval list longer than %d bytes", maxApproved)
		case m.Kind == kindHello && m.Version != version:
			return Hello{}, fmt.Errorf("front end speaks version %d of the hand-off, the agent version %d: reload Postfix after an upgrade", m.Version, version)
		case m.Kind == kindHello && m.Hello != nil:
			m.Hello.Approved = string(list)
			return *m.Hello, nil
		default:
			return Hello{}, fmt.Errorf("got %q before hello", m.Kind)
		}
	}
}

// A frontLink is the agent's end of a link that was welcomed.
type frontLink struct {
	*link
	hello Hello
	log   *slog.Logger
	out   *outbox

	mu     sync.Mutex // guards what follows
	dials  map[uint64]chan dialed
	lastID uint64
	gone   bool
}

type dialed struct {
	conn net.Conn
	err  error
}

func newFrontLink(l *link, hello Hello, log *slog.Logger) *frontLink {
	f := &frontLink{link: l, hello: hello, out: newOutbox(l), dials: map[uint64]chan dialed{}}
	f.log = slog.New(&tee{log.Handler(), f.out, nil})
	return f
}

// Logger implements Peer.
func (f *frontLink) Logger() *slog.Logger { return f.log }

// run serves the connections that come until the front end goes or ctx ends.
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
			conn, err := connOf(fd)
			if err == nil && len(places) == cap(places) {
				conn.Close()
				err = fmt.Errorf("too many: the limit is %d", cap(places))
			}
			if err != nil {
				f.log.Warn("connection not taken over", "err", err)
				f.out.post(message{Kind: kindDone, ID: m.ID})
				continue
			}
			places <- struct{}{}
			conns.Go(func() {
				defer func() { <-places }()
				defer f.out.post(message{Kind: kindDone, ID: m.ID})
				defer conn.Close()
				session.ServeConn(connCtx, conn)
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

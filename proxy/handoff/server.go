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

	"postraft/proxy"
)

// A Session serves the connections of one link.
type Session interface {
	// ServeConn serves a socket from where h says. It returns when the client has gone, or when ctx has ended and
	// the request at hand, if any, is answered, or when h's gate is shut. After true another server may go
	// on as h says then; without a gate there is no other server, and it returns false. It does not close fd.
	ServeConn(ctx context.Context, fd int, h *proxy.Handover) (clean bool)

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
	room  room
	said  map[string]time.Time // complaints, and when

	aliasing sync.Mutex // guards what follows
	aliases  []string
	fronts   map[*frontLink]struct{}
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
	s := &Server{cfg: cfg, ln: ln, slots: make(chan struct{}, maxLinks)}
	s.room.most, err = mostConns()
	if err != nil {
		ln.Close()
		return nil, fmt.Errorf("listen for front ends: %w", err)
	}
	return s, nil
}

// Serve takes links until ctx ends, then finishes: front ends are told, requests at hand are answered,
// connections given back, the socket removed.
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
		if err := s.admit(conn); err != nil {
			if s.complain(err.Error()) {
				s.cfg.Logger.Warn("front end refused", "err", err)
			}
			conn.Close()
			continue
		}
		select {
		case s.slots <- struct{}{}:
		default:
			if s.complain("too many") {
				s.cfg.Logger.Warn("front end turned away: too many", "limit", maxLinks)
			}
			conn.Close()
			continue
		}
		s.links.Go(func() {
			defer func() { <-s.slots }()
			s.serveLink(ctx, conn)
		})
	}
}

// admit turns away whose user may not open links, before they take a place or time: the socket is open to all.
func (s *Server) admit(conn *net.UnixConn) error {
	cred, err := peerOf(conn)
	if err != nil {
		return err
	}
	uid := int(cred.Uid)
	if uid == 0 || uid == os.Geteuid() || slices.Contains(s.cfg.UIDs, uid) {
		return nil
	}
	why := fmt.Errorf("user %d may not hand connections over", uid)
	newLink(conn, linkTimeout).send(message{Kind: kindRefuse, Text: why.Error()}, -1) // never waits: nothing was sent before
	return why
}

// complain reports whether this was not said lately. It is called from Serve only.
func (s *Server) complain(what string) bool {
	now := time.Now()
	if now.Sub(s.said[what]) < complainEvery {
		return false
	}
	if s.said == nil || len(s.said) > 100 {
		s.said = map[string]time.Time{}
	}
	s.said[what] = now
	return true
}

// serveLink greets a front end and works its link.
func (s *Server) serveLink(ctx context.Context, conn *net.UnixConn) {
	l := newLink(conn, linkTimeout)
	defer l.close()
	stop := func() { conn.SetReadDeadline(time.Unix(1, 0)) }
	defer context.AfterFunc(ctx, stop)()
	front, session, err := s.welcome(l)
	if err != nil {
		if ctx.Err() == nil {
			s.cfg.Logger.Warn("front end refused", "err", err)
		}
		return
	}
	defer context.AfterFunc(ctx, stop)() // again, for the greeting has deadlines of its own
	hello := front.hello
	s.cfg.Logger.Info("front end is here", "service", hello.Service, "pid", hello.PID, "config", hello.ConfigDir)
	err = front.run(ctx, session)
	s.forget(front)
	session.Close()
	front.page.close()
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
	hello, page, err := readHello(l, s.cfg.Logger)
	if err != nil {
		return refuse(err)
	}
	front := newFrontLink(l, hello, page, &s.room, s.cfg.Logger)
	session, err := s.cfg.Open(hello, front)
	if err != nil {
		page.close()
		return refuse(err)
	}
	agreed := oldest
	if page != nil {
		agreed = version
	}
	if err := s.greet(front, message{Kind: kindWelcome, Version: agreed}); err != nil {
		session.Close()
		page.close()
		return nil, nil, err
	}
	return front, session, nil
}

// readHello returns what the front end says of itself, and the page that it shares; nil if it is of the
// oldest version.
func readHello(l *link, log *slog.Logger) (Hello, *page, error) {
	l.conn.SetReadDeadline(time.Now().Add(linkTimeout))
	defer l.conn.SetReadDeadline(time.Time{})
	var list []byte
	for {
		m, fd, err := l.receive()
		if err != nil {
			return Hello{}, nil, err
		}
		if m.Kind == kindHello && m.Hello != nil && m.Version == oldest {
			m.Hello.Approved = string(list)
			return *m.Hello, sharedPage(m, fd, log), nil
		}
		closeFD(fd)
		switch {
		case m.Kind == kindList && len(list)+len(m.List) <= maxApproved:
			list = append(list, m.List...)
		case m.Kind == kindList:
			return Hello{}, nil, fmt.Errorf("approval list longer than %d bytes", maxApproved)
		case m.Kind == kindHello && m.Hello != nil:
			return Hello{}, nil, fmt.Errorf("front end speaks version %d of the hand-off at least, the agent %d to %d: reload Postfix after an upgrade", m.Version, oldest, version)
		default:
			return Hello{}, nil, fmt.Errorf("got %q before hello", m.Kind)
		}
	}
}

// sharedPage maps the page beside a hello and consumes its descriptor. Without a page all works as in the
// oldest version.
func sharedPage(hello message, fd int, log *slog.Logger) *page {
	defer closeFD(fd)
	if hello.Newest < version {
		return nil
	}
	p, err := (*page)(nil), errNoDescriptor
	if fd >= 0 {
		p, err = openPage(fd)
	}
	if err != nil {
		log.Warn("connections of this front end will end with the agent", "pid", hello.Hello.PID, "err", err)
	}
	return p
}

package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"postraft/dict"
)

// Tables gives access to the raft tables. Its method may be called from any goroutine and never waits.
type Tables interface {
	// Table returns the handle of a raft table by name, whether or not the table is there.
	Table(name string) Table
}

// A Table is the handle of a raft table.
type Table interface {
	dict.Reader
	dict.Writer

	// Create makes the table, empty, unless it is there.
	Create(ctx context.Context) error
}

// A DeadlineTable is a Table that says how soon its writes are to be answered, as caches do: their clients have one
// thread, which waits.
type DeadlineTable interface {
	// WriteWithin may be 0: then Config.WriteTimeout counts, as it does where it is less.
	WriteWithin() time.Duration
}

// A Passthrough hands requests for local tables to the stock proxymap(8).
type Passthrough interface {
	// Forward sends a request, one whole attribute list, and appends the reply to dst. An error means that
	// no whole reply came.
	Forward(ctx context.Context, dst, request []byte) ([]byte, error)
}

// A Service is what a connection belongs to: one proxymap or proxywrite service of one Postfix instance.
// All fields but the Approval are set before the first connection.
type Service struct {
	Name        string      // as in master.cf, for logs
	Write       bool        // updates and deletes are allowed
	Announce    bool        // Postfix 3.6 and later: the server speaks first
	Modern      bool        // Postfix 3.11 and later: how a malformed request is answered
	SMTPUTF8    bool        // smtputf8_enable
	Passthrough Passthrough // nil: local tables are refused
	Hint        string      // how to get a Passthrough, for the log

	Logger *slog.Logger // nil: the server's; a front end's writes to Postfix's log as well

	approved atomic.Pointer[Approval]
}

// Approve replaces the tables that the service may open. Connections see it with their next request.
func (s *Service) Approve(a *Approval) { s.approved.Store(a) }

// parameter is the main.cf parameter that approves the service's tables.
func (s *Service) parameter() (name, access string) {
	if s.Write {
		return "proxy_write_maps", "read-write"
	}
	return "proxy_read_maps", "read-only"
}

// Config says how a Server works. Zero values take the defaults.
type Config struct {
	Tables         Tables
	Locals         Locals // nil: all local tables are the Passthrough's
	Logger         *slog.Logger
	WriteTimeout   time.Duration // an update or delete is answered within, or sooner (DeadlineTable); 4.5 s
	RequestTimeout time.Duration // of a request's bytes, and of taking a reply; 5 s
	MaxConns       int           // at once on one listener; 4096
}

// A Server serves proxymap connections. Its methods may be called from any goroutine.
type Server struct {
	cfg      Config
	aliases  atomic.Pointer[Aliases]
	cursors  cursors
	notices  notices
	counting counting

	ctx      context.Context
	cancel   context.CancelFunc
	creating sync.WaitGroup
	mu       sync.Mutex
	created  map[string]chan struct{} // raft tables that are being made, closed at the end; guarded by mu
	loops    []*loop                  // started with the first connection; guarded by mu
	turn     int                      // of the loops; guarded by mu
}

// New returns a Server. Close ends what it does in the background.
func New(cfg Config) *Server {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.WriteTimeout == 0 {
		cfg.WriteTimeout = 4500 * time.Millisecond
	}
	if cfg.RequestTimeout == 0 {
		cfg.RequestTimeout = 5 * time.Second
	}
	if cfg.MaxConns == 0 {
		cfg.MaxConns = 4096
	}
	s := &Server{cfg: cfg, created: map[string]chan struct{}{}}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// nextLoop returns the loop for another connection.
func (s *Server) nextLoop() (*loop, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.loops == nil {
		if err := s.ctx.Err(); err != nil {
			return nil, fmt.Errorf("serve a connection: the server is closed: %w", err)
		}
		loops, err := newLoops()
		if err != nil {
			return nil, err
		}
		s.loops = loops
	}
	s.turn = (s.turn + 1) % len(s.loops)
	return s.loops[s.turn], nil
}

// Close ends all connections and waits for background work to end. Connections that are served end first, by their
// contexts, where what they were asked is to be answered.
func (s *Server) Close() {
	s.cancel()
	s.creating.Wait()
	s.mu.Lock()
	loops := s.loops
	s.loops = nil
	s.mu.Unlock()
	endLoops(loops)
}

// Serve accepts connections until ctx ends, then answers the requests at hand, closes everything and
// returns nil. It takes ln over.
func (s *Server) Serve(ctx context.Context, ln net.Listener, svc *Service) error {
	var conns sync.WaitGroup
	defer conns.Wait()
	defer ln.Close()
	stop := context.AfterFunc(ctx, func() { ln.Close() })
	defer stop()
	slots := make(chan struct{}, s.cfg.MaxConns)
	for {
		select {
		case slots <- struct{}{}: // a client too many waits in the backlog rather than lose its connection
		case <-ctx.Done():
			return nil
		}
		conn, err := ln.Accept()
		if err != nil {
			<-slots
			if ctx.Err() != nil {
				return nil
			}
			if errors.Is(err, net.ErrClosed) {
				return err
			}
			s.cfg.Logger.Warn("accept failed", "service", svc.Name, "err", err)
			select {
			case <-time.After(100 * time.Millisecond):
			case <-ctx.Done():
			}
			continue
		}
		conns.Go(func() {
			defer func() { <-slots }()
			s.ServeConn(ctx, conn, svc, 0)
		})
	}
}

// PeerPID returns the process at the other end of a Unix connection, 0 when it is not known.
func PeerPID(fd int) int {
	cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return 0
	}
	return int(cred.Pid)
}

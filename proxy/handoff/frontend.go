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
)

// A FrontEndConfig says what a front end needs.
type FrontEndConfig struct {
	Path  string // the agent's socket
	Hello Hello

	// Connect opens a connection to the agent's socket; nil means Connect of this package. It is called
	// from one goroutine.
	Connect func(path string) (*net.UnixConn, error)

	// Stopped reports whether the process pid is known to be stopped by a signal; nil means Stopped of this
	// package. It is called when pings go unanswered.
	Stopped func(pid int) bool

	// Serve serves a connection here, while there is no agent. It returns when the client has gone, or
	// soon after ctx has ended: then after the request at hand, if there is one.
	Serve func(ctx context.Context, conn net.Conn)

	// DialStock opens a connection to the stock proxymap service, for local tables; nil when the
	// operator keeps none.
	DialStock func(ctx context.Context) (net.Conn, error)

	// Served is called once, when the first client has been handed over or served.
	Served func()

	MaxIdle time.Duration // Spent after so long without clients; 0 is never
	MaxUse  int           // Spent after so many clients, once they have gone; 0 is never

	Logger *slog.Logger

	// Times; zero means the default.
	Retry    time.Duration // between attempts to reach the agent
	Ping     time.Duration // between pings while the agent has connections of ours
	Patience int           // pings without an answer until the agent counts as hung
}

const (
	defaultRetry    = 200 * time.Millisecond
	defaultPing     = 200 * time.Millisecond
	defaultPatience = 20
	linkTimeout     = time.Second     // for the greeting, and for one message to be taken
	dialTimeout     = time.Second     // for the stock service to take a connection
	maxDials        = 64              // at a time
	finishTime      = 2 * time.Second // for requests at hand when the front end stops
	complainEvery   = 10 * time.Second
)

// A FrontEnd gives each connection to the agent, or serves it with RETRY while the agent is away.
type FrontEnd struct {
	cfg   FrontEndConfig
	log   *slog.Logger
	usage *usage
	tried chan struct{} // closed once the agent has been asked for the first time
	local sync.WaitGroup

	mu       sync.Mutex // guards what follows
	agent    *agentLink // nil while the agent is away
	homeCtx  context.Context
	goHome   context.CancelFunc // ends homeCtx: clients served here shall reconnect to the agent
	finished bool
}

// NewFrontEnd starts nothing: see Run.
func NewFrontEnd(cfg FrontEndConfig) *FrontEnd {
	if cfg.Connect == nil {
		cfg.Connect = Connect
	}
	if cfg.Stopped == nil {
		cfg.Stopped = Stopped
	}
	if cfg.Retry == 0 {
		cfg.Retry = defaultRetry
	}
	if cfg.Ping == 0 {
		cfg.Ping = defaultPing
	}
	if cfg.Patience == 0 {
		cfg.Patience = defaultPatience
	}
	if cfg.Served == nil {
		cfg.Served = func() {}
	}
	f := &FrontEnd{
		cfg:   cfg,
		log:   cfg.Logger,
		usage: newUsage(cfg.MaxIdle, cfg.MaxUse),
		tried: make(chan struct{}),
	}
	f.homeCtx, f.goHome = context.WithCancel(context.Background())
	return f
}

// Tried is closed once the agent has been asked for the first time, with or without success. A front end
// that accepts nothing before has no reason to answer RETRY to its first client.
func (f *FrontEnd) Tried() <-chan struct{} { return f.tried }

// Spent is closed when MaxIdle or MaxUse is reached and there are no clients.
func (f *FrontEnd) Spent() <-chan struct{} { return f.usage.spent }

// Run keeps the link to the agent until ctx ends. Then it finishes the requests that are served here and
// leaves the others to the agent.
func (f *FrontEnd) Run(ctx context.Context) {
	defer f.finish()
	var tried sync.Once
	markTried := func() { tried.Do(func() { close(f.tried) }) }
	defer markTried()
	var away string // why, as logged last
	var logged time.Time
	for {
		link, err := f.greet(ctx)
		if err == nil {
			if away != "" {
				f.log.Info("agent is back", "path", f.cfg.Path)
				away = ""
			}
			f.adopt(link)
			markTried()
			err = link.run(ctx)
			// Clients shall not notice that the front end stops, only that the agent does.
			f.lose(link, ctx.Err() == nil)
		}
		if ctx.Err() != nil {
			return
		}
		if why := err.Error(); away == "" || why != away && time.Since(logged) > complainEvery {
			f.log.Warn("agent is away: answering RETRY until it is back", "path", f.cfg.Path, "err", why)
			away, logged = why, time.Now()
		}
		markTried()
		select {
		case <-ctx.Done():
			return
		case <-time.After(f.cfg.Retry):
		}
	}
}

// Connect opens a connection to the agent's socket with nothing but system calls on this goroutine.
func Connect(path string) (*net.UnixConn, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("make socket: %w", err)
	}
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("connect: %w", err)
	}
	conn, err := connOf(fd)
	if err != nil {
		return nil, err
	}
	return conn.(*net.UnixConn), nil
}

// greet opens a link and says hello.
func (f *FrontEnd) greet(ctx context.Context) (*agentLink, error) {
	conn, err := f.cfg.Connect(f.cfg.Path)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	l := newLink(conn, linkTimeout)
	if err := f.hello(l); err != nil {
		l.close()
		return nil, err
	}
	return newAgentLink(f, l), nil
}

func (f *FrontEnd) hello(l *link) error {
	for list := []byte(f.cfg.Hello.Approved); len(list) > 0; {
		part := list[:min(len(list), maxPart)]
		if err := l.send(message{Kind: kindList, List: part}, -1); err != nil {
			return err
		}
		list = list[len(part):]
	}
	if err := l.send(message{Kind: kindHello, Version: version, Hello: &f.cfg.Hello}, -1); err != nil {
		return err
	}
	l.conn.SetReadDeadline(time.Now().Add(linkTimeout))
	m, fd, err := l.receive()
	if err != nil {
		return fmt.Errorf("wait for welcome: %w", err)
	}
	closeFD(fd)
	switch m.Kind {
	case kindWelcome:
		return l.conn.SetReadDeadline(time.Time{})
	case kindRefuse:
		return fmt.Errorf("the agent refuses: %s", m.Text)
	default:
		return fmt.Errorf("wait for welcome: got %q", m.Kind)
	}
}

// adopt makes l the way for new connections and sends the clients that are served here after it: they find
// their connection closed before their next request, and reconnect.
func (f *FrontEnd) adopt(l *agentLink) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.agent = l
	f.goHome()
}

// lose returns to serving here.
func (f *FrontEnd) lose(l *agentLink, shut bool) {
	f.retire(l)
	f.usage.end(l.drop(shut))
}

// retire gives l no new connections.
func (f *FrontEnd) retire(l *agentLink) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.agent == l {
		f.agent = nil
		f.goHome()
		f.homeCtx, f.goHome = context.WithCancel(context.Background())
	}
}

// Take takes over an accepted connection, a descriptor in non-blocking mode. It does not wait for the
// client.
func (f *FrontEnd) Take(fd int) {
	first := f.usage.begin()
	f.mu.Lock()
	agent := f.agent
	f.mu.Unlock()
	if agent == nil || !agent.give(fd) {
		if agent != nil {
			f.retire(agent)
		}
		f.serve(fd)
	}
	if first {
		f.cfg.Served()
	}
}

// serve serves a connection here, in a goroutine that finish waits for.
func (f *FrontEnd) serve(fd int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.finished {
		unix.Close(fd)
		f.usage.end(1)
		return
	}
	ctx := f.homeCtx
	f.local.Go(func() {
		defer f.usage.end(1)
		conn, err := connOf(fd)
		if err != nil {
			f.log.Error("connection lost", "err", err)
			return
		}
		defer conn.Close()
		f.cfg.Serve(ctx, conn)
	})
}

// finish ends what Run began.
func (f *FrontEnd) finish() {
	f.mu.Lock()
	f.finished = true
	f.goHome()
	f.mu.Unlock()
	f.usage.stop()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f.local.Wait()
	}()
	select {
	case <-done:
	case <-time.After(finishTime):
		f.log.Warn("requests cut off: they took too long to finish")
	}
}

var (
	errHung = errors.New("the agent does not answer")
	errBye  = errors.New("the agent has stopped")
)

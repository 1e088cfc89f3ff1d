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

	// Serve serves a socket here, while there is no agent, as the ServeConn of a Session does.
	Serve func(ctx context.Context, fd int, h *proxy.Handover) (clean bool)

	// DialStock opens a connection to the stock proxymap service, for local tables; nil when the
	// operator keeps none.
	DialStock func(ctx context.Context) (net.Conn, error)

	// Aliases is called with the tables that are aliases of raft tables, whenever an agent says so: Serve is to
	// answer them as it does raft tables. nil means that nobody wants to know.
	Aliases func(names []string)

	// Agents reports of a table that is not a raft table whether the agent alone can answer for it, so that requests wait for it a
	// while; nil means of none.
	Agents func(table string) bool

	// Served is called once, when the first client has been handed over or served.
	Served func()

	MaxIdle time.Duration // Spent after so long without clients; 0 is never
	MaxUse  int           // Spent after so many clients, once they have gone; 0 is never

	Logger *slog.Logger

	// Times; zero means the default.
	Hold     time.Duration // a client's first request waits for the agent to come back; negative is not at all
	Retry    time.Duration // between attempts to reach the agent, once it has been away for long
	Ping     time.Duration // between pings while the agent has connections of ours
	Patience int           // pings without an answer until the agent counts as hung
}

const (
	defaultHold     = 1500 * time.Millisecond
	defaultRetry    = 200 * time.Millisecond
	defaultPing     = 200 * time.Millisecond
	defaultPatience = 20
	linkTimeout     = time.Second     // for the greeting, and for one message to be taken
	dialTimeout     = time.Second     // for the stock service to take a connection
	maxDials        = 64              // at a time
	finishTime      = 2 * time.Second // for requests at hand when the front end stops
	complainEvery   = 10 * time.Second

	// An agent that has been away for so long is not being restarted: requests no longer wait for it.
	restartTime = 10 * time.Second
	quickRetry  = 25 * time.Millisecond // between attempts until then
)

// A FrontEnd gives each connection to the agent, and to the next agent after that one. While there is none,
// requests wait for it a while and are then answered here, with RETRY.
type FrontEnd struct {
	cfg   FrontEndConfig
	log   *slog.Logger
	usage *usage
	tried chan struct{} // closed once the agent has been asked for the first time
	local sync.WaitGroup

	mu       sync.Mutex // guards what follows
	agent    *agentLink // nil while the agent is away
	lost     time.Time  // since when
	homeCtx  context.Context
	goHome   context.CancelFunc // ends homeCtx: clients leave here for the agent
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
	if cfg.Hold == 0 {
		cfg.Hold = defaultHold
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
	if cfg.Aliases == nil {
		cfg.Aliases = func([]string) {}
	}
	if cfg.Served == nil {
		cfg.Served = func() {}
	}
	f := &FrontEnd{
		cfg:   cfg,
		log:   cfg.Logger,
		usage: newUsage(cfg.MaxIdle, cfg.MaxUse),
		tried: make(chan struct{}),
		lost:  time.Now(),
	}
	f.homeCtx, f.goHome = context.WithCancel(context.Background())
	return f
}

// Tried is closed once the agent has been asked for the first time, with or without success. A front end
// that accepts nothing before has no reason to answer RETRY to its first client.
func (f *FrontEnd) Tried() <-chan struct{} { return f.tried }

// Spent is closed when MaxIdle or MaxUse is reached and there are no clients.
func (f *FrontEnd) Spent() <-chan struct{} { return f.usage.spent }

// Run keeps the link to the agent until ctx ends. Then it finishes the requests that are served here, leaves
// those that the agent has in hand to the agent, and all clients see their end.
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
			f.lose(link, err, ctx.Err() != nil)
		}
		if ctx.Err() != nil {
			return
		}
		if why := err.Error(); away == "" || why != away && time.Since(logged) > complainEvery {
			f.log.Warn("agent is away: requests wait for it a moment, then get RETRY", "path", f.cfg.Path, "err", why)
			away, logged = why, time.Now()
		}
		markTried()
		select {
		case <-ctx.Done():
			return
		case <-time.After(f.retryTime()):
		}
	}
}

func (f *FrontEnd) retryTime() time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	if time.Since(f.lost) < restartTime {
		return min(f.cfg.Retry, quickRetry)
	}
	return f.cfg.Retry
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
	page, err := f.hello(l)
	if err != nil {
		l.close()
		return nil, err
	}
	return newAgentLink(f, l, page), nil
}

// hello returns the page that this front end and the agent share; nil if the agent is of the oldest version.
func (f *FrontEnd) hello(l *link) (shared *page, err error) {
	for list := []byte(f.cfg.Hello.Approved); len(list) > 0; {
		part := list[:min(len(list), maxPart)]
		if err := l.send(message{Kind: kindList, List: part}, -1); err != nil {
			return nil, err
		}
		list = list[len(part):]
	}
	m := message{Kind: kindHello, Version: oldest, Newest: version, Hello: &f.cfg.Hello}
	p, fd, err := newPage()
	if err != nil {
		f.log.Warn("clients will lose their connections when the agent stops", "err", err)
		m.Newest = oldest
	}
	defer func() {
		closeFD(fd)
		if shared == nil {
			p.close()
		}
	}()
	if err := l.send(m, fd); err != nil {
		return nil, err
	}
	l.conn.SetReadDeadline(time.Now().Add(linkTimeout))
	m, extra, err := l.receive()
	if err != nil {
		return nil, fmt.Errorf("wait for welcome: %w", err)
	}
	closeFD(extra)
	switch m.Kind {
	case kindWelcome:
		if m.Version >= version {
			shared = p
		}
		f.cfg.Aliases(m.Attrs)
		return shared, l.conn.SetReadDeadline(time.Time{})
	case kindRefuse:
		return nil, fmt.Errorf("the agent refuses: %s", m.Text)
	default:
		return nil, fmt.Errorf("wait for welcome: got %q", m.Kind)
	}
}

// adopt makes l the way for all clients that are here and for new ones.
func (f *FrontEnd) adopt(l *agentLink) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.agent = l
	f.goHome()
}

// lose takes the clients back from an agent that went because of err. Those that may be in a request see their
// end and ask again. When it is the front end that is finishing, the agent sees to the clients.
func (f *FrontEnd) lose(l *agentLink, err error, finishing bool) {
	f.retire(l, l.since(err))
	kept, lost := l.drop()
	if finishing {
		kept, lost = nil, append(lost, kept...)
	}
	for _, c := range lost {
		c.end(!finishing)
	}
	f.usage.end(len(lost))
	for _, c := range kept {
		f.place(c)
	}
}

// retire gives l, which went at a time, no more clients.
func (f *FrontEnd) retire(l *agentLink, when time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.agent == l {
		f.agent = nil
		f.lost = when
		f.homeCtx, f.goHome = context.WithCancel(context.Background())
	}
}

// Take takes over an accepted connection, a descriptor in non-blocking mode. It does not wait for the
// client.
func (f *FrontEnd) Take(fd int) {
	first := f.usage.begin()
	f.place(&client{fd: fd})
	if first {
		f.cfg.Served()
	}
}

// place brings a client to the agent or, while there is none, keeps it here, in a goroutine that finish waits
// for.
func (f *FrontEnd) place(c *client) {
	for {
		agent := f.keep(c)
		if agent == nil {
			return
		}
		switch err := agent.give(c); err {
		case nil:
			return
		case errGone:
			f.retire(agent, time.Now())
		default:
			if err != errOld { // the client comes back at once
				f.log.Warn("connection closed", "err", err)
			}
			c.end(true)
			f.usage.end(1)
			return
		}
	}
}

// keep keeps a client here, unless there is an agent.
func (f *FrontEnd) keep(c *client) *agentLink {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.finished:
		c.end(false)
		f.usage.end(1)
	case f.agent != nil:
		return f.agent
	default:
		ctx := f.homeCtx
		f.local.Go(func() {
			if f.stay(ctx, c) {
				f.place(c)
			} else {
				f.usage.end(1)
			}
		})
	}
	return nil
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

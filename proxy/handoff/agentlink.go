package handoff

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// An agentLink is the front end's end of a link that was welcomed.
type agentLink struct {
	*link
	front *FrontEnd
	pid   int // of the agent, 0 when it is not known

	dials chan struct{} // a place for each dial under way
	wg    sync.WaitGroup

	page *page // nil: this agent's clients end with it

	mu         sync.Mutex       // guards what follows; held while a connection is sent
	given      map[uint64]given // the clients at the agent; nil once dropped
	slots      slots
	lastID     uint64
	unanswered int       // pings
	seen       time.Time // the last sign of life, while there are clients
	bye        bool
}

// A given is a client at the agent.
type given struct {
	*client
	slot int
}

// slots are the places in the page that are in use. A place that was used is used again first.
type slots struct {
	free []int
	next int
}

func (s *slots) take() (slot int, ok bool) {
	if n := len(s.free); n > 0 {
		slot = s.free[n-1]
		s.free = s.free[:n-1]
		return slot, true
	}
	if s.next == maxLinkConns {
		return 0, false
	}
	s.next++
	return s.next - 1, true
}

func (s *slots) give(slot int) { s.free = append(s.free, slot) }

// newAgentLink takes over the page, which is nil if the agent takes none.
func newAgentLink(f *FrontEnd, l *link, p *page) *agentLink {
	a := &agentLink{link: l, front: f, page: p, dials: make(chan struct{}, maxDials), given: map[uint64]given{}, seen: time.Now()}
	if cred, err := peerOf(l.conn); err == nil {
		a.pid = int(cred.Pid)
	}
	return a
}

// Why a client is not given.
var (
	errGone = errors.New("the agent has gone")
	errFull = fmt.Errorf("the agent has %d connections of this service: that is the limit", maxLinkConns)
	errOld  = errors.New("the agent is of a version that takes new connections only")
)

// give hands c over. The front end keeps its descriptor too, until the agent is done with it or gone. After
// an error c is still the caller's alone.
func (l *agentLink) give(c *client) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.given == nil || l.bye {
		return errGone
	}
	g := given{client: c}
	if l.page == nil && (c.announced || len(c.rest) > 0) {
		return errOld
	}
	slot, ok := l.slots.take()
	if !ok {
		return errFull
	}
	g.slot = slot
	if l.page != nil {
		l.page.mark(slot).begin()
	}
	l.lastID++
	if err := l.send(message{Kind: kindConn, ID: l.lastID, Slot: slot, Announced: c.announced, Rest: c.rest}, c.fd); err != nil {
		l.front.log.Warn("connection not handed over: serving it here", "err", err)
		l.failed(err)
		return errGone
	}
	l.given[l.lastID] = g
	return nil
}

// take returns the client that the agent is done with.
func (l *agentLink) take(id uint64) (c *client, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	g, ok := l.given[id]
	if ok {
		delete(l.given, id)
		l.slots.give(g.slot)
	}
	return g.client, ok
}

// drop ends the hand-over of all clients. It returns those that were between two requests and those that were
// not, for all that is known. No agent reads from the former any more, even one that hangs and comes back.
func (l *agentLink) drop() (kept, lost []*client) {
	l.mu.Lock()
	all := l.given
	l.given = nil
	l.mu.Unlock()
	for _, g := range all {
		if l.page != nil {
			if fresh, ok := l.page.mark(g.slot).take(); ok {
				if !fresh {
					g.announced, g.rest = true, nil
				}
				kept = append(kept, g.client)
				continue
			}
		}
		lost = append(lost, g.client)
	}
	l.page.close()
	return kept, lost
}

// since returns when the agent went, if it went because of err.
func (l *agentLink) since(err error) time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	if errors.Is(err, errHung) {
		return l.seen
	}
	return time.Now()
}

// run works the link until it ends or ctx does, and says why.
func (l *agentLink) run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer l.wg.Wait()
	defer cancel(nil)
	context.AfterFunc(ctx, l.close)
	l.wg.Go(func() { l.ping(ctx, cancel) })
	var err error
	for reset := false; err == nil; {
		var m message
		var fd int
		m, fd, err = l.receive()
		switch {
		case err == nil:
			closeFD(fd) // the agent sends none
			l.handle(ctx, m)
		case errors.Is(err, unix.ECONNRESET) && !reset:
			// The agent has left something unread, and the kernel says so first. What it sent is still there.
			reset, err = true, nil
		}
	}
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.bye {
		return errBye
	}
	return err
}

func (l *agentLink) handle(ctx context.Context, m message) {
	switch m.Kind {
	case kindDone:
		if c, ok := l.take(m.ID); ok {
			c.end(false)
			l.front.usage.end(1)
		}
	case kindBack:
		if c, ok := l.take(m.ID); ok {
			c.announced, c.rest = true, m.Rest
			l.front.place(c)
		}
	case kindPong:
		l.mu.Lock()
		l.unanswered = 0
		l.seen = time.Now()
		l.mu.Unlock()
	case kindDial:
		select {
		case l.dials <- struct{}{}:
			l.wg.Go(func() {
				defer func() { <-l.dials }()
				l.dial(ctx, m.ID)
			})
		default:
			l.reply(message{Kind: kindDialed, ID: m.ID, Text: "too many connections are being opened"}, -1)
		}
	case kindLog:
		l.relay(ctx, m)
	case kindAliases:
		l.front.cfg.Aliases(m.Attrs)
	case kindBye:
		l.mu.Lock()
		l.bye = true
		l.mu.Unlock()
		l.front.retire(l, time.Now())
	}
}

// stoppedAfter is the number of unanswered pings after which the agent may be found stopped.
const stoppedAfter = 2

// ping asks the agent for a sign of life while it holds connections of ours. An agent that is stopped is
// given up at once; one that merely is slow may yet answer its clients, and for them that is better than
// RETRY. Pings are counted, not time: a front end that was itself held up must not blame the agent.
func (l *agentLink) ping(ctx context.Context, cancel context.CancelCauseFunc) {
	tick := time.NewTicker(l.front.cfg.Ping)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		l.mu.Lock()
		watch := len(l.given) > 0
		unanswered := l.unanswered
		if watch {
			l.unanswered++
		} else {
			l.unanswered = 0
			l.seen = time.Now()
		}
		l.mu.Unlock()
		switch {
		case !watch:
		case unanswered >= l.front.cfg.Patience, unanswered >= stoppedAfter && l.front.cfg.Stopped(l.pid):
			cancel(errHung)
			return
		default:
			l.reply(message{Kind: kindPing}, -1)
		}
	}
}

// Stopped reads the state of a process. It needs /proc.
func Stopped(pid int) bool {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return false
	}
	// PID (NAME) STATE ...: the name may hold parentheses, what follows it does not.
	state := stat[bytes.LastIndexByte(stat, ')')+1:]
	return len(state) > 1 && (state[1] == 'T' || state[1] == 't')
}

// reply sends m; a link that cannot take it ends.
func (l *agentLink) reply(m message, fd int) {
	if err := l.send(m, fd); err != nil {
		l.failed(err)
	}
}

// failed ends a link after a send that failed. Where the agent has ended it, run sees that by itself, behind
// what the agent has said before.
func (l *agentLink) failed(err error) {
	if !errors.Is(err, unix.EPIPE) && !errors.Is(err, unix.ECONNRESET) {
		l.close()
	}
}

// dial opens a connection to the stock service for the agent, which may not enter Postfix's directories.
func (l *agentLink) dial(ctx context.Context, id uint64) {
	m := message{Kind: kindDialed, ID: id}
	if l.front.cfg.DialStock == nil {
		m.Text = "no passthrough service is configured"
		l.reply(m, -1)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	conn, err := l.front.cfg.DialStock(ctx)
	if err != nil {
		m.Text = err.Error()
		l.reply(m, -1)
		return
	}
	defer conn.Close()
	if err := withFD(conn, func(fd int) { l.reply(m, fd) }); err != nil {
		m.Text = err.Error()
		l.reply(m, -1)
	}
}

func withFD(conn net.Conn, use func(fd int)) error {
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return errors.New("not a socket")
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return err
	}
	return raw.Control(func(fd uintptr) { use(int(fd)) })
}

// relay writes a record of the agent to Postfix's log.
func (l *agentLink) relay(ctx context.Context, m message) {
	var attrs []slog.Attr
	for i := 0; i+1 < len(m.Attrs); i += 2 {
		attrs = append(attrs, slog.String(m.Attrs[i], m.Attrs[i+1]))
	}
	l.front.log.LogAttrs(ctx, slog.Level(m.Level), m.Text, attrs...)
}

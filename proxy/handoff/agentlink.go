package handoff

import (
	"bytes"
	"context"
	"errors"
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

	mu         sync.Mutex     // guards what follows; held while a connection is sent
	conns      map[uint64]int // our descriptors of what was handed over; nil once dropped
	lastID     uint64
	unanswered int // pings
	bye        bool
}

func newAgentLink(f *FrontEnd, l *link) *agentLink {
	a := &agentLink{link: l, front: f, dials: make(chan struct{}, maxDials), conns: map[uint64]int{}}
	if cred, err := peerOf(l.conn); err == nil {
		a.pid = int(cred.Pid)
	}
	return a
}

// give hands fd over and keeps it too, until the agent is done with it. When it returns false, fd is still
// the caller's alone.
func (l *agentLink) give(fd int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conns == nil || l.bye {
		return false
	}
	l.lastID++
	if err := l.send(message{Kind: kindConn, ID: l.lastID}, fd); err != nil {
		l.front.log.Warn("connection not handed over: serving it here", "err", err)
		l.close() // run ends
		return false
	}
	l.conns[l.lastID] = fd
	return true
}

// drop forgets the connections and returns how many there were. With shut, their clients see their end.
func (l *agentLink) drop(shut bool) int {
	l.mu.Lock()
	conns := l.conns
	l.conns = nil
	l.mu.Unlock()
	for _, fd := range conns {
		if shut {
			// The agent may live and hold a descriptor too, so closing ours would not end the connection.
			unix.Shutdown(fd, unix.SHUT_RDWR)
		}
		unix.Close(fd)
	}
	return len(conns)
}

// run works the link until it ends or ctx does, and says why.
func (l *agentLink) run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer l.wg.Wait()
	defer cancel(nil)
	context.AfterFunc(ctx, l.close)
	l.wg.Go(func() { l.ping(ctx, cancel) })
	var err error
	for err == nil {
		var m message
		var fd int
		if m, fd, err = l.receive(); err == nil {
			closeFD(fd) // the agent sends none
			l.handle(ctx, m)
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
		l.mu.Lock()
		fd, ok := l.conns[m.ID]
		delete(l.conns, m.ID)
		l.mu.Unlock()
		if ok {
			unix.Close(fd)
			l.front.usage.end(1)
		}
	case kindPong:
		l.mu.Lock()
		l.unanswered = 0
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
	case kindBye:
		l.mu.Lock()
		l.bye = true
		l.mu.Unlock()
		l.front.retire(l)
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
		watch := len(l.conns) > 0
		unanswered := l.unanswered
		if watch {
			l.unanswered++
		} else {
			l.unanswered = 0
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

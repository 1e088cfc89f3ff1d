package cluster

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"postraft/cluster/trust"
)

const (
	handshakeTimeout  = 5 * time.Second
	maxHandshakes     = 128 // at once; see lobby
	maxNodeConns      = 4096
	peerAnswerTimeout = 10 * time.Second
)

// A port is the node's one TCP port: connections that prove themselves are told apart by ALPN and given to raft
// or to the handler of node requests.
type port struct {
	ln       net.Listener
	identity *trust.Identity
	address  string // that others use
	logger   *slog.Logger
	dialer   DialFunc
	handle   func(ctx context.Context, from string, kind byte, payload []byte) (answer byte, body []byte)

	refusals  repeats // by host
	strangers strangers
	count     func(event string)
	lobby     *lobby
	sessions  sessions // of both directions, of raft and of node requests
	raftConns chan net.Conn
	ctx       context.Context
	cancel    context.CancelFunc
	tasks     sync.WaitGroup
}

func listen(bind string, identity *trust.Identity, logger *slog.Logger) (*port, error) {
	ln, err := net.Listen("tcp", bind)
	if err != nil {
		return nil, err
	}
	p := &port{ln: ln, identity: identity, logger: logger, count: func(string) {}, raftConns: make(chan net.Conn), lobby: newLobby(maxHandshakes)}
	p.refusals.most = 20
	p.ctx, p.cancel = context.WithCancel(context.Background())
	return p, nil
}

// serve accepts until close.
func (p *port) serve() {
	p.tasks.Go(func() {
		for {
			c, err := p.ln.Accept()
			if err != nil {
				if p.ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
					return
				}
				if !p.refusals.again("accept") {
					p.logger.Warn("accept failed", "err", err)
				}
				select { // out of descriptors, most likely: let some go
				case <-time.After(100 * time.Millisecond):
				case <-p.ctx.Done():
					return
				}
				continue
			}
			leave := p.lobby.enter(c)
			p.tasks.Go(func() {
				ctx, cancel := context.WithTimeout(p.ctx, handshakeTimeout)
				t, err := p.identity.Server(ctx, c)
				cancel()
				leave()
				if err != nil {
					p.refused(c.RemoteAddr(), err)
					return
				}
				p.dispatch(t)
			})
		}
	})
}

// refused writes of a handshake that failed, once in a while for each network and never much in all.
func (p *port) refused(from net.Addr, err error) {
	network := networkOf(from)
	if isStranger(err) && p.ctx.Err() == nil {
		p.strangers.note(network)
		p.count(EventStranger)
	}
	if p.ctx.Err() != nil || errors.Is(err, net.ErrClosed) || p.refusals.again(network) {
		return
	}
	p.logger.Warn("node connection refused: the other end does not show that it belongs to this cluster", "from", network, "err", err)
}

func (p *port) dispatch(c *trust.Conn) {
	s := p.sessions.add(c, p.identity)
	if s == nil {
		return
	}
	switch c.Protocol {
	case raftProtocol:
		// Raft's transport closes it from now on.
		select {
		case p.raftConns <- s:
		case <-p.ctx.Done():
			s.Close()
		}
	case nodeProtocol:
		defer s.Close()
		p.answer(s)
	default:
		s.Close()
	}
}

// answer serves the requests of one connection.
func (p *port) answer(s *session) {
	r := bufio.NewReader(s)
	for {
		s.SetDeadline(time.Now().Add(2 * idleTimeout))
		if _, err := r.Peek(1); err != nil {
			return
		}
		s.SetDeadline(time.Now().Add(peerAnswerTimeout))
		kind, payload, err := readFrame(r)
		if err != nil {
			return
		}
		ctx, cancel := context.WithTimeout(p.ctx, peerAnswerTimeout)
		answer, body := p.handle(ctx, s.conn.ID, kind, payload)
		cancel()
		s.SetDeadline(time.Now().Add(peerAnswerTimeout))
		if err := writeFrame(s, answer, body); err != nil {
			return
		}
	}
}

// close ends all connections and waits for their goroutines.
func (p *port) close() {
	p.cancel()
	p.ln.Close()
	p.sessions.close()
	p.tasks.Wait()
}

// dial opens a connection to the node at address, HOST:PORT or HOST:PORT#ID; with an id, the other end must
// prove it.
func (p *port) dial(ctx context.Context, address, protocol string) (*session, error) {
	host, id, named := strings.Cut(address, "#")
	raw, err := p.dialer(ctx, "tcp", host)
	if err != nil {
		return nil, err
	}
	c, err := p.identity.Client(ctx, raw, protocol)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", host, err)
	}
	if named && c.ID != id {
		c.Close()
		return nil, fmt.Errorf("dial %s: %w: it is %s, not %s", host, errOtherNode, c.ID, id)
	}
	s := p.sessions.add(c, p.identity)
	if s == nil {
		return nil, net.ErrClosed
	}
	return s, nil
}

// raftStream is the port as raft's transport sees it.
type raftStream struct{ *port }

// Accept implements net.Listener.
func (s *raftStream) Accept() (net.Conn, error) {
	select {
	case c := <-s.raftConns:
		return c, nil
	case <-s.ctx.Done():
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener. The port is closed by its owner. It ends the requests under way to peers, which
// raft waits for when it ends: one that was stopped would hold it up for ten seconds, and with a snapshot for longer.
func (s *raftStream) Close() error {
	s.cancel()
	s.sessions.close()
	return nil
}

// Addr implements net.Listener.
func (s *raftStream) Addr() net.Addr { return streamAddr(s.address) }

// Dial implements raft.StreamLayer. Where the address names a server id, the other end must prove it.
func (s *raftStream) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(s.ctx, timeout)
	defer cancel()
	dial := func(ctx context.Context) (*session, error) { return s.dial(ctx, string(address), raftProtocol) }
	first, err := dial(ctx)
	if err != nil {
		return nil, err
	}
	return &raftConn{dial: dial, now: first}, nil
}

type streamAddr string

func (streamAddr) Network() string  { return "tcp" }
func (a streamAddr) String() string { return string(a) }

package cluster

import (
	"bufio"
	"context"
	"crypto/tls"
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
	maxHandshakes     = 64 // at once; a stranger who opens more waits
	maxNodeConns      = 1024
	peerAnswerTimeout = 10 * time.Second
)

// A port is the node's one TCP port: TLS connections are told apart by ALPN and given to raft or to the
// handler of node requests.
type port struct {
	ln      net.Listener
	config  *tls.Config
	address string // that others use
	logger  *slog.Logger
	handle  func(ctx context.Context, from string, kind byte, payload []byte) (answer byte, body []byte)

	refusals  repeats // by host
	raftConns chan net.Conn
	ctx       context.Context
	cancel    context.CancelFunc
	tasks     sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn]struct{}
}

func listen(bind string, config *tls.Config, logger *slog.Logger) (*port, error) {
	ln, err := net.Listen("tcp", bind)
	if err != nil {
		return nil, err
	}
	p := &port{ln: ln, config: config, logger: logger, raftConns: make(chan net.Conn), conns: map[net.Conn]struct{}{}}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	return p, nil
}

// serve accepts until close.
func (p *port) serve() {
	p.tasks.Go(func() {
		slots := make(chan struct{}, maxHandshakes)
		for {
			c, err := p.ln.Accept()
			if err != nil {
				if p.ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
					return
				}
				p.logger.Warn("accept failed", "err", err)
				select { // out of descriptors, most likely: let some go
				case <-time.After(100 * time.Millisecond):
				case <-p.ctx.Done():
					return
				}
				continue
			}
			select {
			case slots <- struct{}{}:
			case <-p.ctx.Done():
				c.Close()
				return
			}
			if !p.track(c) {
				c.Close()
				<-slots
				continue
			}
			p.tasks.Go(func() {
				t := tls.Server(c, p.config)
				ctx, cancel := context.WithTimeout(p.ctx, handshakeTimeout)
				err := t.HandshakeContext(ctx)
				cancel()
				<-slots
				if err != nil {
					host, _, _ := net.SplitHostPort(c.RemoteAddr().String())
					if p.ctx.Err() == nil && !p.refusals.again(host) {
						p.logger.Warn("node connection refused: the other end does not show this cluster's secret", "from", host, "err", err)
					}
					p.untrack(c)
					return
				}
				p.dispatch(t)
			})
		}
	})
}

func (p *port) track(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ctx.Err() != nil || len(p.conns) >= maxNodeConns {
		return false
	}
	p.conns[c] = struct{}{}
	return true
}

func (p *port) untrack(c net.Conn) {
	p.mu.Lock()
	delete(p.conns, c)
	p.mu.Unlock()
	c.Close()
}

func (p *port) dispatch(c *tls.Conn) {
	switch c.ConnectionState().NegotiatedProtocol {
	case raftProtocol:
		// Raft's transport closes it from now on.
		p.mu.Lock()
		delete(p.conns, c.NetConn())
		p.mu.Unlock()
		select {
		case p.raftConns <- c:
		case <-p.ctx.Done():
			c.Close()
		}
	case nodeProtocol:
		defer p.untrack(c.NetConn())
		p.answer(c)
	default:
		p.untrack(c.NetConn())
	}
}

// answer serves the requests of one connection.
func (p *port) answer(c *tls.Conn) {
	from := trust.PeerID(c.ConnectionState())
	r := bufio.NewReader(c)
	for {
		c.SetDeadline(time.Now().Add(2 * idleTimeout))
		kind, payload, err := readFrame(r)
		if err != nil {
			return
		}
		ctx, cancel := context.WithTimeout(p.ctx, peerAnswerTimeout)
		answer, body := p.handle(ctx, from, kind, payload)
		cancel()
		c.SetDeadline(time.Now().Add(peerAnswerTimeout))
		if err := writeFrame(c, answer, body); err != nil {
			return
		}
	}
}

// close ends all connections and waits for their goroutines.
func (p *port) close() {
	p.cancel()
	p.ln.Close()
	p.mu.Lock()
	for c := range p.conns {
		c.Close()
	}
	p.mu.Unlock()
	p.tasks.Wait()
}

// raftStream is the port as raft's transport sees it.
type raftStream struct {
	*port
	dial *tls.Config

	mu     sync.Mutex
	dialed map[*dialedConn]struct{}
}

// A dialedConn is forgotten by its stream when it is closed.
type dialedConn struct {
	net.Conn
	s *raftStream
}

// Close implements net.Conn.
func (c *dialedConn) Close() error {
	c.s.mu.Lock()
	delete(c.s.dialed, c)
	c.s.mu.Unlock()
	return c.Conn.Close()
}

func newRaftStream(p *port) *raftStream {
	config := p.config.Clone()
	config.NextProtos = []string{raftProtocol}
	return &raftStream{port: p, dial: config, dialed: map[*dialedConn]struct{}{}}
}

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
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.dialed {
		c.Conn.(*tls.Conn).NetConn().Close() // at once: TLS would say goodbye first, to a peer that may not read
	}
	return nil
}

// Addr implements net.Listener.
func (s *raftStream) Addr() net.Addr { return streamAddr(s.address) }

// Dial implements raft.StreamLayer. Where the address names a server id, the other end must prove it.
func (s *raftStream) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	host, id, named := strings.Cut(string(address), "#")
	d := tls.Dialer{NetDialer: &net.Dialer{Timeout: timeout}, Config: s.dial}
	ctx, cancel := context.WithTimeout(s.ctx, timeout)
	defer cancel()
	c, err := d.DialContext(ctx, "tcp", host)
	if err != nil {
		return nil, err
	}
	if proved := trust.PeerID(c.(*tls.Conn).ConnectionState()); named && proved != id {
		c.Close()
		return nil, fmt.Errorf("dial %s: it is %s, not %s", host, proved, id)
	}
	tracked := &dialedConn{c, s}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx.Err() != nil {
		c.Close()
		return nil, net.ErrClosed
	}
	s.dialed[tracked] = struct{}{}
	return tracked, nil
}

type streamAddr string

func (streamAddr) Network() string  { return "tcp" }
func (a streamAddr) String() string { return string(a) }

package cluster

import (
	"context"
	"net"
	"sync"
	"time"
)

// A raftConn is a connection on which raft asks another node. Raft keeps idle ones in a pool and does not look
// at them before it uses them, so one that was closed meanwhile, because what it rests on was taken away, would
// cost the next request: a hand-over of leadership, perhaps. A raftConn dials again instead, when nothing is
// under way on it. Raft has one request at a time on a connection, so that is when the last thing that happened
// was an answer.
type raftConn struct {
	dial func(ctx context.Context) (*session, error)

	mu       sync.Mutex
	now      *session
	asking   bool // something was written, and nothing read since
	deadline time.Time
	closed   bool
}

func (c *raftConn) session() *session {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Write implements net.Conn.
func (c *raftConn) Write(b []byte) (int, error) {
	s, err := c.ready()
	if err != nil {
		return 0, err
	}
	return s.Write(b)
}

// ready returns the session to write to, a new one if need be.
func (c *raftConn) ready() (*session, error) {
	c.mu.Lock()
	s, renew, deadline := c.now, !c.asking && c.now.ended() && !c.closed, c.deadline
	c.asking = true
	c.mu.Unlock()
	if !renew {
		return s, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), handshakeTimeout)
	defer cancel()
	s, err := c.dial(ctx)
	if err != nil {
		return nil, err
	}
	s.SetDeadline(deadline)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		s.Close()
		return nil, net.ErrClosed
	}
	c.now = s
	return s, nil
}

// Read implements net.Conn.
func (c *raftConn) Read(b []byte) (int, error) {
	n, err := c.session().Read(b)
	if n > 0 {
		c.mu.Lock()
		c.asking = false
		c.mu.Unlock()
	}
	return n, err
}

// Close implements net.Conn.
func (c *raftConn) Close() error {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	return c.session().Close()
}

// SetDeadline implements net.Conn.
func (c *raftConn) SetDeadline(t time.Time) error {
	c.mu.Lock()
	c.deadline = t
	c.mu.Unlock()
	c.session().SetDeadline(t) // a closed one fails; the next one gets it
	return nil
}

// SetReadDeadline implements net.Conn. Raft sets both.
func (c *raftConn) SetReadDeadline(t time.Time) error { return c.session().SetReadDeadline(t) }

// SetWriteDeadline implements net.Conn. Raft sets both.
func (c *raftConn) SetWriteDeadline(t time.Time) error { return c.session().SetWriteDeadline(t) }

// LocalAddr implements net.Conn.
func (c *raftConn) LocalAddr() net.Addr { return c.session().LocalAddr() }

// RemoteAddr implements net.Conn.
func (c *raftConn) RemoteAddr() net.Addr { return c.session().RemoteAddr() }

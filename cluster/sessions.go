package cluster

import (
	"io"
	"net"
	"sync"
	"sync/atomic"

	"postraft/cluster/trust"
)

// sessions are the connections whose other end has proved who it is, of both directions.
type sessions struct {
	onEnd func(id string) // set before the first session: told when one has ended, by either side

	mu     sync.Mutex
	live   map[*session]struct{}
	closed bool
}

// A session is one of them, as its user sees it.
type session struct {
	net.Conn
	conn *trust.Conn
	all  *sessions
	cut  atomic.Bool // closed by distrust: its reader is told that the other end has gone
	gone atomic.Bool
}

// add takes a connection in. Where there is no room for it, where all are closed, or where it is not trusted any
// more since its handshake, it is closed and add returns nil.
func (s *sessions) add(c *trust.Conn, identity *trust.Identity) *session {
	added := &session{Conn: c, conn: c, all: s}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || len(s.live) >= maxNodeConns || !identity.Trusts(c) {
		c.NetConn().Close()
		return nil
	}
	if s.live == nil {
		s.live = map[*session]struct{}{}
	}
	s.live[added] = struct{}{}
	return added
}

// distrust closes the connections that rest on a key or a CA which was taken away, and returns how many.
func (s *sessions) distrust(identity *trust.Identity) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	count := 0
	for c := range s.live {
		if !identity.Trusts(c.conn) {
			c.cut.Store(true)
			c.endLocked()
			count++
		}
	}
	return count
}

func (s *sessions) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for c := range s.live {
		c.endLocked()
	}
}

func (c *session) endLocked() {
	c.gone.Store(true)
	delete(c.all.live, c)
	c.conn.NetConn().Close() // at once: a farewell could wait for the other end
}

// Close implements net.Conn.
func (c *session) Close() error {
	c.all.mu.Lock()
	_, live := c.all.live[c]
	delete(c.all.live, c)
	c.all.mu.Unlock()
	c.gone.Store(true)
	if live && c.all.onEnd != nil {
		c.all.onEnd(c.conn.ID)
	}
	return c.Conn.Close()
}

// ended reports whether the connection was closed on this side.
func (c *session) ended() bool { return c.gone.Load() }

// Read implements net.Conn.
func (c *session) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if err != nil && c.cut.Load() {
		err = io.EOF
	}
	return n, err
}

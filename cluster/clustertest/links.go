package clustertest

import (
	"context"
	"errors"
	"net"
	"sync"

	"postraft/cluster"
)

// Links are the ways between the nodes of a cluster by TCP, which can be cut. Gossip goes on.
type Links struct {
	mu   sync.Mutex
	side map[string]int // of the nodes, by their address; all on one side at first
	live map[*linkConn]struct{}
	sent map[[2]string]int
}

type linkConn struct {
	net.Conn
	links    *Links
	from, to string
}

var errLinkCut = errors.New("link is cut")

// Join lets the node that is made from cfg reach the others by these links.
func (l *Links) Join(cfg *cluster.Config) {
	from, next := cfg.Bind, net.Dialer{}
	cfg.Dial = func(ctx context.Context, network, to string) (net.Conn, error) {
		c, err := next.DialContext(ctx, network, to)
		if err != nil {
			return nil, err
		}
		link := &linkConn{c, l, from, to}
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.side[from] != l.side[to] {
			c.Close()
			return nil, errLinkCut
		}
		if l.live == nil {
			l.live, l.sent = map[*linkConn]struct{}{}, map[[2]string]int{}
		}
		l.live[link] = struct{}{}
		return link, nil
	}
}

// Part cuts all links between these nodes and the others.
func (l *Links) Part(nodes ...*Node) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.side = map[string]int{}
	for _, n := range nodes {
		l.side[n.Config.Bind] = 1
	}
	for c := range l.live {
		if l.side[c.from] != l.side[c.to] {
			c.Conn.Close()
		}
	}
}

// Heal mends all links.
func (l *Links) Heal() { l.Part() }

// Sent returns how many times something was sent from one node to another over connections that the first has opened.
func (l *Links) Sent(from, to *Node) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.sent[[2]string{from.Config.Bind, to.Config.Bind}]
}

// Write implements net.Conn.
func (c *linkConn) Write(b []byte) (int, error) {
	c.links.mu.Lock()
	c.links.sent[[2]string{c.from, c.to}]++
	c.links.mu.Unlock()
	return c.Conn.Write(b)
}

// Close implements net.Conn.
func (c *linkConn) Close() error {
	c.links.mu.Lock()
	delete(c.links.live, c)
	c.links.mu.Unlock()
	return c.Conn.Close()
}

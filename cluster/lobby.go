package cluster

import (
	"net"
	"net/netip"
	"slices"
	"sync"
)

// A lobby holds the connections that have not proved themselves yet. It is never full: a newcomer who finds
// all places taken gets that of the one who has waited longest among those from the network with most places.
// So who opens many connections and says nothing takes places from himself, and no node waits for him.
type lobby struct {
	most int

	mu     sync.Mutex
	guests []guest // in the order of their coming
}

type guest struct {
	conn    net.Conn
	network string
}

func newLobby(most int) *lobby { return &lobby{most: most} }

// enter takes a connection in, and perhaps closes another one. leave must be called when it has proved itself,
// or has failed to.
func (l *lobby) enter(c net.Conn) (leave func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	g := guest{c, networkOf(c.RemoteAddr())}
	if len(l.guests) >= l.most {
		l.evictLocked()
	}
	l.guests = append(l.guests, g)
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.guests = slices.DeleteFunc(l.guests, func(other guest) bool { return other.conn == c })
	}
}

func (l *lobby) evictLocked() {
	count := map[string]int{}
	busiest := ""
	for _, g := range l.guests {
		if count[g.network]++; count[g.network] > count[busiest] {
			busiest = g.network
		}
	}
	i := slices.IndexFunc(l.guests, func(g guest) bool { return g.network == busiest })
	l.guests[i].conn.Close()
	l.guests = slices.Delete(l.guests, i, i+1)
}

// networkOf returns what one host can choose addresses from: an IPv4 address, or the 64 bits that name an
// IPv6 network.
func networkOf(a net.Addr) string {
	at, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return a.String()
	}
	ip := at.Addr().Unmap().WithZone("")
	if ip.Is4() {
		return ip.String()
	}
	prefix, err := ip.Prefix(64)
	if err != nil {
		return ip.String()
	}
	return prefix.String()
}

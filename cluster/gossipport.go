package cluster

import (
	"encoding/binary"
	"errors"
	"log"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// What memberlist sends begins with these bytes: a packet with the version of its encryption, a stream with a
// mark, the length of what follows, and that version.
const (
	gossipEncryption = 1  // AES-GCM without padding
	gossipStreamMark = 10 // memberlist's encryptMsg
	gossipStreamHead = 6

	maxGossipState   = 1 << 20 // of a stream; a member takes some 300 bytes there
	maxGossipStreams = 64      // from others at once; see lobby
)

// A gossipPort is memberlist's transport with a guard before it, for memberlist trusts what comes too early:
//
//   - The version byte is not covered by the encryption. Who records a genuine message and changes that byte
//     to the older version, which has padding, makes memberlist take away padding that is not there, and
//     panic. No node sends the older version, so it is not let in.
//   - A stream is read up to 20 MiB before it is decrypted, and any number of streams at once.
type gossipPort struct {
	*memberlist.NetTransport
	packets chan *memberlist.Packet
	streams chan net.Conn
	lobby   *lobby
	stop    chan struct{} // what comes is dropped from now on
	ended   chan struct{} // nothing comes any more
	closing sync.Once
	tasks   sync.WaitGroup
}

// listenGossip opens the port; 0 chooses one that is free for TCP and UDP.
func listenGossip(host string, port int, logger *log.Logger) (*gossipPort, error) {
	var inner *memberlist.NetTransport
	var err error
	for range 10 { // a port that the kernel chooses for TCP may be taken for UDP
		inner, err = memberlist.NewNetTransport(&memberlist.NetTransportConfig{BindAddrs: []string{host}, BindPort: port, Logger: logger})
		if err == nil || port != 0 {
			break
		}
	}
	if err != nil {
		return nil, err
	}
	g := &gossipPort{
		NetTransport: inner, packets: make(chan *memberlist.Packet), streams: make(chan net.Conn),
		lobby: newLobby(maxGossipStreams), stop: make(chan struct{}), ended: make(chan struct{}),
	}
	g.tasks.Go(g.guardPackets)
	g.tasks.Go(g.guardStreams)
	return g, nil
}

func (g *gossipPort) guardPackets() {
	for {
		select {
		case p := <-g.NetTransport.PacketCh():
			if p.Buf[0] != gossipEncryption {
				continue
			}
			select {
			case g.packets <- p:
			case <-g.stop:
			}
		case <-g.ended:
			return
		}
	}
}

func (g *gossipPort) guardStreams() {
	for {
		select {
		case c := <-g.NetTransport.StreamCh():
			guarded := &gossipStream{Conn: c, leave: g.lobby.enter(c)}
			select {
			case g.streams <- guarded:
			case <-g.stop:
				guarded.Close()
			}
		case <-g.ended:
			return
		}
	}
}

// PacketCh implements memberlist.Transport.
func (g *gossipPort) PacketCh() <-chan *memberlist.Packet { return g.packets }

// StreamCh implements memberlist.Transport.
func (g *gossipPort) StreamCh() <-chan net.Conn { return g.streams }

// DialAddressTimeout implements memberlist.NodeAwareTransport: answers are guarded, too.
func (g *gossipPort) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	c, err := g.NetTransport.DialAddressTimeout(a, timeout)
	if err != nil {
		return nil, err
	}
	return &gossipStream{Conn: c}, nil
}

// Shutdown implements memberlist.Transport. It may be called twice.
func (g *gossipPort) Shutdown() error {
	var err error
	g.closing.Do(func() {
		close(g.stop)
		err = g.NetTransport.Shutdown() // its listeners end when what they hold was taken
		close(g.ended)
		g.tasks.Wait()
	})
	return err
}

var errGossipHead = errors.New("not the gossip of a node, or too much of it")

// A gossipStream fails when its other end does not begin as a node does.
type gossipStream struct {
	net.Conn
	leave func() // nil for a stream of our own

	head [gossipStreamHead]byte
	have int
}

// Read implements net.Conn.
func (s *gossipStream) Read(b []byte) (int, error) {
	n, err := s.Conn.Read(b)
	if s.have < len(s.head) {
		s.have += copy(s.head[s.have:], b[:n])
		if !s.fits() {
			return 0, errGossipHead
		}
	}
	return n, err
}

func (s *gossipStream) fits() bool {
	switch {
	case s.have > 0 && s.head[0] != gossipStreamMark:
		return false
	case s.have < len(s.head):
		return true
	}
	return binary.BigEndian.Uint32(s.head[1:]) <= maxGossipState && s.head[5] == gossipEncryption
}

// Close implements net.Conn.
func (s *gossipStream) Close() error {
	if s.leave != nil {
		s.leave()
	}
	return s.Conn.Close()
}

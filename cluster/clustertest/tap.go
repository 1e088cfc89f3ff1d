package clustertest

import (
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"postraft/cluster"
)

// A Tap sits between a node and all others, passes everything on, and keeps what came to the node: the ear of
// an attacker who can listen in the network.
type Tap struct {
	Gossip string // where the node's gossip is reached

	t     testing.TB
	tasks sync.WaitGroup
	delay atomic.Int64 // a Duration

	mu      sync.Mutex
	closers []io.Closer
	closed  bool
	packets [][]byte
	streams map[string][][]byte // by the port that they came to, whole
}

// NewTap lets the node that is made from cfg be reached at another loopback address only, through the Tap.
func NewTap(t testing.TB, cfg *cluster.Config) *Tap {
	t.Helper()
	tap := &Tap{t: t, streams: map[string][][]byte{}}
	cfg.Advertise = "127.0.0.2"
	for _, target := range []string{cfg.Bind, cfg.Gossip} {
		_, port, err := net.SplitHostPort(target)
		if err != nil {
			t.Fatal(err)
		}
		tap.listen(net.JoinHostPort(cfg.Advertise, port), target)
	}
	_, port, err := net.SplitHostPort(cfg.Gossip)
	if err != nil {
		t.Fatal(err)
	}
	tap.Gossip = net.JoinHostPort(cfg.Advertise, port)
	t.Cleanup(tap.close)
	return tap
}

func (tap *Tap) listen(at, target string) {
	tap.t.Helper()
	ln, err := net.Listen("tcp", at)
	if err != nil {
		tap.t.Fatal(err)
	}
	tap.own(ln)
	udp, err := net.ListenPacket("udp", at)
	if err != nil {
		tap.t.Fatal(err)
	}
	tap.own(udp)
	to, err := net.Dial("udp", target)
	if err != nil {
		tap.t.Fatal(err)
	}
	tap.own(to)
	tap.tasks.Go(func() {
		b := make([]byte, 64<<10)
		for {
			n, _, err := udp.ReadFrom(b)
			if err != nil {
				return
			}
			tap.mu.Lock()
			tap.packets = append(tap.packets, slices.Clone(b[:n]))
			tap.mu.Unlock()
			to.Write(b[:n])
		}
	})
	tap.tasks.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			tap.tasks.Go(func() { tap.pass(c, target) })
		}
	})
}

// Delay makes TCP to the node, and back, take so much longer each way.
func (tap *Tap) Delay(d time.Duration) { tap.delay.Store(int64(d)) }

func (tap *Tap) wait() {
	if d := time.Duration(tap.delay.Load()); d > 0 {
		time.Sleep(d)
	}
}

// pass carries one stream both ways until one end closes.
func (tap *Tap) pass(c net.Conn, target string) {
	defer c.Close()
	to, err := net.Dial("tcp", target)
	if err != nil {
		return
	}
	defer to.Close()
	if !tap.own(c) || !tap.own(to) {
		return
	}
	back := make(chan struct{})
	go func() {
		defer close(back)
		b := make([]byte, 32<<10)
		for {
			n, err := to.Read(b)
			tap.wait()
			if _, sent := c.Write(b[:n]); err != nil || sent != nil {
				break
			}
		}
		c.Close()
	}()
	var heard []byte
	b := make([]byte, 32<<10)
	for {
		n, err := c.Read(b)
		heard = append(heard, b[:n]...)
		tap.wait()
		if err != nil {
			break
		}
		if _, err := to.Write(b[:n]); err != nil {
			break
		}
	}
	to.Close()
	<-back
	tap.mu.Lock()
	tap.streams[target] = append(tap.streams[target], heard)
	tap.mu.Unlock()
}

// own keeps what close has to close. It is closed at once when that was before.
func (tap *Tap) own(c io.Closer) bool {
	tap.mu.Lock()
	defer tap.mu.Unlock()
	if tap.closed {
		c.Close()
		return false
	}
	tap.closers = append(tap.closers, c)
	return true
}

func (tap *Tap) close() {
	tap.mu.Lock()
	tap.closed = true
	for _, c := range tap.closers {
		c.Close()
	}
	tap.mu.Unlock()
	tap.tasks.Wait()
}

// Packets returns the gossip packets that were heard.
func (tap *Tap) Packets() [][]byte {
	tap.mu.Lock()
	defer tap.mu.Unlock()
	return slices.Clone(tap.packets)
}

// Streams returns what came to one of the node's own addresses, for each connection that has ended.
func (tap *Tap) Streams(target string) [][]byte {
	tap.mu.Lock()
	defer tap.mu.Unlock()
	return slices.Clone(tap.streams[target])
}

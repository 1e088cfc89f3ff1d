package cluster_test

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"postraft/cluster"
	"postraft/cluster/clustertest"
	"postraft/cluster/trust"
	"postraft/cluster/trust/trusttest"
)

// The protocols of the node port, as they are in ALPN.
const (
	raftALPN = "postraft-raft/1"
	nodeALPN = "postraft-node/1"
)

const tlsAlert = 21 // a TLS record that says why the handshake failed

// attackerIP is where attackers come from: not where the nodes are.
var attackerIP = net.IPv4(127, 0, 0, 9)

func attackerDial(t *testing.T, network, address string) net.Conn {
	t.Helper()
	d := net.Dialer{Timeout: 5 * time.Second, LocalAddr: &net.TCPAddr{IP: attackerIP}}
	if network == "udp" {
		d.LocalAddr = &net.UDPAddr{IP: attackerIP}
	}
	c, err := d.Dial(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// A loud keeps the log lines that an operator sees, but for what members say of each other in any case.
type loud struct {
	mu    sync.Mutex
	lines []string
}

func (l *loud) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelInfo }
func (l *loud) WithAttrs([]slog.Attr) slog.Handler               { return l }
func (l *loud) WithGroup(string) slog.Handler                    { return l }
func (l *loud) Handle(_ context.Context, r slog.Record) error {
	line := r.Message
	if strings.HasPrefix(line, "member ") {
		return nil
	}
	r.Attrs(func(a slog.Attr) bool { line += " " + a.String(); return true })
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, line)
	return nil
}

func (l *loud) since(n int) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.lines[n:])
}

// A siege is a cluster under attack, and how it was before.
type siege struct {
	*clustertest.Cluster
	t          *testing.T
	log        *loud
	lines      int
	term       uint64
	goroutines int
	heap       uint64
}

func besiege(t *testing.T, edit func(*cluster.Config)) *siege {
	t.Helper()
	s := &siege{t: t, log: &loud{}}
	s.Cluster = clustertest.NewWith(t, 3, func(cfg *cluster.Config) {
		cfg.Logger = slog.New(s.log)
		if edit != nil {
			edit(cfg)
		}
	})
	s.Leader().Create("t")
	s.Leader().Put("t", "k", "v")
	s.Agree()
	s.begin()
	return s
}

func (s *siege) begin() {
	s.term, s.goroutines, s.heap, s.lines = s.Leader().Status().Term, runtime.NumGoroutine(), heap(), len(s.log.since(0))
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// stands ensures that the cluster is as it was: the same members, a leader of the same term, writes on every
// node, and no more goroutines, memory and log lines than a few.
func (s *siege) stands(lines int) {
	s.t.Helper()
	for i, n := range s.Nodes {
		select {
		case <-n.Done():
			s.t.Fatalf("%s has ended: %v", n.Config.Name, n.Err())
		default:
		}
		n.Put("t", fmt.Sprint("after", i), "v")
	}
	members, err := s.Nodes[0].Members(s.t.Context())
	if err != nil || len(members) != 3 {
		s.t.Errorf("members: %+v %v", members, err)
	}
	if term := s.Leader().Status().Term; term != s.term {
		s.t.Errorf("term %d, before %d", term, s.term)
	}
	s.Eventually("goroutines and memory are as before", func() error {
		if n, h := runtime.NumGoroutine(), heap(); n > s.goroutines+20 || h > s.heap+16<<20 {
			return fmt.Errorf("%d goroutines, before %d; %d bytes, before %d", n, s.goroutines, h, s.heap)
		}
		return nil
	})
	if got := s.log.since(s.lines); len(got) > lines {
		s.t.Errorf("%d log lines, at most %d are right:\n%s", len(got), lines, strings.Join(got, "\n"))
	}
	s.Agree()
}

// TestAttack_Strangers ensures that who does not hold the secret gets nothing on the node port, whatever it shows.
func TestAttack_Strangers(t *testing.T) {
	s := besiege(t, nil)
	target := s.Leader().Config.Bind
	refused := func(what string, c net.Conn, err error) {
		t.Helper()
		if err == nil {
			c.SetDeadline(time.Now().Add(5 * time.Second))
			_, err = c.Write([]byte{1, 0, 0, 0, 3}) // askStatus
			var b [1]byte
			if n, readErr := c.Read(b[:]); n > 0 {
				t.Errorf("%s: answered", what)
			} else if err == nil {
				err = readErr
			}
			c.Close()
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: nobody hung up", what)
		}
	}
	bare := tls.Config{InsecureSkipVerify: true}
	selfMade, err := tls.LoadX509KeyPair(pair(trusttest.New(t).Issue("n1", nil)))
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		for _, protocol := range []string{raftALPN, nodeALPN, "h2", ""} {
			config := bare.Clone()
			if protocol != "" {
				config.NextProtos = []string{protocol}
			}
			c := tls.Client(attackerDial(t, "tcp", target), config)
			refused("no certificate, "+protocol, c, nil)
			config.Certificates = []tls.Certificate{selfMade}
			c = tls.Client(attackerDial(t, "tcp", target), config)
			refused("a certificate from elsewhere, "+protocol, c, nil)
			config.MaxVersion = tls.VersionTLS12
			c = tls.Client(attackerDial(t, "tcp", target), config)
			refused("TLS 1.2, "+protocol, c, nil)
		}
		for _, id := range []string{"n1/a", s.Leader().Status().ID} {
			other, err := trust.New(trust.Config{ID: id, Protocols: []string{nodeALPN}, Secrets: trust.Secrets{trust.NewSecret()}})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := other.Client(t.Context(), attackerDial(t, "tcp", target), nodeALPN); err == nil {
				t.Error("a node of another secret is believed")
			}
		}
		for _, text := range []string{"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "\x16\x03\x01\xff\xff", strings.Repeat("\x00", 4096), "\x05\x00\x00\x00\x01"} {
			c := attackerDial(t, "tcp", target)
			c.SetDeadline(time.Now().Add(10 * time.Second))
			c.Write([]byte(text))
			if b, err := io.ReadAll(c); len(b) > 7 || len(b) > 0 && b[0] != tlsAlert || errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("plain text: answered %x, %v", b, err)
			}
		}
	}
	s.stands(2)
}

func pair(f trust.Files) (cert, key string) { return f.Cert, f.Key }

// TestAttack_Replay records the gossip and the TLS connections of a node and plays them to all nodes, as they were
// and changed: the version byte of the gossip's encryption is not protected by it.
func TestAttack_Replay(t *testing.T) {
	var tap *clustertest.Tap
	s := besiege(t, func(cfg *cluster.Config) {
		switch cfg.Name {
		case "n2":
			tap = clustertest.NewTap(t, cfg)
		case "n3":
			cfg.Join = []string{tap.Gossip}
		}
	})
	n2 := s.Nodes[1]
	s.Eventually("gossip and TLS were heard", func() error {
		short := 0
		for _, p := range tap.Packets() {
			if len(p) < 70 { // answers to probes: what takes most harm from other padding
				short++
			}
		}
		if gossip, node := len(tap.Streams(n2.Config.Gossip)), len(tap.Streams(n2.Config.Bind)); short < 3 || gossip < 1 {
			return fmt.Errorf("%d answers, %d gossip streams, %d TLS streams", short, gossip, node)
		}
		return nil
	})
	packets, gossip := tap.Packets(), tap.Streams(n2.Config.Gossip)
	n2.Kill() // ends its TLS connections
	s.Eventually("TLS was heard", func() error {
		if len(tap.Streams(n2.Config.Bind)) == 0 {
			return errors.New("nothing")
		}
		return nil
	})
	node := tap.Streams(n2.Config.Bind)
	n2.Start()
	n2.WaitReady()
	s.Eventually("all are there again", func() error {
		s.Nodes[0].Put("t", "k", "v")
		if m, err := s.Nodes[0].Members(t.Context()); err != nil || len(m) != 3 || m[1].Alive != cluster.Alive || m[1].AppliedIndex == 0 {
			return fmt.Errorf("%+v %v", m, err)
		}
		return nil
	})
	s.begin()

	changed := func(b []byte, at int, to byte) []byte {
		if at >= len(b) {
			return b
		}
		b = slices.Clone(b)
		b[at] = to
		return b
	}
	for _, n := range s.Nodes {
		udp := attackerDial(t, "udp", n.Config.Gossip)
		for _, p := range packets {
			for _, b := range [][]byte{p, changed(p, 0, 0), changed(p, 0, 2), changed(p, 0, 244), changed(p, len(p)-1, p[len(p)-1]+1), p[:len(p)/2]} {
				udp.Write(b)
			}
		}
		for _, heard := range gossip {
			for _, b := range [][]byte{heard, changed(heard, 5, 0), changed(heard, 0, 6), changed(heard, 1, 255), heard[:len(heard)/2]} {
				send(t, n.Config.Gossip, b)
			}
		}
		for _, heard := range node[:min(len(node), 20)] {
			for _, b := range [][]byte{heard, heard[:len(heard)/2], changed(heard, len(heard)/3, 0xff)} {
				send(t, n.Config.Bind, b)
			}
		}
	}
	s.stands(12)
}

// send plays bytes to a TCP port and reads until the other end hangs up.
func send(t *testing.T, address string, b []byte) {
	t.Helper()
	c := attackerDial(t, "tcp", address)
	defer c.Close()
	c.SetDeadline(time.Now().Add(15 * time.Second))
	c.Write(b)
	c.(*net.TCPConn).CloseWrite()
	io.Copy(io.Discard, c)
}

// TestAttack_SlowHandshakes ensures that connections on which nothing is said keep nobody out, neither on the node
// port nor from the gossip, and that few of them are kept.
func TestAttack_SlowHandshakes(t *testing.T) {
	s := besiege(t, nil)
	var open atomic.Int64
	var silent []net.Conn
	for _, address := range []string{s.Leader().Config.Bind, s.Leader().Config.Gossip} {
		for i := range 400 {
			c := attackerDial(t, "tcp", address)
			silent = append(silent, c)
			if i%2 == 0 && address == s.Leader().Config.Bind {
				c.Write([]byte{0x16, 3, 1, 2, 0}) // the beginning of a handshake
			}
			open.Add(1)
			go func() {
				io.Copy(io.Discard, c)
				open.Add(-1)
			}()
		}
	}
	began := time.Now()
	fourth := s.Add(func(cfg *cluster.Config) { cfg.Join = []string{s.Leader().Config.Gossip} })
	fourth.WaitReady()
	fourth.Put("t", "through", "v")
	if took := time.Since(began); took > 4*time.Second {
		t.Errorf("a node took %v to join", took)
	}
	s.Eventually("few are kept", func() error {
		if n := open.Load(); n > 128+64 {
			return fmt.Errorf("%d are open", n)
		}
		return nil
	})
	for _, c := range silent {
		c.Close()
	}
	if err := fourth.Leave(t.Context()); err != nil {
		t.Error(err)
	}
	<-fourth.Done()
	s.Nodes = s.Nodes[:3]
	s.stands(20)
}

// TestAttack_Frames ensures that a node with the secret which speaks nonsense harms no node.
func TestAttack_Frames(t *testing.T) {
	s := besiege(t, nil)
	member, err := trust.New(trust.Config{ID: "n9/f", Protocols: []string{nodeALPN, raftALPN}, Secrets: trust.Secrets{s.Secret}})
	if err != nil {
		t.Fatal(err)
	}
	frame := func(size uint32, kind byte, payload string) []byte {
		return append(append(binary.LittleEndian.AppendUint32(nil, size), kind), payload...)
	}
	var frames [][]byte
	for kind := range 256 {
		for _, payload := range []string{"", "{", "null", `{"id":"x","coordinator":"n9/f","do":"use","key":"x"}`, strings.Repeat("\xff", 64)} {
			frames = append(frames, frame(uint32(len(payload)+1), byte(kind), payload))
		}
	}
	for _, n := range s.Nodes {
		dial := func(protocol string) *trust.Conn {
			c, err := member.Client(t.Context(), attackerDial(t, "tcp", n.Config.Bind), protocol)
			if err != nil {
				t.Fatal(err)
			}
			c.SetDeadline(time.Now().Add(15 * time.Second))
			return c
		}
		for _, size := range []uint32{0, 4<<20 + 1, 1 << 31, 1<<32 - 1} {
			c := dial(nodeALPN)
			c.Write(frame(size, 3, "{}"))
			if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) && !strings.Contains(fmt.Sprint(err), "reset") {
				t.Errorf("frame of %d bytes: %v", size, err)
			}
		}
		var announced []*trust.Conn // and not sent
		for range 50 {
			c := dial(nodeALPN)
			c.Write(frame(4<<20, 1, "{"))
			announced = append(announced, c)
		}
		if h := heap(); h > s.heap+64<<20 {
			t.Errorf("%d bytes for announced frames, before %d", h, s.heap)
		}
		for _, c := range announced {
			c.Close()
		}
		c := dial(nodeALPN)
		for _, f := range frames {
			if f[4] == 4 || f[4] == 6 { // a true pledge, a true hand-over
				continue
			}
			if _, err := c.Write(f); err != nil {
				t.Fatal(err)
			}
			head := make([]byte, 5)
			if _, err := io.ReadFull(c, head); err != nil {
				t.Fatalf("%x: %v", f[:5], err)
			}
			if _, err := io.CopyN(io.Discard, c, int64(binary.LittleEndian.Uint32(head))-1); err != nil {
				t.Fatal(err)
			}
		}
		c.Close()
		for _, text := range []string{"\x00", "\xff\xff\xff", strings.Repeat("\x01\xde\xff\xff", 100)} {
			c := dial(raftALPN)
			c.Write([]byte(text))
			c.CloseWrite()
			io.Copy(io.Discard, c)
		}
	}
	s.stands(60)
}

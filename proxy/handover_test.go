package proxy_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"postraft/proxy"
)

// A testGate can be shut as the hand-off shuts a connection: while the server is out.
type testGate struct {
	t     *testing.T
	state atomic.Uint32 // 0: nobody is in; 1: the server is; 2: shut
	left  atomic.Int32
}

func (g *testGate) Enter() bool {
	if g.state.Load() == 1 {
		g.t.Error("entered twice")
	}
	return g.state.CompareAndSwap(0, 1)
}

func (g *testGate) Leave() {
	if !g.state.CompareAndSwap(1, 0) {
		g.t.Error("left without being in")
	}
	g.left.Add(1)
}

func (g *testGate) shut() bool { return g.state.CompareAndSwap(0, 2) }

// A relay is a connection that several servers serve in turn.
type relay struct {
	*client
	h  *harness
	fd int // of the servers' end; each has a descriptor of its own
	proxy.Handover
}

func (h *harness) relay(t *testing.T) *relay {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(pair[1]) })
	return &relay{client: &client{t: t, Conn: fileConn(t, pair[0])}, h: h, fd: pair[1]}
}

// serve runs a server until the function that it returns is called, or the gate is shut. The server's answer
// comes out of the channel.
func (r *relay) serve() (end func(), clean <-chan bool) {
	r.t.Helper()
	fd, err := unix.FcntlInt(uintptr(r.fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r.t.Cleanup(cancel)
	r.Gate = &testGate{t: r.t.(*testing.T)}
	done := make(chan bool, 1)
	go func() {
		defer unix.Close(fd)
		done <- r.h.server.ServeHandover(ctx, fd, r.h.svc, 1, &r.Handover)
	}()
	return cancel, done
}

func mustBe(t *testing.T, what string, got <-chan bool, want bool) {
	t.Helper()
	select {
	case clean := <-got:
		if clean != want {
			t.Errorf("%s: clean = %v, want %v", what, clean, want)
		}
	case <-time.After(10 * time.Second):
		t.Fatalf("%s: the server does not end", what)
	}
}

// TestServeHandover_Relay ensures that a connection goes from server to server with the announcement made once
// and each request answered once, wherever the client's writes were cut.
func TestServeHandover_Relay(t *testing.T) {
	h := serve(t, proxy.Config{}, nil)
	h.tables.set("t", table{entries: map[string]string{"a": "1"}})
	r := h.relay(t)
	end, clean := r.serve()
	r.want("protocol|proxymap_protocol||")
	const reply = "status|0|value|1||"
	for cut := range len(lookupA) {
		r.send(lookupA + lookupA[:cut])
		r.want(reply)
		end()
		mustBe(t, "told to end", clean, true)
		if got := len(r.Input); got > cut {
			t.Fatalf("%d bytes were left of %d", got, cut)
		}
		end, clean = r.serve()
		r.send(lookupA[cut:])
		r.want(reply)
	}
	r.Close()
	mustBe(t, "client gone", clean, false)
}

// TestServeHandover_Pipelined ensures that many requests that arrived together are answered once and in order by
// servers that are told to end among them.
func TestServeHandover_Pipelined(t *testing.T) {
	h := serve(t, proxy.Config{}, nil)
	entries := map[string]string{}
	var requests, replies strings.Builder
	for i := range 2000 {
		key := fmt.Sprintf("k%d", i)
		entries[key] = fmt.Sprint(i)
		fmt.Fprintf(&requests, "request|lookup|table|raft:t|flags|0|key|%s||", key)
		fmt.Fprintf(&replies, "status|0|value|%d||", i)
	}
	h.tables.set("t", table{entries: entries})
	r := h.relay(t)
	r.Announced = true
	go r.Write([]byte(strings.ReplaceAll(requests.String(), "|", "\x00")))
	var stop atomic.Bool
	servers := 0
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for ; !stop.Load(); servers++ {
			end, clean := r.serve()
			end() // at once: it answers one request at least, if it has one
			if !<-clean {
				t.Error("not clean")
				return
			}
		}
	}()
	r.want(replies.String())
	stop.Store(true)
	<-ended
	t.Logf("%d servers", servers)
}

// TestServeHandover_Shut ensures that a server behind a shut gate reads nothing, so that another server gets
// all of a request, and that the gate cannot be shut while a request is in hand.
func TestServeHandover_Shut(t *testing.T) {
	h := serve(t, proxy.Config{}, nil)
	h.tables.set("t", table{entries: map[string]string{"a": "1"}})
	r := h.relay(t)
	_, clean := r.serve()
	gate := r.Gate.(*testGate)
	r.want("protocol|proxymap_protocol||")
	r.send(lookupA[:5])
	for gate.state.Load() != 1 || gate.left.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	if gate.shut() {
		t.Fatal("gate shut while half a request is in hand")
	}
	r.send(lookupA[5:])
	r.want("status|0|value|1||")
	for !gate.shut() {
		time.Sleep(time.Millisecond)
	}
	r.send(lookupA)
	mustBe(t, "shut out", clean, true)
	if len(r.Input) > 0 {
		t.Errorf("%d bytes were read behind a shut gate", len(r.Input))
	}
	_, clean = r.serve()
	r.want("status|0|value|1||")
	r.Close()
	mustBe(t, "client gone", clean, false)
}

// TestServeHandover_Spoilt ensures that a connection of which nobody knows where it stands is not given on.
func TestServeHandover_Spoilt(t *testing.T) {
	h := serve(t, proxy.Config{RequestTimeout: 50 * time.Millisecond}, nil)
	h.tables.set("t", table{always: strings.Repeat("x", 200<<10)})
	r := h.relay(t)
	_, clean := r.serve()
	r.send(strings.Repeat(lookupA, 10)) // and no reply is taken
	mustBe(t, "reply not taken", clean, false)

	r = h.relay(t)
	_, clean = r.serve()
	r.send(lookupA[:9])
	mustBe(t, "request not completed", clean, false)
}

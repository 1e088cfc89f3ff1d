package proxy_test

import (
	"context"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"postraft/proxy"
)

// crowded serves a table t whose lookups are answered, and a table slow whose writes take until their deadline. Of
// the clients several share each loop, so what one does would be felt by others.
func crowded(t *testing.T, limit time.Duration, waits bool) (h *harness, blocked <-chan struct{}) {
	ch := make(chan struct{}, 1024)
	h = serve(t, proxy.Config{WriteTimeout: limit}, nil)
	h.tables.set("t", table{entries: map[string]string{"a": "1"}})
	h.tables.set("slow", table{entries: map[string]string{}, block: true, blocked: ch, waits: waits})
	return h, ch
}

// bothWays runs a test with updates that go on by themselves and with such as need a goroutine that waits.
func bothWays(t *testing.T, test func(t *testing.T, waits bool)) {
	t.Run("started", func(t *testing.T) { test(t, false) })
	t.Run("waiting", func(t *testing.T) { test(t, true) })
}

const (
	updateSlow = "request|update|table|raft:slow|flags|0|key|a|value|1||"
	lookupSlow = "request|lookup|table|raft:slow|flags|0|key|a||"
)

// TestServer_SlowWriteAlone ensures that writes that take their time hold up no lookup of another connection.
func TestServer_SlowWriteAlone(t *testing.T) {
	bothWays(t, slowWriteAlone)
}

func slowWriteAlone(t *testing.T, waits bool) {
	h, blocked := crowded(t, 2*time.Second, waits)
	var writers []*client
	for i := range 4 * runtime.GOMAXPROCS(0) {
		c := h.dial()
		c.open("raft:slow")
		if i == 2*runtime.GOMAXPROCS(0) {
			h.tables.fail("slow", nil) // from now on it is to be made first, which takes no less time
		}
		c.send(updateSlow)
		<-blocked
		writers = append(writers, c)
	}
	began := time.Now()
	for range 4 * runtime.GOMAXPROCS(0) {
		c := h.dial()
		for range 10 {
			c.send(lookupA)
			c.want("status|0|value|1||")
		}
	}
	for _, c := range writers {
		c.SetReadDeadline(time.Now().Add(time.Millisecond))
		if n, err := c.Read(make([]byte, 1)); n > 0 || err == nil {
			t.Fatalf("a write was answered %v after the lookups began: they did not run beside it", time.Since(began))
		}
	}
	for _, c := range writers {
		c.want("status|2||")
	}
}

// TestServer_MeanwhileSent ensures that what a client sends while its request is being served is neither lost nor
// answered out of turn, be it more requests or the end.
func TestServer_MeanwhileSent(t *testing.T) {
	bothWays(t, meanwhileSent)
}

func meanwhileSent(t *testing.T, waits bool) {
	h, blocked := crowded(t, 50*time.Millisecond, waits)
	for range 5 {
		c := h.dial()
		c.open("raft:slow")
		c.send(updateSlow)
		<-blocked
		c.send(lookupA + lookupSlow[:20])
		c.want("status|2||status|0|value|1||")
		c.send(lookupSlow[20:])
		c.want("status|1|value|||")
		c.send(updateSlow)
		<-blocked
		c.Conn.(*net.UnixConn).CloseWrite()
		c.want("status|2||")
		c.closed()
	}
}

// TestServer_ReplyTime ensures that a client may take its time to read replies, though the writes that they answer had
// little.
func TestServer_ReplyTime(t *testing.T) {
	bothWays(t, replyTime)
}

func replyTime(t *testing.T, waits bool) {
	made := make(chan struct{}, 1)
	h := serve(t, proxy.Config{}, nil)
	h.tables.set("t", table{entries: map[string]string{}, within: 100 * time.Millisecond, made: made, waits: waits})
	c := h.dial()
	c.open("raft:t")
	sent, full := 0, false
	for ; !full && sent < 4000; sent++ {
		c.send("request|update|table|raft:t|flags|0|key|a|value|1||")
		select {
		case <-made:
		case <-time.After(400 * time.Millisecond): // the socket holds no more replies, and that is longer than a write may take
			full = true
		}
	}
	if !full {
		t.Fatalf("%d replies were sent that nobody read", sent)
	}
	c.want(strings.Repeat("status|0||", sent))
}

// TestServer_EndBehindRequest ensures that a client that asks and goes is answered, and seen to have gone.
func TestServer_EndBehindRequest(t *testing.T) {
	h, _ := crowded(t, time.Second, false)
	for range 20 {
		c := h.dial()
		c.send(lookupA + lookupA)
		c.Conn.(*net.UnixConn).CloseWrite()
		c.want("status|0|value|1||status|0|value|1||")
		c.closed()
	}
}

// TestServer_FloodShares ensures that clients that send requests without end do not keep the others from being
// answered, nor the program from its other work.
func TestServer_FloodShares(t *testing.T) {
	h, _ := crowded(t, time.Second, false)
	many := []byte(strings.ReplaceAll(strings.Repeat(lookupA, 500), "|", "\x00"))
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	for range 2 * runtime.GOMAXPROCS(0) {
		c := h.dial()
		context.AfterFunc(ctx, func() { c.Close() })
		go func() {
			for ctx.Err() == nil {
				if _, err := c.Write(many); err != nil {
					return
				}
			}
		}()
		go func() {
			buf := make([]byte, 64<<10)
			for {
				if _, err := c.Read(buf); err != nil {
					return
				}
			}
		}()
	}
	var worst time.Duration
	for range 2 * runtime.GOMAXPROCS(0) {
		c := h.dial()
		for range 50 {
			began := time.Now()
			c.send(lookupA)
			c.want("status|0|value|1||")
			worst = max(worst, time.Since(began))
		}
	}
	t.Logf("slowest answer beside the flood: %v", worst)
	if worst > 2*time.Second {
		t.Errorf("an answer took %v beside clients that flood", worst)
	}
}

// TestServer_ShortTurns ensures that what answers lookups has threads which ask the scheduler for short turns, as many as
// there are processors. A kernel that has turns of one length only (Linux before 6.12) tells 0 of each thread.
func TestServer_ShortTurns(t *testing.T) {
	h, _ := crowded(t, time.Second, false)
	loops := min(runtime.NumCPU(), runtime.GOMAXPROCS(0))
	for range loops { // each of them serves one, the first request apart
		c := h.dial()
		for range 3 {
			c.send(lookupA)
			c.want("status|0|value|1||")
		}
	}
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	short := 0
	for _, task := range tasks {
		id, err := strconv.Atoi(task.Name())
		if err != nil {
			t.Fatal(err)
		}
		if attr, err := unix.SchedGetAttr(id, 0); err == nil && attr.Runtime <= 100_000 {
			short++
		}
	}
	if short < loops {
		t.Errorf("%d threads have short turns, want %d", short, loops)
	}
}

// TestServer_Closed ensures that a server that was closed serves nobody, and says so by closing the connection.
func TestServer_Closed(t *testing.T) {
	s := proxy.New(proxy.Config{Tables: newTables()})
	s.Close()
	path := t.TempDir() + "/s"
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	c := &client{t: t, Conn: conn}
	defer c.Close()
	server, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	s.ServeConn(t.Context(), server, &proxy.Service{Name: "proxymap"}, 0)
	c.closed()
}

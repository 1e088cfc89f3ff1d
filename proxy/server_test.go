package proxy_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"postraft/dict"
	"postraft/proxy"
)

const lookupA = "request|lookup|table|raft:t|flags|0|key|a||"

// TestServer_Statuses ensures that each error of a table has its status, that an open of an approved table is
// OK whatever the table's state, and that only surely absent keys are NOKEY.
func TestServer_Statuses(t *testing.T) {
	for _, tc := range []struct {
		name string
		err  error
		want string
	}{
		{"retry", dict.ErrRetry, "2"},
		{"wrapped", fmt.Errorf("no leader: %w", dict.ErrRetry), "2"},
		{"no table", dict.ErrNoTable, "2"},
		{"unknown outcome", dict.ErrUnknownOutcome, "2"},
		{"config", dict.ErrConfig, "5"},
		{"read only", dict.ErrReadOnly, "5"},
		{"bad source", dict.ErrBadSource, "5"},
		{"anything else", errors.New("surprise"), "2"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := serve(t, proxy.Config{}, nil)
			tb := h.tables.set("t", table{entries: map[string]string{"a": "1"}, err: tc.err})
			c := h.dial()
			c.send("request|open|table|raft:t|flags|0||")
			c.want("status|0|flags|16||")
			for _, r := range []struct{ request, rest string }{
				{lookupA, "value||"},
				{"request|delete|table|raft:t|flags|0|key|a||", ""},
				{"request|update|table|raft:t|flags|0|key|a|value|1||", ""},
				{"request|sequence|table|raft:t|flags|0|function|0||", "key||value||"},
			} {
				if tc.err == dict.ErrNoTable && strings.Contains(r.request, "|update|") {
					continue // makes the table
				}
				c.send(r.request)
				c.want("status|" + tc.want + "|" + r.rest + "|")
			}
			h.tables.mu.Lock()
			tb.err = nil
			h.tables.mu.Unlock()
			c.send(lookupA)
			c.want("status|0|value|1||")
			c.send("request|lookup|table|raft:t|flags|0|key|b||")
			c.want("status|1|value|||")
		})
	}
}

// TestServer_CreatesOnWrite ensures that opening an approved raft table on a proxywrite service makes it, and
// that on a proxymap service it does not.
func TestServer_CreatesOnWrite(t *testing.T) {
	for _, write := range []bool{true, false} {
		h := serve(t, proxy.Config{}, func(svc *proxy.Service) { svc.Write = write })
		c := h.dial()
		c.send(lookupA)
		c.want("status|2|value|||")
		c.send("request|open|table|raft:t|flags|0||")
		c.want("status|0|flags|16||")
		if !write {
			c.send(lookupA)
			c.want("status|2|value|||")
			continue
		}
		// A cache that is new is empty at once, not out of order.
		c.send(lookupA)
		c.want("status|1|value|||")
		c.send("request|update|table|raft:other|flags|0|key|a|value|1||")
		c.want("status|0||")
	}
}

// TestServer_Deny ensures that unapproved and unreachable tables are refused with the log lines of
// proxymap(8), which name the parameter, and that a new approval holds at once.
func TestServer_Deny(t *testing.T) {
	var log syncBuffer
	h := serve(t, proxy.Config{Logger: slog.New(slog.NewTextHandler(&log, nil))}, func(svc *proxy.Service) {
		svc.Write = false
		svc.Approve(proxy.ParseApproval("proxy:hash:/etc/aliases"))
		svc.Hint = "keep the stock service"
	})
	h.tables.set("t", table{entries: map[string]string{"a": "1"}})
	c := h.dial()
	for _, table := range []string{"raft:t", "hash:/etc/aliases", "hash:/etc/other"} {
		c.send("request|open|table|" + table + "|flags|0||")
		c.want("status|4|flags|0||")
		c.send("request|lookup|table|" + table + "|flags|0|key|k||")
		c.want("status|4|value|||")
	}
	c.send("request|update|table|raft:t|flags|0|key|a|value|1||")
	c.want("status|4||")
	c.send("request|open|table|nocolon|flags|0||")
	c.want("status|3|flags|0||")
	for _, want := range []string{`request for unapproved table: \"raft:t\"`,
		"to approve this table for read-only access, list proxy:raft:t in main.cf:proxy_read_maps",
		"refusing raft:t update request on non-proxywrite service", "keep the stock service"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("no %s in the log:\n%s", want, log.String())
		}
	}
	if n := strings.Count(log.String(), `unapproved table: \"raft:t\"`); n != 1 {
		t.Errorf("logged %d times", n)
	}
	h.svc.Approve(proxy.ParseApproval("proxy:raft:t"))
	c.send(lookupA)
	c.want("status|0|value|1||")
}

// TestServer_Pipelined ensures that requests that arrive together, or in any pieces, are answered in order.
func TestServer_Pipelined(t *testing.T) {
	h := serve(t, proxy.Config{}, nil)
	entries := map[string]string{}
	var requests, replies strings.Builder
	for i := range 500 {
		fmt.Fprintf(&requests, "request|lookup|table|raft:t|flags|0|key|k%d||", i)
		fmt.Fprintf(&replies, "status|0|value|v%d||", i)
		entries[fmt.Sprint("k", i)] = fmt.Sprint("v", i)
	}
	h.tables.set("t", table{entries: entries})
	c := h.dial()
	c.send(requests.String())
	c.want(replies.String())
	for _, b := range []byte(lookupA) {
		c.send(string(b))
	}
	c.want("status|1|value|||")
}

// TestServer_Sequence ensures that a scan goes on by key: past deleted and inserted entries, on another
// connection of the same process, and to the end, where it stays.
func TestServer_Sequence(t *testing.T) {
	h := serve(t, proxy.Config{}, nil)
	h.tables.set("t", table{entries: map[string]string{"a": "1", "c": "3", "e": "5", "": "0"}})
	first, next := "request|sequence|table|raft:t|flags|0|function|0||", "request|sequence|table|raft:t|flags|0|function|1||"
	c := h.dial()
	c.send(next) // without a first: the beginning
	c.want("status|0|key||value|0||")
	c.send(next)
	c.want("status|0|key|a|value|1||")
	c.send("request|delete|table|raft:t|flags|0|key|a||request|update|table|raft:t|flags|0|key|b|value|2||")
	c.want("status|0||status|0||")
	c.Close()
	c = h.dial()
	for _, want := range []string{"status|0|key|b|value|2||", "status|0|key|c|value|3||", "status|0|key|e|value|5||", "status|1|key||value|||", "status|1|key||value|||"} {
		c.send(next)
		c.want(want)
	}
	c.send(first)
	c.want("status|0|key||value|0||")
}

// TestServer_ScanSparesFresh ensures that a client which deletes what its scan has given it deletes that, and not what
// another host has written since; and that an entry which it has written itself is deleted whatever it holds.
func TestServer_ScanSparesFresh(t *testing.T) {
	h := serve(t, proxy.Config{}, nil)
	first, next := "request|sequence|table|raft:t|flags|0|function|0||", "request|sequence|table|raft:t|flags|0|function|1||"
	h.tables.set("t", table{entries: map[string]string{"b": "old", "c": "old"}})
	scan := func(c *client) { // to b, so that a is what Postfix would delete behind itself
		h.tables.put("t", "a", "old")
		c.send(first + next)
		c.want("status|0|key|a|value|old||status|0|key|b|value|old||")
	}
	c := h.dial()
	remove, look := "request|delete|table|raft:t|flags|0|key|a||", "request|lookup|table|raft:t|flags|0|key|a||"
	scan(c)
	c.send(remove + look)
	c.want("status|0||status|1|value|||")

	scan(c)
	h.tables.put("t", "a", "fresh")
	c.send(remove + look)
	c.want("status|0||status|0|value|fresh||")

	scan(c)
	c.send("request|update|table|raft:t|flags|0|key|a|value|own||")
	c.want("status|0||")
	h.tables.put("t", "a", "fresh")
	c.send(remove + look)
	c.want("status|0||status|1|value|||")

	// The last entry, behind which there is only the cleaner's own note, which it passes over.
	h.tables.put("t", "x", "old")
	h.tables.put("t", "y", "note")
	c.send(first + next + next + next + next)
	c.want("status|0|key|b|value|old||status|0|key|c|value|old||status|0|key|x|value|old||status|0|key|y|value|note||status|1|key||value|||")
	h.tables.put("t", "x", "fresh")
	c.send("request|delete|table|raft:t|flags|0|key|x||request|lookup|table|raft:t|flags|0|key|x||")
	c.want("status|0||status|0|value|fresh||")
}

// TestServer_Garbage ensures that nothing a client sends harms another client or is answered wrongly.
func TestServer_Garbage(t *testing.T) {
	h := serve(t, proxy.Config{RequestTimeout: 200 * time.Millisecond}, nil)
	h.tables.set("t", table{entries: map[string]string{"a": "1"}})
	good := h.dial()
	check := func() {
		t.Helper()
		good.send(lookupA)
		good.want("status|0|value|1||")
	}
	c := h.dial()
	c.send("|") // an empty list
	c.send("hello|world||")
	c.send("request|frobnicate|more|stuff||")
	c.want("status|3||")
	c.send("request|lookup|table|raft:t|flags|-1|key|a||request|lookup|table|raft:t|flags|0|key|a|extra|x||")
	c.want("status|3|value|||status|0|value|1||")
	c.send(strings.Repeat("n|v|", 10000) + "|")
	c.send(lookupA)
	c.want("status|0|value|1||")
	check()

	half := h.dial()
	half.send("request|lookup|table|raft:t")
	half.closed()
	check()

	endless := h.dial()
	chunk := bytes.Repeat([]byte{'x'}, 64<<10)
	sent := 0
	for sent < 8<<20 {
		n, err := endless.Write(chunk)
		if sent += n; err != nil {
			break
		}
	}
	if sent > proxy.MaxList+1<<20 {
		t.Errorf("the server took %d bytes of one request", sent)
	}
	check()

	deaf := h.dial() // asks and never reads
	many := strings.Repeat(strings.ReplaceAll(lookupA, "|", "\x00"), 1000)
	deaf.SetWriteDeadline(time.Now().Add(10 * time.Second))
	for {
		if _, err := deaf.Write([]byte(many)); err != nil {
			if ne, ok := err.(net.Error); ok && ne.Timeout() {
				t.Error("a client that does not read was not given up")
			}
			break
		}
	}
	check()
}

// TestServer_IdleConnections ensures that 500 idle connections cost little and stay.
func TestServer_IdleConnections(t *testing.T) {
	h := serve(t, proxy.Config{RequestTimeout: 50 * time.Millisecond}, nil)
	h.tables.set("t", table{entries: map[string]string{"a": "1"}})
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	var idle []*client
	for range 500 {
		c := h.dial()
		c.send(lookupA)
		c.want("status|0|value|1||")
		c.buf = nil
		idle = append(idle, c)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	each := (int64(after.HeapAlloc+after.StackInuse) - int64(before.HeapAlloc+before.StackInuse)) / 500
	t.Logf("%d bytes for each idle connection, both ends", each)
	if each > 40<<10 {
		t.Errorf("%d bytes for each idle connection", each)
	}
	for _, c := range idle {
		c.send(lookupA)
		c.want("status|0|value|1||")
	}
}

// TestServer_TableDropped ensures that an update makes a table anew that was dropped after it was opened, and that what
// fails otherwise is RETRY, be it known at once or later.
func TestServer_TableDropped(t *testing.T) {
	bothWays(t, tableDropped)
}

func tableDropped(t *testing.T, waits bool) {
	h := serve(t, proxy.Config{}, nil)
	h.tables.set("t", table{entries: map[string]string{}, waits: waits})
	c := h.dial()
	c.open("raft:t")
	for range 20 {
		h.tables.fail("t", nil)
		c.send("request|update|table|raft:t|flags|0|key|a|value|1||")
		c.want("status|0||")
		c.send(lookupA)
		c.want("status|0|value|1||")
		h.tables.fail("t", dict.ErrUnknownOutcome)
		c.send("request|update|table|raft:t|flags|0|key|a|value|2||")
		c.want("status|2||")
	}
}

// TestServer_WriteDeadline ensures that a write that nobody answers is RETRY within its deadline.
func TestServer_WriteDeadline(t *testing.T) {
	bothWays(t, writeDeadline)
}

func writeDeadline(t *testing.T, waits bool) {
	h := serve(t, proxy.Config{WriteTimeout: 100 * time.Millisecond}, nil)
	h.tables.set("t", table{entries: map[string]string{}, block: true, waits: waits})
	h.wantRetry(3 * time.Second)
}

// wantRetry ensures that an update of table t is RETRY within a time.
func (h *harness) wantRetry(most time.Duration) {
	h.t.Helper()
	c := h.dial()
	c.open("raft:t")
	began := time.Now()
	c.send("request|update|table|raft:t|flags|0|key|a|value|1||")
	c.want("status|2||")
	if took := time.Since(began); took > most {
		h.t.Errorf("answered after %v", took)
	}
}

// TestServer_TableDeadline ensures that a table with a deadline of its own is answered within that, where it is the
// shorter one, and that meanwhile opens, lookups and other writes of other connections are answered at once.
func TestServer_TableDeadline(t *testing.T) {
	bothWays(t, tableDeadline)
}

func tableDeadline(t *testing.T, waits bool) {
	h := serve(t, proxy.Config{WriteTimeout: time.Second}, nil)
	blocked := make(chan struct{}, 2)
	h.tables.set("hasty", table{entries: map[string]string{"k": "1"}, block: true, blocked: blocked, within: 100 * time.Millisecond, waits: waits})
	h.tables.set("slow", table{entries: map[string]string{"k": "1"}, block: true, blocked: blocked, within: time.Hour, waits: waits})
	fine := time.Nanosecond
	if !waits {
		fine = time.Second // who started an update gives it up at its limit, though it may be over by then
	}
	h.tables.set("fine", table{entries: map[string]string{}, within: fine, waits: waits})
	for table, most := range map[string]time.Duration{"hasty": 700 * time.Millisecond, "slow": 3 * time.Second} {
		for range 2 * runtime.GOMAXPROCS(0) {
			h.dial().send("request|upd") // they have more time
		}
		c, other := h.dial(), h.dial()
		c.open("raft:" + table)
		other.open("raft:fine")
		began := time.Now()
		c.send("request|update|table|raft:" + table + "|flags|0|key|a|value|1||")
		<-blocked
		if table == "slow" { // there is time to look
			other.send("request|open|table|raft:slow|flags|0||")
			other.want("status|0|flags|16||")
			other.send("request|lookup|table|raft:slow|flags|0|key|k||")
			other.want("status|0|value|1||")
			other.send("request|update|table|raft:fine|flags|0|key|k|value|v||")
			other.want("status|0||")
			if took := time.Since(began); took > 700*time.Millisecond {
				t.Errorf("other connections were answered after %v", took)
			}
		}
		c.want("status|2||")
		if took := time.Since(began); took > most || table == "slow" && took < time.Second {
			t.Errorf("%s was answered after %v", table, took)
		}
	}
}

// TestServer_DroppedDeadline ensures that an update of a table that is dropped meanwhile, so that it is to be made first, is
// answered within the limit that the table had.
func TestServer_DroppedDeadline(t *testing.T) {
	bothWays(t, droppedDeadline)
}

func droppedDeadline(t *testing.T, waits bool) {
	h := serve(t, proxy.Config{}, nil)
	h.tables.set("t", table{entries: map[string]string{}, vanish: true, block: true, within: 100 * time.Millisecond, waits: waits})
	h.wantRetry(2 * time.Second)
}

// TestServer_Stops ensures that a server that is told to stop answers the request at hand and closes idle
// connections.
func TestServer_Stops(t *testing.T) {
	bothWays(t, stops)
}

func stops(t *testing.T, waits bool) {
	set := newTables()
	blocked := make(chan struct{}, 1)
	set.set("t", table{entries: map[string]string{}, block: true, blocked: blocked, waits: waits})
	s := proxy.New(proxy.Config{Tables: set, WriteTimeout: 300 * time.Millisecond})
	defer s.Close()
	svc := &proxy.Service{Name: "proxywrite", Write: true}
	svc.Approve(proxy.ApproveAllRaft())
	path := filepath.Join(t.TempDir(), "s")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var ended sync.WaitGroup
	ended.Go(func() { s.Serve(ctx, ln, svc) })
	h := &harness{t: t, path: path, svc: svc}
	idle, busy := h.dial(), h.dial()
	idle.open("raft:t")
	busy.open("raft:t")
	busy.send("request|update|table|raft:t|flags|0|key|a|value|1||")
	<-blocked
	cancel()
	busy.want("status|2||")
	busy.closed()
	idle.closed()
	ended.Wait()
}

// stock is a stock proxymap service that answers every request with one reply.
func stock(t *testing.T, reply string) (path string, closeAll func()) {
	path = filepath.Join(t.TempDir(), "stock")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var conns []net.Conn
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, c)
			mu.Unlock()
			go func() {
				c.Write([]byte("protocol\x00proxymap_protocol\x00\x00"))
				b := make([]byte, 4096)
				for {
					if _, err := c.Read(b); err != nil {
						return
					}
					c.Write([]byte(strings.ReplaceAll(reply, "|", "\x00")))
				}
			}()
		}
	}()
	closeAll = func() {
		mu.Lock()
		defer mu.Unlock()
		for _, c := range conns {
			c.Close()
		}
		conns = nil
	}
	t.Cleanup(func() { ln.Close(); closeAll() })
	return path, closeAll
}

// TestServer_Passthrough ensures that approved local tables are answered by the stock service, over
// connections that may have gone stale, and are RETRY when it is away.
func TestServer_Passthrough(t *testing.T) {
	path, closeAll := stock(t, "status|0|value|local||")
	var away atomic.Bool
	h := serve(t, proxy.Config{}, func(svc *proxy.Service) {
		svc.Approve(proxy.ParseApproval("proxy:unix:passwd.byname, proxy:cidr:/etc/c, proxy:raft:t"))
		svc.Passthrough = &proxy.Stock{Announce: true, Dial: func(ctx context.Context) (net.Conn, error) {
			if away.Load() {
				return nil, errors.New("the stock service is away")
			}
			return (&net.Dialer{}).DialContext(ctx, "unix", path)
		}}
	})
	h.tables.set("t", table{entries: map[string]string{"a": "1"}})
	c := h.dial()
	ask := "request|lookup|table|unix:passwd.byname|flags|0|key|root||"
	c.send(ask + lookupA + ask)
	c.want("status|0|value|local||status|0|value|1||status|0|value|local||")
	closeAll()
	c.send(ask)
	c.want("status|0|value|local||")
	closeAll()
	away.Store(true)
	c.send(ask)
	c.want("status|2|value|||")
	c.send("request|open|table|unix:passwd.byname|flags|0||request|open|table|cidr:/etc/c|flags|0||")
	c.want("status|0|flags|16||status|0|flags|32||")
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(b)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// TestServer_LongNames ensures that names without measure of tables that are not served are answered, and neither kept nor logged.
func TestServer_LongNames(t *testing.T) {
	var log syncBuffer
	h := serve(t, proxy.Config{Logger: slog.New(slog.NewTextHandler(&log, nil))}, func(svc *proxy.Service) {})
	c := h.dial()
	for _, name := range []string{"hash:" + strings.Repeat("x", 500_000), strings.Repeat("y", 500_000), "raft:" + strings.Repeat("z", 500_000)} {
		for range 2 {
			c.send("request|lookup|table|" + name + "|flags|0|key|k||")
			if list := c.list(); !strings.HasPrefix(list, "status|") || strings.HasPrefix(list, "status|1|") {
				t.Errorf("%.10s: answered %.60q", name, list)
			}
		}
	}
	used := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := used()
	for n := range 100 {
		c.send(fmt.Sprintf("request|lookup|table|hash:%0500000d|flags|0|key|k||", n))
		c.list()
	}
	if after := used(); after > before+10<<20 {
		t.Errorf("%d MB are kept of 100 names of half a megabyte", (after-before)>>20)
	}
	for _, line := range strings.Split(log.String(), "\n") {
		if len(line) > 2000 {
			t.Errorf("a line of %d bytes: %.200s", len(line), line)
		}
	}
}

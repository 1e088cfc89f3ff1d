package proxy_test

import (
	"bytes"
	"context"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
	"time"

	"postraft/dict"
	"postraft/proxy"
)

// tables is a set of tables in memory. A name that was not set is a table that does not exist.
type tables struct {
	mu sync.Mutex
	m  map[string]*table
}

// put writes an entry as another host does.
func (s *tables) put(name, key, value string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.m[name].entries[key] = value
}

// fail has accesses fail with err, or drops the table where that is nil.
func (s *tables) fail(name string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.m[name].entries, s.m[name].err = nil, err
}

type table struct {
	set     *tables
	name    string
	kind    dict.Flags
	entries map[string]string // nil: the table does not exist
	always  string            // the value of every key
	err     error             // of every access
	block   bool              // updates, and making the table, wait for their deadline
	blocked chan<- struct{}   // told when one does, if not nil
	within  time.Duration     // the deadline of writes, while the table exists
	made    chan<- struct{}   // told of each update, if not nil
	vanish  bool              // the next update finds it dropped
	waits   bool              // it is no dict.Starter: updates need a goroutine that waits
}

func newTables() *tables { return &tables{m: map[string]*table{}} }

func (s *tables) set(name string, t table) *table {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.setLocked(name, t)
}

func (s *tables) setLocked(name string, t table) *table {
	t.set, t.name = s, name
	if t.kind == 0 {
		t.kind = dict.Fixed
	}
	s.m[name] = &t
	return &t
}

func (s *tables) Table(name string) proxy.Table {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, ok := s.m[name]
	if !ok {
		t = s.setLocked(name, table{})
	}
	if t.waits {
		return t
	}
	return starter{t}
}

// starter is a table whose updates go on by themselves.
type starter struct{ *table }

var _ dict.Starter = starter{}

func (t starter) Start(key, value []byte, limit time.Duration, done func()) (dict.Change, error) {
	key, value = bytes.Clone(key), bytes.Clone(value)
	ctx, cancel := context.WithTimeout(context.Background(), limit+time.Minute) // who started it gives up sooner
	c := &started{given: cancel, done: done}
	if !t.block && rand.IntN(3) == 0 {
		c.end(t.Update(ctx, key, value)) // sooner than anybody can ask
		return c, nil
	}
	go func() {
		if !t.block && rand.IntN(2) == 0 {
			time.Sleep(time.Duration(rand.IntN(300)) * time.Microsecond)
		}
		c.end(t.Update(ctx, key, value))
	}()
	return c, nil
}

// started is an update under way.
type started struct {
	given context.CancelFunc
	done  func()

	mu    sync.Mutex
	over  bool
	asked bool
	err   error
}

func (c *started) end(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.given()
	if !c.asked {
		c.over, c.err = true, err
		c.done()
	}
}

func (c *started) Outcome() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked = true
	if !c.over {
		c.given()
		return dict.ErrUnknownOutcome
	}
	return c.err
}

func (t *table) ready() error {
	if t.err == nil && t.entries == nil && t.always == "" {
		return dict.ErrNoTable
	}
	return t.err
}

func (t *table) Lookup(key []byte) ([]byte, bool, error) {
	t.set.mu.Lock()
	defer t.set.mu.Unlock()
	if err := t.ready(); err != nil {
		return nil, false, err
	}
	if t.always != "" {
		return []byte(t.always), true, nil
	}
	v, ok := t.entries[string(key)]
	return []byte(v), ok, nil
}

func (t *table) Next(after []byte) (key, value []byte, found bool, err error) {
	t.set.mu.Lock()
	defer t.set.mu.Unlock()
	if err := t.ready(); err != nil {
		return nil, nil, false, err
	}
	var keys []string
	for k := range t.entries {
		if after == nil || k > string(after) {
			keys = append(keys, k)
		}
	}
	if len(keys) == 0 {
		return nil, nil, false, nil
	}
	k := slices.Min(keys)
	return []byte(k), []byte(t.entries[k]), true, nil
}

func (t *table) Kind() dict.Flags { return t.kind }

func (t *table) WriteWithin() time.Duration {
	t.set.mu.Lock()
	defer t.set.mu.Unlock()
	if t.entries == nil {
		return 0
	}
	return t.within
}

func (t *table) Update(ctx context.Context, key, value []byte) error {
	t.set.mu.Lock()
	defer t.set.mu.Unlock()
	if t.vanish {
		t.entries, t.vanish = nil, false
	}
	if err := t.ready(); err != nil {
		return err
	}
	if t.block {
		return t.wait(ctx)
	}
	t.entries[string(key)] = string(value)
	if t.made != nil {
		t.made <- struct{}{}
	}
	return nil
}

// wait waits as one of a table that blocks. It gives the lock away meanwhile.
func (t *table) wait(ctx context.Context) error {
	t.set.mu.Unlock()
	defer t.set.mu.Lock()
	if t.blocked != nil {
		t.blocked <- struct{}{}
	}
	<-ctx.Done()
	return dict.ErrUnknownOutcome
}

func (t *table) Delete(ctx context.Context, key []byte) (bool, error) {
	t.set.mu.Lock()
	defer t.set.mu.Unlock()
	if err := t.ready(); err != nil {
		return false, err
	}
	_, ok := t.entries[string(key)]
	delete(t.entries, string(key))
	return ok, nil
}

func (t *table) DeleteIf(ctx context.Context, key, seen []byte) (bool, error) {
	t.set.mu.Lock()
	now, ok := t.entries[string(key)]
	t.set.mu.Unlock()
	if ok && now != string(seen) {
		return true, nil
	}
	return t.Delete(ctx, key)
}

func (t *table) Create(ctx context.Context) error {
	t.set.mu.Lock()
	defer t.set.mu.Unlock()
	if t.block {
		return t.wait(ctx)
	}
	if t.entries == nil {
		t.entries = map[string]string{}
	}
	return nil
}

// harness is a Server on a Unix socket.
type harness struct {
	t      testing.TB
	path   string
	server *proxy.Server
	svc    *proxy.Service
	tables *tables
}

// serve starts a server; edit changes the service. It speaks the dialect of Postfix 3.7 unless told.
func serve(t testing.TB, cfg proxy.Config, edit func(*proxy.Service)) *harness {
	t.Helper()
	set := newTables()
	if cfg.Tables == nil {
		cfg.Tables = set
	}
	svc := &proxy.Service{Name: "proxywrite", Write: true, SMTPUTF8: true}
	svc.SetVersion("3.7.11")
	svc.Approve(proxy.ApproveAllRaft())
	if edit != nil {
		edit(svc)
	}
	h := &harness{t: t, path: filepath.Join(t.TempDir(), "s"), server: proxy.New(cfg), svc: svc, tables: set}
	ln, err := net.Listen("unix", h.path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- h.server.Serve(ctx, ln, svc) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(10 * time.Second):
			t.Error("the server does not end")
		}
		h.server.Close()
	})
	return h
}

// client is a Postfix process.
type client struct {
	t testing.TB
	net.Conn
	buf []byte
}

func (h *harness) dial() *client {
	h.t.Helper()
	conn, err := net.Dial("unix", h.path)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { conn.Close() })
	c := &client{t: h.t, Conn: conn}
	if h.svc.Announce {
		c.want("protocol|proxymap_protocol||")
	}
	return c
}

// send writes text with its bars as NUL bytes.
func (c *client) send(text string) {
	c.t.Helper()
	if _, err := c.Write([]byte(strings.ReplaceAll(text, "|", "\x00"))); err != nil {
		c.t.Fatal(err)
	}
}

// open opens a table of fixed keys, as Postfix does before anything else.
func (c *client) open(table string) {
	c.t.Helper()
	c.send("request|open|table|" + table + "|flags|0||")
	c.want("status|0|flags|16||")
}

// want reads as many bytes as text has and compares.
func (c *client) want(text string) {
	c.t.Helper()
	if got := c.read(len(text)); got != text {
		c.t.Fatalf("got  %q\nwant %q", got, text)
	}
}

// read returns the next n bytes, NUL as bars.
func (c *client) read(n int) string {
	c.t.Helper()
	c.SetReadDeadline(time.Now().Add(10 * time.Second))
	for len(c.buf) < n {
		b := make([]byte, 4096)
		m, err := c.Read(b)
		c.buf = append(c.buf, b[:m]...)
		if err != nil {
			c.t.Fatalf("read after %.200q: %v", c.buf, err)
		}
	}
	got := c.buf[:n]
	c.buf = c.buf[n:]
	return string(bytes.ReplaceAll(got, []byte{0}, []byte{'|'}))
}

// closed waits for the server to close the connection.
func (c *client) closed() {
	c.t.Helper()
	c.SetReadDeadline(time.Now().Add(10 * time.Second))
	if n, err := c.Read(make([]byte, 1)); n > 0 || err == nil {
		c.t.Fatal("the connection stays open")
	} else if ne, ok := err.(net.Error); ok && ne.Timeout() {
		c.t.Fatal("the connection was not closed in time")
	}
}

// dialRaw connects without reading the announcement.
func (h *harness) dialRaw() net.Conn {
	h.t.Helper()
	conn, err := net.Dial("unix", h.path)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { conn.Close() })
	return conn
}

// list reads one whole attribute list, NUL as bars.
func (c *client) list() string {
	c.t.Helper()
	var got strings.Builder
	for {
		name := c.field()
		got.WriteString(name + "|")
		if name == "" {
			return got.String()
		}
		got.WriteString(c.field() + "|")
	}
}

func (c *client) field() string {
	c.t.Helper()
	var b []byte
	for {
		s := c.read(1)
		if s == "|" {
			return string(b)
		}
		b = append(b, s...)
	}
}

// fileConn makes a connection of a descriptor, which it consumes. It is closed with the test.
func fileConn(t testing.TB, fd int) net.Conn {
	t.Helper()
	file := os.NewFile(uintptr(fd), "connection")
	defer file.Close()
	conn, err := net.FileConn(file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// takeFD takes the descriptor from a socket.
func takeFD(t testing.TB, conn net.Conn) (fd int) {
	t.Helper()
	defer conn.Close()
	raw, err := conn.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var dupErr error
	if err := raw.Control(func(old uintptr) { fd, dupErr = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0) }); err != nil || dupErr != nil {
		t.Fatal(err, dupErr)
	}
	return fd
}

package handoff

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"postraft/dict"
	"postraft/proxy"
)

// within waits for a condition; the last error says what was missing.
func within(t *testing.T, limit time.Duration, what string, ok func() error) {
	t.Helper()
	deadline := time.Now().Add(limit)
	for {
		err := ok()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %v: %v", what, limit, err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// answers are the tables of an agent: the value of each key is the agent's name and the key. A key that
// begins with "slow" says so to waits and then waits for slow, if there is one.
type answers struct {
	name  string
	slow  chan struct{}
	waits chan<- struct{}
}

func (a answers) Table(string) proxy.Table { return a }
func (a answers) Lookup(key []byte) ([]byte, bool, error) {
	if a.slow != nil && strings.HasPrefix(string(key), "slow") {
		a.waits <- struct{}{}
		<-a.slow
	}
	return []byte(a.name + " " + string(key)), true, nil
}
func (answers) Next([]byte) ([]byte, []byte, bool, error)              { return nil, nil, false, nil }
func (answers) Kind() dict.Flags                                       { return dict.Fixed }
func (answers) Update(context.Context, []byte, []byte) error           { return nil }
func (answers) Delete(context.Context, []byte) (bool, error)           { return true, nil }
func (answers) DeleteIf(context.Context, []byte, []byte) (bool, error) { return true, nil }
func (answers) Create(context.Context) error                           { return nil }

// testHello is the service of these tests.
var testHello = Hello{Service: "proxymap", PID: 7, MailVersion: "3.7.11", Approved: "proxy:raft:t"}

func service(t *testing.T, tables proxy.Tables) *Service {
	server := proxy.New(proxy.Config{Tables: tables})
	t.Cleanup(server.Close)
	return NewService(server, testHello, nil, slog.New(slog.DiscardHandler))
}

// agent is an agent with the things a test wants to see.
type agent struct {
	*Service
	hello chan Hello
	peer  chan Peer
	err   error
}

func newAgent(t *testing.T, name string) *agent {
	return &agent{service(t, answers{name: name}), make(chan Hello, 64), make(chan Peer, 64), nil}
}

func (a *agent) open(h Hello, p Peer) (Session, error) {
	a.hello <- h
	a.peer <- p
	return a, a.err
}

// start runs an agent's server and returns how to end it.
func (a *agent) start(t *testing.T, path string) (stop func()) {
	t.Helper()
	srv, err := Listen(Config{Path: path, Open: a.open, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				t.Errorf("serve: %v", err)
			}
		})
	}
	t.Cleanup(stop)
	return stop
}

// records keeps what was logged.
type records struct {
	mu   sync.Mutex
	text strings.Builder
}

func (r *records) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.Write(b)
}

func (r *records) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.String()
}

func (r *records) has(want string) func() error {
	return func() error {
		if got := r.String(); !strings.Contains(got, want) {
			return fmt.Errorf("log is %q, want %q in it", got, want)
		}
		return nil
	}
}

type front struct {
	*FrontEnd
	log  *records
	stop func()
}

func startFront(t *testing.T, cfg FrontEndConfig) *front {
	t.Helper()
	f := &front{log: &records{}}
	cfg.Retry = 10 * time.Millisecond
	if cfg.Hello.Service == "" {
		cfg.Hello.Service, cfg.Hello.MailVersion, cfg.Hello.Approved = testHello.Service, testHello.MailVersion, testHello.Approved
	}
	cfg.Logger = slog.New(slog.NewTextHandler(f.log, nil))
	if cfg.Serve == nil {
		cfg.Serve = service(t, Away{}).ServeConn
	}
	f.FrontEnd = NewFrontEnd(cfg)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		f.Run(ctx)
	}()
	f.stop = func() {
		cancel()
		<-done
	}
	t.Cleanup(f.stop)
	<-f.Tried()
	return f
}

// A testClient is a Postfix process.
type testClient struct {
	net.Conn
	in *bufio.Reader
}

// client returns the client's end of a connection whose other end the front end takes. It ends with the test.
func (f *front) client(t *testing.T) *testClient {
	t.Helper()
	c, err := f.connect()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func (f *front) connect() (*testClient, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	f.Take(pair[1])
	conn, err := connOf(pair[0])
	if err != nil {
		return nil, err
	}
	return &testClient{Conn: conn}, nil
}

// lookup returns what a client sends.
func lookup(key string) string {
	return "request\x00lookup\x00table\x00raft:t\x00flags\x000\x00key\x00" + key + "\x00\x00"
}

// list reads one attribute list and returns its values.
func (c *testClient) list() (values []string, err error) {
	if c.in == nil {
		c.in = bufio.NewReader(c)
		if hello, err := c.list(); err != nil || fmt.Sprint(hello) != "[proxymap_protocol]" {
			return nil, fmt.Errorf("announcement %q: %w", hello, err)
		}
	}
	for {
		name, err := c.in.ReadString(0)
		if err != nil || name == "\x00" {
			return values, err
		}
		value, err := c.in.ReadString(0)
		if err != nil {
			return nil, err
		}
		values = append(values, strings.TrimSuffix(value, "\x00"))
	}
}

// answer reads the reply to a lookup of key and returns who sent it: an agent, or the front end with RETRY.
func (c *testClient) answer(key string) (who string, err error) {
	c.SetDeadline(time.Now().Add(5 * time.Second))
	reply, err := c.list()
	if err != nil {
		return "", err
	}
	if len(reply) != 2 {
		return "", fmt.Errorf("reply %q", reply)
	}
	if reply[0] == "2" {
		return "front", nil
	}
	who, rest, _ := strings.Cut(reply[1], " ")
	if reply[0] != "0" || rest != key {
		return "", fmt.Errorf("reply %q to a lookup of %q", reply, key)
	}
	return who, nil
}

// ask looks a key up and returns who answered.
func ask(c *testClient) (string, error) { return c.ask("k") }

func (c *testClient) ask(key string) (string, error) {
	if _, err := io.WriteString(c, lookup(key)); err != nil {
		return "", err
	}
	return c.answer(key)
}

// answeredBy returns a condition: a new connection is answered by who.
func (f *front) answeredBy(t *testing.T, who string) func() error {
	return func() error {
		conn := f.client(t)
		defer conn.Close()
		if got, err := ask(conn); err != nil || got != who {
			return fmt.Errorf("answered by %q, %v; want %s", got, err, who)
		}
		return nil
	}
}

// rawAgent takes one link, welcomes the front end and says not a word more.
func rawAgent(t *testing.T, path string, welcome int) <-chan *link {
	t.Helper()
	ln, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	links := make(chan *link, 1)
	var wg sync.WaitGroup
	wg.Go(func() {
		defer close(links)
		conn, err := ln.AcceptUnix()
		ln.Close()
		if err != nil {
			return
		}
		l := newLink(conn, time.Second)
		if _, p, err := readHello(l, slog.New(slog.DiscardHandler)); err == nil {
			p.close()
			l.send(message{Kind: kindWelcome, Version: welcome}, -1)
		}
		links <- l
	})
	t.Cleanup(wg.Wait)
	t.Cleanup(func() { ln.Close() })
	return links
}

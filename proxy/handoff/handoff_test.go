package handoff

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
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
// begins with "slow" waits for slow, if there is one.
type answers struct {
	name string
	slow chan struct{}
}

func (a answers) Table(string) proxy.Table { return a }
func (a answers) Lookup(key []byte) ([]byte, bool, error) {
	if a.slow != nil && strings.HasPrefix(string(key), "slow") {
		<-a.slow
	}
	return []byte(a.name + " " + string(key)), true, nil
}
func (answers) Next([]byte) ([]byte, []byte, bool, error)    { return nil, nil, false, nil }
func (answers) Kind() dict.Flags                             { return dict.Fixed }
func (answers) Update(context.Context, []byte, []byte) error { return nil }
func (answers) Delete(context.Context, []byte) (bool, error) { return true, nil }
func (answers) Create(context.Context) error                 { return nil }

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

// TestFrontEnd_HandsOver ensures that the agent serves the connection itself and learns what service it
// belongs to.
func TestFrontEnd_HandsOver(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	a := newAgent(t, "agent")
	a.start(t, path)
	served := make(chan struct{}, 2)
	approved := "proxy:raft:t" + strings.Repeat(" proxy:hash:/etc/b\xff", 20000) // some 400 kB, not UTF-8
	f := startFront(t, FrontEndConfig{
		Path:   path,
		Hello:  Hello{Service: "proxymap", PID: 7, MailVersion: "3.7.11", Approved: approved},
		Served: func() { served <- struct{}{} },
	})
	conns := []*testClient{f.client(t), f.client(t)}
	for _, conn := range conns {
		for range 2 {
			if who, err := ask(conn); who != "agent" || err != nil {
				t.Fatalf("answered by %q, %v", who, err)
			}
		}
	}
	got := <-a.hello
	if got.Approved != approved {
		t.Errorf("approval list of %d bytes arrived as %d bytes", len(approved), len(got.Approved))
	}
	if got.Approved = ""; got != (Hello{Service: "proxymap", PID: 7, MailVersion: "3.7.11"}) {
		t.Errorf("hello = %+v", got)
	}
	if len(served) != 1 {
		t.Errorf("Served was called %d times, want once", len(served))
	}
}

// TestFrontEnd_AgentComesAndGoes ensures that the front end serves while the agent is away, and that clients
// stay connected while agents come and go.
func TestFrontEnd_AgentComesAndGoes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	f := startFront(t, FrontEndConfig{Path: path, Hold: -1})
	var clients []*testClient
	for round := range 4 {
		clients = append(clients, f.client(t))
		for i, c := range clients {
			if who, err := ask(c); who != "front" || err != nil {
				t.Fatalf("round %d: without an agent client %d is answered by %q, %v", round, i, who, err)
			}
		}
		name := fmt.Sprintf("agent%d", round)
		stop := newAgent(t, name).start(t, path)
		clients = append(clients, f.client(t))
		for i, c := range clients {
			within(t, 5*time.Second, "agent answers", func() error {
				if who, err := ask(c); err != nil {
					t.Fatalf("round %d: client %d: %v", round, i, err)
				} else if who != name {
					return fmt.Errorf("answered by %s", who)
				}
				return nil
			})
		}
		stop()
	}
	for _, c := range clients {
		c.Close()
	}
	within(t, 5*time.Second, "all clients counted out", f.noClients)
	within(t, time.Second, "log", f.log.has("agent is back"))
}

func (f *front) noClients() error {
	f.usage.mu.Lock()
	defer f.usage.mu.Unlock()
	if f.usage.now != 0 {
		return fmt.Errorf("%d of %d clients left", f.usage.now, f.usage.total)
	}
	return nil
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

// TestFrontEnd_HungAgent ensures that clients of an agent that is stopped, or answers nothing for long, get
// RETRY from the front end instead of hanging, on the same connection if that can be.
func TestFrontEnd_HungAgent(t *testing.T) {
	for _, stopped := range []bool{false, true} {
		for v := oldest; v <= version; v++ {
			t.Run(fmt.Sprintf("stopped=%v/version=%d", stopped, v), func(t *testing.T) { testHung(t, stopped, v) })
		}
	}
}

func testHung(t *testing.T, stopped bool, v int) {
	path := filepath.Join(t.TempDir(), "s")
	links := rawAgent(t, path, v)
	f := startFront(t, FrontEndConfig{Path: path, Hold: -1, Ping: 20 * time.Millisecond, Stopped: func(int) bool { return stopped }})
	l := <-links
	defer l.close()
	client := f.client(t)
	// The agent would hold the connection too: the front end must take it from both.
	m, fd, err := l.receive()
	if err != nil || m.Kind != kindConn || fd < 0 {
		t.Fatalf("connection handed over: %+v, %d, %v", m, fd, err)
	}
	defer unix.Close(fd)
	began := time.Now()
	who, err := ask(client)
	if kept := err == nil && who == "front"; kept != (v == version) {
		t.Fatalf("answered by %q, %v", who, err)
	}
	took := time.Since(began)
	if patience := 20 * 20 * time.Millisecond; !stopped && took < patience/2 || took > 2*time.Second {
		t.Errorf("client of a hung agent waited %v", took)
	}
	within(t, 3*time.Second, "front end answers", f.answeredBy(t, "front"))
}

// TestFrontEnd_StopsWithoutLoss ensures that a front end that is told to finish answers the request at
// hand, here and at the agent.
func TestFrontEnd_StopsWithoutLoss(t *testing.T) {
	for _, where := range []string{"front", "agent"} {
		t.Run(where, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "s")
			slow := make(chan struct{})
			own := service(t, answers{name: "late", slow: slow})
			cfg := FrontEndConfig{Path: path, Hold: -1}
			if where == "agent" {
				a := newAgent(t, "")
				a.Service = own
				a.start(t, path)
			} else {
				cfg.Serve = own.ServeConn
			}
			f := startFront(t, cfg)
			client := f.client(t)
			io.WriteString(client, lookup("slow"))
			within(t, 5*time.Second, "request in hand", func() error {
				if n := own.svc.Counters.Lookups.Load(); n != 1 {
					return fmt.Errorf("%d lookups", n)
				}
				return nil
			})
			time.AfterFunc(20*time.Millisecond, func() { close(slow) })
			f.stop()
			if who, err := client.answer("slow"); who != "late" || err != nil {
				t.Fatalf("request at hand answered by %q, %v", who, err)
			}
			if who, err := ask(client); err == nil {
				t.Fatalf("after the end answered by %q", who)
			}
		})
	}
}

// TestPeer_DialStock ensures that the agent gets connections to the stock service through the front end,
// and the reason when there is none.
func TestPeer_DialStock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	stock := filepath.Join(t.TempDir(), "stock")
	ln, err := net.Listen("unix", stock)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				service(t, answers{name: "stock"}).server.ServeConn(context.Background(), conn, service(t, nil).svc, 0)
			}()
		}
	}()
	a := newAgent(t, "agent")
	a.start(t, path)
	fail := errors.New("out of order")
	var broken bool
	var mu sync.Mutex
	f := startFront(t, FrontEndConfig{Path: path, Hello: Hello{Passthrough: true},
		DialStock: func(ctx context.Context) (net.Conn, error) {
			mu.Lock()
			defer mu.Unlock()
			if broken {
				return nil, fail
			}
			return new(net.Dialer).DialContext(ctx, "unix", stock)
		}})
	peer := <-a.peer
	conn, err := peer.DialStock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if who, err := ask(&testClient{Conn: conn}); who != "stock" || err != nil {
		t.Fatalf("answered by %q, %v", who, err)
	}
	mu.Lock()
	broken = true
	mu.Unlock()
	if _, err := peer.DialStock(t.Context()); err == nil || !strings.Contains(err.Error(), fail.Error()) {
		t.Errorf("dial error = %v, want the front end's reason", err)
	}
	peer.Logger().Warn("request for unapproved table", "table", "hash:x")
	within(t, 5*time.Second, "warning in Postfix's log", f.log.has(`level=WARN msg="request for unapproved table" table=hash:x`))
	f.stop()
	within(t, 5*time.Second, "dial after the end", func() error {
		if conn, err := peer.DialStock(t.Context()); err == nil {
			conn.Close()
			return errors.New("connected")
		}
		return nil
	})
}

// TestServer_Refuses ensures that a front end learns why it is refused: strangers, other versions, services
// that the agent cannot open.
func TestServer_Refuses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	a := newAgent(t, "agent")
	a.err = errors.New("bad approval list")
	a.start(t, path)
	f := startFront(t, FrontEndConfig{Path: path})
	within(t, 5*time.Second, "reason", f.log.has("the agent refuses: bad approval list"))

	conn, err := Connect(path)
	if err != nil {
		t.Fatal(err)
	}
	l := newLink(conn, time.Second)
	defer l.close()
	if err := l.send(message{Kind: kindHello, Version: version + 1, Newest: version + 2, Hello: &Hello{}}, -1); err != nil {
		t.Fatal(err)
	}
	conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	if m, _, err := l.receive(); err != nil || m.Kind != kindRefuse || !strings.Contains(m.Text, "version") {
		t.Errorf("newer front end got %+v, %v", m, err)
	}
}

// TestListen_ReplacesDeadSocket ensures that a crashed agent's socket is no obstacle and a live one's is.
func TestListen_ReplacesDeadSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		t.Fatal(err)
	}
	unix.Close(fd)
	newAgent(t, "a").start(t, path)
	if _, err := Listen(Config{Path: path}); err == nil {
		t.Error("second agent on the same socket")
	}
}

// TestUsage ensures that a front end is spent only when told so and without clients.
func TestUsage(t *testing.T) {
	u := newUsage(0, 2)
	defer u.stop()
	isSpent := func() bool {
		select {
		case <-u.spent:
			return true
		default:
			return false
		}
	}
	if !u.begin() || u.begin() {
		t.Error("begin: only the first client is the first")
	}
	u.end(1)
	if isSpent() {
		t.Error("spent with a client")
	}
	u.end(1)
	if !isSpent() {
		t.Error("not spent after two clients")
	}
	idle := newUsage(10*time.Millisecond, 0)
	defer idle.stop()
	select {
	case <-idle.spent:
	case <-time.After(5 * time.Second):
		t.Error("not spent for idleness")
	}
}

// TestStopped ensures that a stopped process is told from a running one.
func TestStopped(t *testing.T) {
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	if Stopped(cmd.Process.Pid) || Stopped(os.Getpid()) {
		t.Error("running process called stopped")
	}
	if err := cmd.Process.Signal(unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	within(t, 5*time.Second, "stop", func() error {
		if !Stopped(cmd.Process.Pid) {
			return errors.New("called running")
		}
		return nil
	})
	if Stopped(0) {
		t.Error("no process called stopped")
	}
}

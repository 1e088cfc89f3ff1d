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

// talk answers each line with the speaker's name, as both ends of these tests do.
func talk(ctx context.Context, conn net.Conn, name string) {
	stop := context.AfterFunc(ctx, func() { conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	in := bufio.NewScanner(conn)
	for in.Scan() {
		fmt.Fprintf(conn, "%s %s\n", name, in.Text())
	}
}

// agent is a session that talks, with the things a test wants to see.
type agent struct {
	name  string
	hello chan Hello
	peer  chan Peer
	err   error
}

func newAgent(name string) *agent {
	return &agent{name: name, hello: make(chan Hello, 16), peer: make(chan Peer, 16)}
}

func (a *agent) open(h Hello, p Peer) (Session, error) {
	a.hello <- h
	a.peer <- p
	return a, a.err
}

func (a *agent) ServeConn(ctx context.Context, conn net.Conn) { talk(ctx, conn, a.name) }
func (a *agent) Close()                                       {}

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
	cfg.Logger = slog.New(slog.NewTextHandler(f.log, nil))
	if cfg.Serve == nil {
		cfg.Serve = func(ctx context.Context, conn net.Conn) { talk(ctx, conn, "front") }
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

// client returns the client's end of a connection whose other end the front end takes.
func (f *front) client(t *testing.T) net.Conn {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	f.Take(pair[1])
	conn, err := connOf(pair[0])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// ask sends a line and returns who answered.
func ask(conn net.Conn) (string, error) {
	conn.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := io.WriteString(conn, "hi\n"); err != nil {
		return "", err
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	who, _, _ := strings.Cut(line, " ")
	return who, err
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
	a := newAgent("agent")
	a.start(t, path)
	served := make(chan struct{}, 2)
	approved := "proxy:raft:a" + strings.Repeat(" proxy:hash:/etc/b\xff", 20000) // some 400 kB, not UTF-8
	f := startFront(t, FrontEndConfig{
		Path:   path,
		Hello:  Hello{Service: "proxymap", PID: 7, MailVersion: "3.7.11", Approved: approved},
		Served: func() { served <- struct{}{} },
	})
	conns := []net.Conn{f.client(t), f.client(t)}
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

// TestFrontEnd_AgentComesAndGoes ensures that the front end serves while the agent is away, that clients
// served here are sent to the agent as soon as it is there, and that a dead agent's clients see the end.
func TestFrontEnd_AgentComesAndGoes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	f := startFront(t, FrontEndConfig{Path: path})
	here := f.client(t)
	if who, err := ask(here); who != "front" || err != nil {
		t.Fatalf("without an agent answered by %q, %v", who, err)
	}
	for round := range 3 {
		name := fmt.Sprintf("agent%d", round)
		stop := newAgent(name).start(t, path)
		within(t, 5*time.Second, "client served here sees its end", func() error {
			if who, err := ask(here); err == nil {
				return fmt.Errorf("still served by %s", who)
			}
			return nil
		})
		within(t, 5*time.Second, "agent answers", f.answeredBy(t, name))
		there := f.client(t)
		if _, err := ask(there); err != nil {
			t.Fatal(err)
		}
		stop()
		if _, err := ask(there); err == nil {
			t.Fatal("connection of a dead agent lives on")
		}
		there.Close()
		within(t, 5*time.Second, "front end answers", f.answeredBy(t, "front"))
		here = f.client(t)
		if _, err := ask(here); err != nil {
			t.Fatal(err)
		}
	}
	here.Close()
	within(t, 5*time.Second, "all clients counted out", func() error {
		f.usage.mu.Lock()
		defer f.usage.mu.Unlock()
		if f.usage.now != 0 {
			return fmt.Errorf("%d of %d left", f.usage.now, f.usage.total)
		}
		return nil
	})
	within(t, time.Second, "log", f.log.has("agent is back"))
}

// TestFrontEnd_HungAgent ensures that connections of an agent that is stopped, or answers nothing for long, are
// ended, so that their clients get RETRY from the front end instead of hanging.
func TestFrontEnd_HungAgent(t *testing.T) {
	t.Run("silent", func(t *testing.T) { testHung(t, false) })
	t.Run("stopped", func(t *testing.T) { testHung(t, true) })
}

func testHung(t *testing.T, stopped bool) {
	path := filepath.Join(t.TempDir(), "s")
	ln, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	hung := make(chan *net.UnixConn, 1)
	go func() {
		conn, err := ln.AcceptUnix()
		if err != nil {
			return
		}
		l := newLink(conn, time.Second)
		if _, err := readHello(l); err == nil {
			l.send(message{Kind: kindWelcome, Version: version}, -1)
		}
		hung <- conn // and not a word more
	}()
	f := startFront(t, FrontEndConfig{Path: path, Ping: 20 * time.Millisecond, Stopped: func(int) bool { return stopped }})
	conn := <-hung
	defer conn.Close()
	client := f.client(t)
	// The agent would hold the connection too: the front end must end it for both.
	_, fd, err := newLink(conn, time.Second).receive()
	if err != nil || fd < 0 {
		t.Fatalf("connection handed over: %d, %v", fd, err)
	}
	defer unix.Close(fd)
	began := time.Now()
	if who, err := ask(client); err == nil {
		t.Fatalf("answered by %q", who)
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
			asked, answer := make(chan struct{}), make(chan struct{})
			slow := func(ctx context.Context, conn net.Conn) {
				bufio.NewReader(conn).ReadString('\n')
				close(asked)
				<-answer
				<-ctx.Done()
				io.WriteString(conn, "late \n")
			}
			if where == "agent" {
				srv, err := Listen(Config{Path: path, Logger: slog.New(slog.DiscardHandler),
					Open: func(Hello, Peer) (Session, error) { return sessionFunc(slow), nil }})
				if err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithCancel(context.Background())
				var wg sync.WaitGroup
				wg.Go(func() { srv.Serve(ctx) })
				defer wg.Wait()
				defer cancel()
			}
			f := startFront(t, FrontEndConfig{Path: path, Serve: slow})
			client := f.client(t)
			io.WriteString(client, "hi\n")
			<-asked
			time.AfterFunc(20*time.Millisecond, func() { close(answer) })
			f.stop()
			client.SetDeadline(time.Now().Add(5 * time.Second))
			if line, err := bufio.NewReader(client).ReadString('\n'); line != "late \n" || err != nil {
				t.Fatalf("request at hand answered %q, %v", line, err)
			}
		})
	}
}

type sessionFunc func(ctx context.Context, conn net.Conn)

func (f sessionFunc) ServeConn(ctx context.Context, conn net.Conn) { f(ctx, conn) }
func (f sessionFunc) Close()                                       {}

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
				talk(context.Background(), conn, "stock")
			}()
		}
	}()
	a := newAgent("agent")
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
	if who, err := ask(conn); who != "stock" || err != nil {
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
	a := newAgent("agent")
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
	if err := l.send(message{Kind: kindHello, Version: version + 1, Hello: &Hello{}}, -1); err != nil {
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
	newAgent("a").start(t, path)
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

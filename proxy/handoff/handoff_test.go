package handoff

import (
	"context"
	"errors"
	"fmt"
	"io"
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
			slow, waits := make(chan struct{}), make(chan struct{}, 1)
			own := service(t, answers{name: "late", slow: slow, waits: waits})
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
			<-waits
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

package handoff

import (
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

	"postraft/proxy"
)

// agentVariable makes this program an agent at the socket that it names, for the tests that kill one.
const agentVariable = "POSTRAFT_TEST_AGENT"

func TestMain(m *testing.M) {
	if path := os.Getenv(agentVariable); path != "" {
		runAgent(path)
	}
	os.Exit(m.Run())
}

func runAgent(path string) {
	server := proxy.New(proxy.Config{Tables: answers{name: fmt.Sprintf("agent%d", os.Getpid())}})
	srv, err := Listen(Config{Path: path, Open: Sessions(server), Logger: slog.New(slog.DiscardHandler)})
	if err == nil {
		err = srv.Serve(context.Background())
	}
	fmt.Fprintln(os.Stderr, "agent:", err)
	os.Exit(1)
}

// startProcess starts an agent in a process of its own.
func startProcess(t *testing.T, path string) *os.Process {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), agentVariable+"="+path)
	cmd.Stderr = t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var once sync.Once
	t.Cleanup(func() {
		once.Do(func() {
			cmd.Process.Kill()
			cmd.Wait()
		})
	})
	return cmd.Process
}

// openFiles counts this process's descriptors, without those of the loops that servers keep until they are closed.
func openFiles(t *testing.T) (n int) {
	t.Helper()
	dir, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range dir {
		if target, _ := os.Readlink("/proc/self/fd/" + entry.Name()); !strings.HasPrefix(target, "anon_inode:[event") {
			n++
		}
	}
	return n
}

// wantNoLeak checks that there are as many descriptors as before.
func wantNoLeak(t *testing.T, before int) {
	t.Helper()
	within(t, 5*time.Second, "descriptors closed", func() error {
		if now := openFiles(t); now > before {
			return fmt.Errorf("%d descriptors, %d before", now, before)
		}
		return nil
	})
}

// TestFrontEnd_CleanStops ensures that hundreds of clients in the middle of their requests notice nothing of
// agents that stop and start but a short wait: no connection ends, no request fails, none is answered twice or
// by another's answer.
func TestFrontEnd_CleanStops(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	before := openFiles(t)
	f := startFront(t, FrontEndConfig{Path: path})
	stop := newAgent(t, "agent0").start(t, path)
	within(t, 5*time.Second, "agent answers", f.answeredBy(t, "agent0"))
	c := gather(t, f, 300)
	for i := range 5 {
		c.progress(3000)
		stop()
		stop = newAgent(t, fmt.Sprintf("agent%d", i+1)).start(t, path)
	}
	c.progress(3000)
	c.end()
	c.wantWorst(2 * time.Second)
	if c.retries.Load() > 0 || c.broken.Load() > 0 {
		t.Errorf("%d requests failed, %d connections broke\n%s", c.retries.Load(), c.broken.Load(), f.log)
	}
	within(t, 5*time.Second, "all clients counted out", f.noClients)
	stop()
	f.stop()
	wantNoLeak(t, before)
}

// TestFrontEnd_CutLinks ensures that when links end without a word, clients get their own answers all the same,
// at worst on a new connection.
func TestFrontEnd_CutLinks(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	before := openFiles(t)
	links := make(chan *net.UnixConn, 64)
	f := startFront(t, FrontEndConfig{Path: path, Connect: func(path string) (*net.UnixConn, error) {
		conn, err := Connect(path)
		if err == nil {
			links <- conn
		}
		return conn, err
	}})
	stop := newAgent(t, "agent").start(t, path)
	within(t, 5*time.Second, "agent answers", f.answeredBy(t, "agent"))
	c := gather(t, f, 200)
	for range 10 {
		c.progress(1000)
		(<-links).Close()
	}
	c.progress(1000)
	c.end()
	c.wantWorst(2 * time.Second)
	if c.retries.Load() > 0 {
		t.Errorf("%d requests failed", c.retries.Load())
	}
	within(t, 5*time.Second, "all clients counted out", f.noClients)
	stop()
	f.stop()
	wantNoLeak(t, before)
}

// TestFrontEnd_Kills ensures that an agent that is killed or stopped by a signal among the requests of many
// clients leaves none of them without an answer, and those that were idle connected.
func TestFrontEnd_Kills(t *testing.T) {
	for _, how := range []unix.Signal{unix.SIGKILL, unix.SIGSTOP} {
		t.Run(how.String(), func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "s")
			f := startFront(t, FrontEndConfig{Path: path, Ping: 50 * time.Millisecond})
			agent := startProcess(t, path)
			var idle []*testClient
			for range 30 {
				idle = append(idle, f.client(t))
			}
			// Clients that have just connected are as good as idle ones.
			everybody := func(when string) {
				t.Helper()
				for i, c := range idle {
					if who, err := ask(c); err != nil || !strings.HasPrefix(who, "agent") {
						t.Fatalf("%s: idle client %d answered by %q, %v", when, i, who, err)
					}
				}
			}
			within(t, 5*time.Second, "agent process", f.answeredBy(t, fmt.Sprintf("agent%d", agent.Pid)))
			everybody("first agent")
			away := strings.Count(f.log.String(), "agent is away") // before the first agent
			c := gather(t, f, 100)
			for i := range 4 {
				c.progress(1000)
				agent.Signal(how)
				if how == unix.SIGSTOP {
					// It wakes up when its clients are elsewhere, and must not touch them.
					within(t, 5*time.Second, "agent given up", func() error {
						if n := strings.Count(f.log.String(), "agent is away"); n <= i+away {
							return fmt.Errorf("%d times", n)
						}
						return nil
					})
					agent.Signal(unix.SIGCONT)
				} else {
					agent.Wait()
					agent = startProcess(t, path)
				}
				c.progress(1000)
				everybody(fmt.Sprintf("agent %d", i+2))
			}
			c.end()
			c.wantWorst(4 * time.Second) // a request whose connection broke is held again
		})
	}
}

// TestFrontEnd_Holds ensures that a request waits for an agent that comes back soon, gets RETRY within two
// seconds from one that does not, and that a process waits once only.
func TestFrontEnd_Holds(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	f := startFront(t, FrontEndConfig{Path: path})
	a, b := f.client(t), f.client(t)
	stop := newAgent(t, "one").start(t, path)
	for _, c := range []*testClient{a, b} {
		if who, err := ask(c); err != nil || who != "one" {
			t.Fatalf("answered by %q, %v", who, err)
		}
	}
	stop()
	half := lookup("half")
	io.WriteString(b, half[:10])
	io.WriteString(a, lookup("soon"))
	stop = newAgent(t, "two").start(t, path)
	if who, err := a.answer("soon"); err != nil || who != "two" {
		t.Errorf("request that had to wait answered by %q, %v", who, err)
	}
	io.WriteString(b, half[10:])
	if who, err := b.answer("half"); err != nil || who != "two" {
		t.Errorf("half request answered by %q, %v", who, err)
	}
	stop()
	began := time.Now()
	for n, limit := range []time.Duration{2 * time.Second, time.Second / 2, time.Second / 2} {
		began := time.Now()
		who, err := ask(a)
		took := time.Since(began)
		if err != nil || who != "front" || took > limit {
			t.Errorf("request %d answered by %q, %v, after %v; want RETRY within %v", n, who, err, took, limit)
		}
		if n == 0 && took < time.Second {
			t.Errorf("request %d waited %v for the agent", n, took)
		}
	}
	// It came when the agent was long gone; an open needs no agent.
	io.WriteString(b, "request\x00open\x00table\x00raft:t\x00flags\x000\x00\x00")
	if reply, err := b.list(); err != nil || len(reply) != 2 || reply[0] != "0" {
		t.Errorf("open: %q, %v", reply, err)
	}
	t.Logf("the agent was away for %v", time.Since(began))
}

// TestFrontEnd_Versions ensures that a front end and an agent of different versions work together as both did
// in version 1: a client's connection ends with its agent, and not before.
func TestFrontEnd_Versions(t *testing.T) {
	t.Run("old agent", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "s")
		f := startFront(t, FrontEndConfig{Path: path, Hold: -1})
		served := f.client(t)
		if who, err := ask(served); err != nil || who != "front" {
			t.Fatalf("answered by %q, %v", who, err)
		}
		l := <-rawAgent(t, path, oldest)
		within(t, 5*time.Second, "agent taken note of", func() error {
			f.mu.Lock()
			defer f.mu.Unlock()
			if f.agent == nil {
				return errors.New("not yet")
			}
			return nil
		})
		client := f.client(t)
		if m, fd, err := l.receive(); err != nil || m.Kind != kindConn || m.Announced {
			t.Errorf("got %+v, %v", m, err)
		} else {
			unix.Close(fd)
		}
		if _, err := ask(served); err == nil {
			t.Error("client that was served here got an answer on the same connection")
		}
		l.close()
		if _, err := ask(client); err == nil {
			t.Error("client of an old agent outlived it")
		}
		within(t, 5*time.Second, "all clients counted out", f.noClients)
	})
	t.Run("old front end", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "s")
		stop := newAgent(t, "agent").start(t, path)
		conn, err := Connect(path)
		if err != nil {
			t.Fatal(err)
		}
		l := newLink(conn, time.Second)
		defer l.close()
		if err := l.send(message{Kind: kindHello, Version: oldest, Hello: &testHello}, -1); err != nil {
			t.Fatal(err)
		}
		if m, _, err := l.receive(); err != nil || m.Kind != kindWelcome || m.Version != oldest {
			t.Fatalf("greeted with %+v, %v", m, err)
		}
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := l.send(message{Kind: kindConn, ID: 7}, pair[1]); err != nil {
			t.Fatal(err)
		}
		unix.Close(pair[1])
		end, err := connOf(pair[0])
		if err != nil {
			t.Fatal(err)
		}
		client := &testClient{Conn: end}
		defer client.Close()
		if who, err := ask(client); err != nil || who != "agent" {
			t.Fatalf("answered by %q, %v", who, err)
		}
		go stop()
		var kinds []string
		for {
			m, _, err := l.receive()
			if err != nil {
				break
			}
			kinds = append(kinds, fmt.Sprint(m.Kind, m.ID))
		}
		if got := fmt.Sprint(kinds); got != "[bye0 done7]" {
			t.Errorf("messages at the end: %s", got)
		}
		if _, err := ask(client); err == nil {
			t.Error("connection outlived the agent")
		}
	})
}

// TestFrontEnd_KeptLimits ensures that clients that stay count for max_use, and that a front end that finishes
// lets them go.
func TestFrontEnd_KeptLimits(t *testing.T) {
	before := openFiles(t)
	path := filepath.Join(t.TempDir(), "s")
	f := startFront(t, FrontEndConfig{Path: path, Hold: -1, MaxUse: 2})
	stop := newAgent(t, "agent").start(t, path)
	a, b := f.client(t), f.client(t)
	for _, c := range []*testClient{a, b} {
		within(t, 5*time.Second, "agent answers", func() error {
			if who, err := ask(c); err != nil || who != "agent" {
				return fmt.Errorf("answered by %q, %v", who, err)
			}
			return nil
		})
	}
	stop()
	if who, err := ask(b); err != nil || who != "front" {
		t.Fatalf("answered by %q, %v", who, err)
	}
	a.Close()
	select {
	case <-f.Spent():
		t.Fatal("spent with a client")
	default:
	}
	f.stop()
	if _, err := ask(b); err == nil {
		t.Error("client outlived its front end")
	}
	b.Close()
	<-f.Spent()
	wantNoLeak(t, before)
}

// TestOpenPage ensures that an agent maps no memory that could be taken from under it.
func TestOpenPage(t *testing.T) {
	for _, tc := range []struct {
		name string
		size int64
		seal bool
		want string
	}{
		{"not sealed", pageSize, false, "not sealed"},
		{"too small", pageSize - 1, true, "too small"},
		{"good", pageSize, true, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			fd, err := unix.MemfdCreate("test", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(fd)
			if err := unix.Ftruncate(fd, tc.size); err != nil {
				t.Fatal(err)
			}
			if tc.seal {
				if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, pageSeals); err != nil {
					t.Fatal(err)
				}
			}
			p, err := openPage(fd)
			p.close()
			if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
				t.Errorf("error %v, want %q", err, tc.want)
			}
		})
	}
	if _, err := openPage(0); err == nil {
		t.Error("standard input is a page")
	}
}

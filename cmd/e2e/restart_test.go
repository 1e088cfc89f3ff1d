package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

var errNewConnection = errors.New("on a new connection")

// steadily looks an alias up and sees to it that the connection is the one of before.
func steadily(c *client) error {
	before := c.conn
	status, value, err := c.lookup("raft:virtual", "alias@alias.test")
	switch {
	case err != nil || status != ok || value != "box@relay.test":
		return fmt.Errorf("lookup: status %s, value %q, %v", status, value, err)
	case before != nil && c.conn != before:
		return errNewConnection
	}
	return nil
}

// TestRestart_SameConnection ensures that clients between two requests, at both services, go on over the same
// connection when the agent is stopped or killed and started again, that their requests wait for it and do not
// fail, and that the front end holds on to no more descriptors each time. A killed agent may have got no
// further than the reply, so that the client has it and the front end cannot know: a few may have to
// connect anew.
func TestRestart_SameConnection(t *testing.T) {
	nodes, p, _ := newMailHost(t, nil)
	agent := nodes[0]
	var readers []*client
	for range 50 {
		c := p.client("proxymap")
		defer c.close()
		readers = append(readers, c)
	}
	w := p.client("proxywrite")
	defer w.close()
	if status, err := w.update("raft:virtual", "first", "v"); status != ok || err != nil {
		t.Fatalf("update: %s, %v", status, err)
	}
	writes := w.conn
	files := func() (n int) {
		exes, _ := filepath.Glob("/proc/[0-9]*/exe")
		for _, exe := range exes {
			if target, err := os.Readlink(exe); err == nil && target == filepath.Join(p.dir, "sbin/postraft-proxymap") {
				fds, _ := os.ReadDir(filepath.Join(filepath.Dir(exe), "fd"))
				n += len(fds)
			}
		}
		return n
	}
	check := func(what string, mayBreak int64) {
		t.Helper()
		var all sync.WaitGroup
		var broken atomic.Int64
		began := time.Now()
		for _, c := range readers {
			all.Go(func() {
				switch err := steadily(c); err {
				case nil:
				case errNewConnection:
					broken.Add(1)
				default:
					t.Errorf("%s: %v", what, err)
				}
			})
		}
		all.Wait()
		t.Logf("%s: all answered after %v, %d on a new connection", what, time.Since(began).Round(time.Millisecond), broken.Load())
		if broken.Load() > mayBreak {
			t.Errorf("%s: %d of %d clients had to connect anew", what, broken.Load(), len(readers))
		}
	}
	check("at the start", 0)
	before := files()
	for i, how := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL, syscall.SIGTERM, syscall.SIGKILL} {
		agent.end(how)
		agent.start()
		killed := how == syscall.SIGKILL
		if killed {
			check(how.String(), 5)
		} else {
			check(how.String(), 0)
		}
		within(t, 10*time.Second, "write after the restart", func() error {
			if status, err := w.update("raft:virtual", fmt.Sprintf("k%d", i), "v"); status != ok || err != nil {
				return fmt.Errorf("%s, %v", status, err)
			}
			return nil
		})
		if w.conn != writes && !killed {
			t.Errorf("%v: the writer had to connect anew", how)
		}
		writes = w.conn
	}
	within(t, 5*time.Second, "descriptors of the front ends", func() error {
		if now := files(); now > before {
			return fmt.Errorf("%d, %d before the restarts", now, before)
		}
		return nil
	})
	p.quiet("panic:", "throttling", "not served")
}

// TestRestart_Rolling ensures that a rolling restart of all nodes under load fails no lookup, loses no write,
// and holds no write on a node that goes on for over two seconds.
func TestRestart_Rolling(t *testing.T) {
	nodes, p, _ := newMailHost(t, nil)
	var stop atomic.Bool
	var lookups, worst atomic.Int64
	var work sync.WaitGroup
	defer work.Wait()
	defer stop.Store(true)
	for range 4 {
		work.Go(func() {
			c := p.client("proxymap")
			defer c.close()
			for !stop.Load() {
				began := time.Now()
				if err := steadily(c); err != nil {
					t.Error(err)
					return
				}
				lookups.Add(1)
				if took := int64(time.Since(began)); took > worst.Load() {
					worst.Store(took)
				}
			}
		})
	}
	// Writers ask the nodes that are not being restarted.
	var turns [3]atomic.Int64 // odd while the node is restarted
	written := make([][]string, 3)
	for i, n := range nodes {
		work.Go(func() {
			c := newClient(n.socket("proxywrite"))
			defer c.close()
			for k := 0; !stop.Load(); k++ {
				turn := turns[i].Load()
				if turn%2 == 1 {
					c.close()
					time.Sleep(10 * time.Millisecond)
					continue
				}
				key := fmt.Sprintf("w%d-%d", i, k)
				began := time.Now()
				status, err := c.update("raft:virtual", key, "v")
				took := time.Since(began)
				if turns[i].Load() != turn {
					continue // its own node was restarted meanwhile
				}
				if status != ok || err != nil {
					t.Errorf("update at node %d: %s, %v", i+1, status, err)
				} else {
					written[i] = append(written[i], key)
				}
				if took > 2*time.Second {
					t.Errorf("update at node %d took %v", i+1, took)
				}
			}
		})
	}
	for i, n := range nodes {
		from := lookups.Load()
		turns[i].Add(1)
		n.end(syscall.SIGTERM)
		n.start()
		n.ready(3)
		turns[i].Add(1)
		within(t, 15*time.Second, "lookups after the restart", func() error {
			if got := lookups.Load() - from; got < 500 {
				return fmt.Errorf("%d", got)
			}
			return nil
		})
	}
	stop.Store(true)
	work.Wait()
	t.Logf("%d lookups, the slowest took %v; %d, %d, %d writes", lookups.Load(), time.Duration(worst.Load()).Round(time.Millisecond),
		len(written[0]), len(written[1]), len(written[2]))
	for _, n := range nodes {
		c := newClient(n.socket("proxymap"))
		defer c.close()
		for _, keys := range written {
			for _, key := range keys {
				within(t, 5*time.Second, "write "+key+" on "+n.name, func() error {
					if status, _, err := c.lookup("raft:virtual", key); status != ok || err != nil {
						return fmt.Errorf("status %s, %v", status, err)
					}
					return nil
				})
			}
		}
	}
	p.quiet("panic:", "throttling", "status=deferred")
}

// TestRestart_Reload ensures that postfix reload ends a front end that keeps connections for an agent that is
// away, and that their clients go on with the next front end and the next agent.
func TestRestart_Reload(t *testing.T) {
	f := newFixture(t, nil)
	var clients []*client
	for range 20 {
		c := f.client("proxymap")
		defer c.close()
		clients = append(clients, c)
		if err := steadily(c); err != nil {
			t.Fatal(err)
		}
	}
	pid := f.frontEnd()
	f.agent.stop()
	f.control("reload")
	within(t, 5*time.Second, "old front end ends", func() error {
		if _, err := os.Stat(fmt.Sprintf("/proc/%d", pid)); err == nil {
			return errors.New("still there")
		}
		return nil
	})
	f.agent.start()
	for _, c := range clients {
		if err := steadily(c); err != nil && err != errNewConnection {
			t.Error(err)
		}
	}
	if f.frontEnd() == pid {
		t.Error("the old front end serves")
	}
	f.quiet("panic:", "throttling", "fatal:", "not served")
}

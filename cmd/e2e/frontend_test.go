package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// The tests in this file are about the front end: a genuine Postfix, and an agent in this process.

type fixture struct {
	*postfix
	agent *memAgent
	sink  *sink
}

func newFixture(t *testing.T, change func(*fixture)) *fixture {
	t.Helper()
	needPostfix(t)
	t.Parallel()
	a := newMemAgent(t)
	a.put("virtual", "alias@alias.test", "box@relay.test")
	a.put("recipients", "box@relay.test", "x")
	a.put("senders", "spam@sender.test", "REJECT not you")
	a.put("relocated", "gone@relay.test", "elsewhere")
	s := newSink(t)
	f := &fixture{newPostfix(t, a.runDir, s.port), a, s}
	a.start()
	if change != nil {
		change(f)
	}
	f.start()
	return f
}

// found returns an error unless postmap finds the alias.
func (f *fixture) found() error {
	if out, status := f.postmap("-q", "alias@alias.test", "raft:virtual"); out != "box@relay.test\n" || status != 0 {
		return fmt.Errorf("postmap -q: %q, status %d", out, status)
	}
	return nil
}

// frontEnds returns the pids of the service's processes.
func (f *fixture) frontEnds() (pids []int) {
	f.t.Helper()
	exes, err := filepath.Glob("/proc/[0-9]*/exe")
	if err != nil {
		f.t.Fatal(err)
	}
	for _, exe := range exes {
		if target, err := os.Readlink(exe); err == nil && target == filepath.Join(f.dir, "sbin/postraft-proxymap") {
			pid, _ := strconv.Atoi(strings.Split(exe, "/")[2])
			pids = append(pids, pid)
		}
	}
	return pids
}

// frontEnd returns the only process of the service.
func (f *fixture) frontEnd() int {
	f.t.Helper()
	pids := f.frontEnds()
	if len(pids) != 1 {
		f.t.Fatalf("processes of the service: %v, want one", pids)
	}
	return pids[0]
}

// TestFrontEnd_Serves ensures that postmap works through the front end, that refusals are logged in
// Postfix's log with the parameter to edit, and that local tables are answered by the stock service.
func TestFrontEnd_Serves(t *testing.T) {
	f := newFixture(t, nil)
	if out, status := f.postmap("-q", "Alias@ALIAS.test", "raft:virtual"); out != "box@relay.test\n" || status != 0 {
		t.Errorf("postmap -q in mixed case: %q, status %d", out, status)
	}
	if out, status := f.postmap("-q", "nobody", "raft:virtual"); out != "" || status != 1 {
		t.Errorf("postmap -q of a missing key: %q, status %d", out, status)
	}
	if out, status := f.postmap("-q", "root", "unix:passwd.byname"); !strings.HasPrefix(out, "root:x:0:") || status != 0 {
		t.Errorf("local table: %q, status %d", out, status)
	}
	if out, status := f.postmap("-q", "no-such-user", "unix:passwd.byname"); out != "" || status != 1 {
		t.Errorf("missing key of a local table: %q, status %d", out, status)
	}
	if out, status := f.postmap("-q", "x", "raft:secret"); !strings.Contains(out, "not configured for table") || status != 1 {
		t.Errorf("unapproved table: %q, status %d", out, status)
	}
	f.logged("postfix/postraft-proxymap[", "warning: to approve this table for read-only access, list proxy:raft:secret in main.cf:proxy_read_maps")
	if out, status := f.postmap("-d", "x", "raft:recipients"); !strings.Contains(out, "not configured for table") || status != 1 {
		t.Errorf("unapproved table for writing: %q, status %d", out, status)
	}
	f.logged("to approve this table for read-write access, list proxy:raft:recipients in main.cf:proxy_write_maps")
	if out, status := f.postmap("-d", "alias@alias.test", "raft:virtual"); status != 0 {
		t.Errorf("postmap -d: %q, status %d", out, status)
	}
	if out, status := f.postmap("-d", "alias@alias.test", "raft:virtual"); status != 1 || out != "" {
		t.Errorf("postmap -d of a missing key: %q, status %d", out, status)
	}
	f.quiet("panic:", "throttling")
}

// TestFrontEnd_AgentAway ensures that while the agent is away clients get RETRY within 2 s, mail is deferred
// and not bounced, and everything goes on by itself when the agent is back.
func TestFrontEnd_AgentAway(t *testing.T) {
	f := newFixture(t, func(f *fixture) {
		f.agent.stop() // not even there at the start
		for i := range 20 {
			f.agent.put("recipients", fmt.Sprintf("u%d@relay.test", i), "x")
		}
	})
	// Postfix itself remembers addresses whose resolving failed: no address is used twice.
	n := 0
	rcpt := func(want string) {
		t.Helper()
		n++
		f.wantRcpt(fmt.Sprintf("s%d@sender.test", n), fmt.Sprintf("u%d@relay.test", n), want)
	}
	away := func() {
		t.Helper()
		began := time.Now()
		if out, status := f.postmap("-q", "alias@alias.test", "raft:virtual"); status == 0 || !strings.Contains(out, "fatal") {
			t.Errorf("postmap -q: %q, status %d; want a failure", out, status)
		}
		if took := time.Since(began); took > 3*time.Second { // of which postmap sleeps one before it ends
			t.Errorf("RETRY took %v", took)
		}
		rcpt("451 4.3.0")
		rcpt("451 4.3.0")
		if out, status := f.postmap("-q", "root", "unix:passwd.byname"); !strings.HasPrefix(out, "root:x:0:") || status != 0 {
			t.Errorf("local table without the agent: %q, status %d", out, status)
		}
	}
	delivered := func(marker string) {
		t.Helper()
		within(t, 20*time.Second, "delivery of "+marker, func() error {
			_, err := f.sink.received(marker)
			return err
		})
	}
	away()
	// What is submitted on the host waits in the maildrop queue.
	if out, status := command(t, "Subject: x\n\nmail-waits\n", installed().command("sendmail"), "-C", f.config(), "alias@alias.test"); status != 0 {
		t.Errorf("sendmail: %q, status %d", out, status)
	}
	f.logged("virtual_alias_maps map lookup problem", "message not accepted, try again later")
	f.agent.start()
	within(t, 3*time.Second, "recovery", f.found)
	rcpt("250")
	f.control("flush")
	delivered("mail-waits")

	f.sink.busy.Store(true)
	for _, marker := range []string{"mail-one", "mail-two"} { // the queue manager remembers the last address
		n++
		if reply, err := f.send(fmt.Sprintf("u%d@relay.test", n), marker); err != nil || !strings.HasPrefix(reply, "250") {
			t.Fatalf("message not taken: %q, %v", reply, err)
		}
	}
	f.logged("status=deferred", fmt.Sprintf("u%d@relay.test", n-1), "busy")
	f.logged("status=deferred", fmt.Sprintf("u%d@relay.test", n), "busy")
	f.agent.stop()
	f.sink.busy.Store(false)
	away()
	f.logged("status=deferred", "address resolver failure")
	f.agent.start()
	within(t, 3*time.Second, "recovery", f.found)
	if reply, err := f.send("alias@alias.test", "mail-three"); err != nil || !strings.HasPrefix(reply, "250") {
		t.Errorf("message not taken: %q, %v", reply, err)
	}
	for _, marker := range []string{"mail-one", "mail-two", "mail-three"} {
		delivered(marker)
	}
	f.quiet("status=bounced", "panic:", "throttling")
}

// TestFrontEnd_Restarts ensures that no lookup turns into "not found" while Postfix is reloaded, stopped
// and started under traffic, that approval follows main.cf at a reload, and that the processes go.
func TestFrontEnd_Restarts(t *testing.T) {
	f := newFixture(t, func(f *fixture) {
		for i := range 100 {
			f.agent.put("recipients", fmt.Sprintf("u%d@relay.test", i), "x")
		}
	})
	var stop atomic.Bool
	var lookups, sessions atomic.Int64
	var work sync.WaitGroup
	fail := make(chan string, 64)
	complain := func(format string, args ...any) {
		select {
		case fail <- fmt.Sprintf(format, args...):
		default:
		}
	}
	for w := range 4 {
		work.Go(func() {
			c := f.client("proxymap")
			c.pause = 50 * time.Millisecond
			c.patient = 30 * time.Second
			defer c.close()
			for i := w; !stop.Load(); i++ {
				status, value, err := c.lookup("raft:recipients", fmt.Sprintf("u%d@relay.test", i%100))
				if err != nil || status != ok || value != "x" {
					complain("lookup: status %s, value %q, %v", status, value, err)
					return
				}
				if lookups.Add(1); i%50 == 0 {
					c.close() // most clients of Postfix are short-lived
				}
			}
		})
	}
	work.Go(func() {
		for i := 0; !stop.Load(); i++ {
			// smtpd itself goes away at a stop: only its answers count.
			reply, err := f.rcpt("a@sender.test", fmt.Sprintf("u%d@relay.test", i%100))
			if err != nil {
				time.Sleep(50 * time.Millisecond)
				continue
			}
			if sessions.Add(1); !strings.HasPrefix(reply, "250") && !strings.HasPrefix(reply, "421") {
				complain("RCPT: %q", reply)
			}
		}
	})
	// progress waits until both kinds of traffic went on.
	progress := func(what string) {
		t.Helper()
		l, s := lookups.Load(), sessions.Load()
		within(t, 15*time.Second, "traffic after "+what, func() error {
			select {
			case problem := <-fail:
				t.Fatalf("after %s: %s", what, problem)
			default:
			}
			if lookups.Load() < l+500 || sessions.Load() < s+3 {
				return fmt.Errorf("%d lookups, %d sessions", lookups.Load()-l, sessions.Load()-s)
			}
			return nil
		})
	}
	defer work.Wait()
	defer stop.Store(true)
	progress("the start")
	for range 3 {
		before := f.frontEnds()
		f.control("reload")
		progress("postfix reload")
		within(t, 5*time.Second, "old process ends", func() error {
			for _, pid := range before {
				if _, err := os.Stat(fmt.Sprintf("/proc/%d", pid)); err == nil {
					return fmt.Errorf("process %d is still there", pid)
				}
			}
			return nil
		})
	}
	for range 2 {
		f.control("stop")
		f.control("start")
		f.ready()
		progress("postfix stop and start")
	}
	if _, status := f.postmap("-q", "k", "raft:late"); status != 1 {
		t.Fatalf("postmap of a table not approved: status %d", status)
	}
	f.agent.put("late", "k", "v")
	f.settings["proxy_read_maps"] = "proxy:raft:late proxy:raft:virtual $relay_recipient_maps $smtpd_sender_restrictions $relocated_maps $local_recipient_maps"
	f.configure()
	f.control("reload")
	within(t, 5*time.Second, "new approval", func() error {
		if out, _ := f.postmap("-q", "k", "raft:late"); out != "v\n" {
			return fmt.Errorf("postmap -q: %q", out)
		}
		return nil
	})
	progress("a change of proxy_read_maps")
	stop.Store(true)
	work.Wait()
	t.Logf("%d lookups, %d SMTP sessions", lookups.Load(), sessions.Load())
	f.quiet("panic:", "throttling", "exit status 1", "killed by signal", "status update", "agent is away")
}

// TestFrontEnd_Limits ensures that -m and max_idle on the service's line end a process between clients and
// that the next one serves at once.
func TestFrontEnd_Limits(t *testing.T) {
	f := newFixture(t, func(f *fixture) { f.master.Options += " -m 3\n -o max_idle=1s" })
	for range 2 {
		first := 0
		within(t, 15*time.Second, "another process", func() error { // smtpd keeps a connection for 5 s
			if err := f.found(); err != nil {
				t.Fatal(err)
			}
			pids := f.frontEnds()
			if len(pids) > 0 && first == 0 {
				first = pids[0]
			}
			if slices.Contains(pids, first) {
				return fmt.Errorf("processes %v", pids)
			}
			return nil
		})
	}
	if err := f.found(); err != nil {
		t.Fatal(err)
	}
	within(t, 5*time.Second, "idle process ends", func() error {
		if pids := f.frontEnds(); len(pids) > 0 {
			return fmt.Errorf("processes %v", pids)
		}
		return nil
	})
	if err := f.found(); err != nil {
		t.Error(err)
	}
	f.quiet("throttling", "exit status", "killed", "panic:", "fatal:")
}

// TestFrontEnd_Removed ensures that a process whose service has gone from master.cf ends at once: master
// waits for it in a busy loop.
func TestFrontEnd_Removed(t *testing.T) {
	f := newFixture(t, nil)
	if err := f.found(); err != nil {
		t.Fatal(err)
	}
	f.configure()
	path := filepath.Join(f.config(), "master.cf")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(strings.ReplaceAll(string(text), "\nproxymap unix", "\nproxymap2 unix")), 0o644); err != nil {
		t.Fatal(err)
	}
	pid := f.frontEnd()
	f.control("reload")
	within(t, 5*time.Second, "end of the process", func() error {
		if _, err := os.Stat(fmt.Sprintf("/proc/%d", pid)); err == nil {
			return errors.New("still there")
		}
		return nil
	})
	c := f.client("proxymap2")
	defer c.close()
	if status, _, err := c.lookup("raft:virtual", "alias@alias.test"); status != ok || err != nil {
		t.Errorf("service under its new name: %s, %v", status, err)
	}
	f.quiet("throttling", "panic:")
}

// TestFrontEnd_BadConfiguration ensures that a line in master.cf that makes no sense is reported in
// Postfix's log and throttled, not restarted without end.
func TestFrontEnd_BadConfiguration(t *testing.T) {
	f := newFixture(t, func(f *fixture) { f.master.Options += " --no-such-option x" })
	c := f.client("proxymap")
	c.patient = 500 * time.Millisecond
	defer c.close()
	if status, _, err := c.lookup("raft:virtual", "x"); err == nil {
		t.Errorf("lookup answered with status %s", status)
	}
	f.logged("postfix/postraft-proxymap[", "fatal: ", "unknown option --no-such-option")
	f.logged("bad command startup -- throttling")
	if n := strings.Count(f.log(), "unknown option"); n > 2 {
		t.Errorf("%d processes were started", n)
	}
}

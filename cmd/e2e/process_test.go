package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// cpu returns the processor time that a process has used, in clock ticks.
func cpu(t *testing.T, pid int) int {
	t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(rest)
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return user + system
}

// residentKB returns the memory of a process.
func residentKB(t *testing.T, pid int) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	kb, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		t.Fatal(err)
	}
	return kb
}

// TestFrontEnd_Rests ensures that one process serves, with and without the agent, that it neither spins nor
// grows with 500 idle connections, and that a crash after some service is no "bad command startup".
func TestFrontEnd_Rests(t *testing.T) {
	f := newFixture(t, nil)
	if err := f.found(); err != nil {
		t.Fatal(err)
	}
	pid := f.frontEnd()
	var idle []*client
	defer func() {
		for _, c := range idle {
			c.close()
		}
	}()
	for range 500 {
		c := f.client("proxymap")
		idle = append(idle, c)
		if status, _, err := c.lookup("raft:virtual", "alias@alias.test"); status != ok || err != nil {
			t.Fatalf("lookup: %s, %v", status, err)
		}
	}
	rest := func(what string) {
		t.Helper()
		before := cpu(t, pid)
		time.Sleep(2 * time.Second) // the thing measured
		if used := cpu(t, pid) - before; used > 10 {
			t.Errorf("%s: %d ticks of processor time in 2 s without requests", what, used)
		}
		if kb := residentKB(t, pid); kb > 40<<10 {
			t.Errorf("%s: %d kB of memory", what, kb)
		}
	}
	rest("500 connections at the agent")
	if err := f.found(); err != nil {
		t.Error(err)
	}
	f.agent.stop()
	for _, c := range idle { // they reconnect
		if status, _, err := c.lookup("raft:virtual", "alias@alias.test"); status != retry || err != nil {
			t.Fatalf("lookup without the agent: %s, %v", status, err)
		}
	}
	rest("500 connections at the front end")
	f.agent.start()
	within(t, 3*time.Second, "recovery", func() error {
		status, _, err := idle[0].lookup("raft:virtual", "alias@alias.test")
		if status != ok || err != nil {
			return fmt.Errorf("lookup: %s, %v", status, err)
		}
		return nil
	})
	if got := f.frontEnd(); got != pid {
		t.Errorf("another process serves: %d, was %d", got, pid)
	}
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	within(t, 3*time.Second, "service after a crash", f.found)
	f.logged("killed by signal 9")
	f.quiet("throttling", "status update", "panic:")
}

// TestFrontEnd_Confined ensures that -u and -c are obeyed and that the agent and the stock service are
// still reached, also after the agent was restarted.
func TestFrontEnd_Confined(t *testing.T) {
	f := newFixture(t, func(f *fixture) { f.master.Chroot = "y" })
	for range 2 {
		within(t, 3*time.Second, "lookup", f.found)
		if out, status := f.postmap("-q", "root", "unix:passwd.byname"); !strings.HasPrefix(out, "root:x:0:") {
			t.Errorf("local table: %q, status %d", out, status)
		}
		f.agent.stop()
		f.agent.start()
	}
	pid := f.frontEnd()
	root, err := os.Readlink(fmt.Sprintf("/proc/%d/root", pid))
	if err != nil || root != filepath.Join(f.dir, "q") {
		t.Errorf("root directory of the process: %s, %v", root, err)
	}
	var info unix.Stat_t
	if err := unix.Stat(fmt.Sprintf("/proc/%d", pid), &info); err != nil {
		t.Fatal(err)
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"Uid:", "Gid:"} {
		_, rest, _ := strings.Cut(string(status), name)
		for _, id := range strings.Fields(rest)[:4] {
			if id == "0" {
				t.Errorf("%s %s: still root", name, strings.Fields(rest)[:4])
			}
		}
	}
	f.quiet("panic:", "throttling")
}

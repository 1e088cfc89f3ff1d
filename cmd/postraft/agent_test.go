package main

import (
	"bytes"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"postraft/cluster/clustertest"
	"postraft/cluster/trust"
)

// TestAgent_LifeAndSockets ensures that an agent serves its direct sockets, tells systemd, takes over a changed
// configuration on SIGHUP, ends cleanly on SIGTERM, and finds its tables again.
func TestAgent_LifeAndSockets(t *testing.T) {
	dir := shortDir(t)
	if err := os.WriteFile(filepath.Join(dir, "secret"), []byte(trust.NewSecret()), 0o600); err != nil {
		t.Fatal(err)
	}
	conf := filepath.Join(dir, "postraft.cf")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("bootstrap_expect = 1\nproxy_read_maps = proxy:raft:a\nproxy_write_maps = proxy:raft:a\n")
	notify, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer notify.Close()
	t.Setenv("NOTIFY_SOCKET", filepath.Join(dir, "notify"))
	told := func() string {
		t.Helper()
		notify.SetReadDeadline(time.Now().Add(clustertest.Patience))
		b := make([]byte, 100)
		n, err := notify.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		return string(b[:n])
	}
	read, rw := filepath.Join(dir, "read"), filepath.Join(dir, "write")
	args := []string{"--config", conf, "--proxymap-socket", read, "--proxywrite-socket", rw, "--mail-version", "3.7.11"}
	n := startAgentIn(t, dir, args...)
	if got := told(); got != "READY=1" {
		t.Errorf("systemd was told %q", got)
	}

	w := dialProxymap(t, rw)
	if got := w.ask("request", "open", "table", "raft:a", "flags", "0"); !strings.HasPrefix(got, "status=0 ") {
		t.Errorf("open: %s", got)
	}
	clustertest.Eventually(t, "opening an approved table creates it", func() error {
		if r := n.run("table", "info", "a"); r.code != 0 {
			return fmt.Errorf("%s", r.err)
		}
		return nil
	})
	if got := w.ask("request", "update", "table", "raft:a", "flags", "16576", "key", "k", "value", "v"); got != "status=0" {
		t.Errorf("update: %s", got)
	}
	r := dialProxymap(t, read)
	if got := r.lookup("raft:a", "k"); got != "status=0 value=v" {
		t.Errorf("lookup after update: %s", got)
	}
	if got := r.lookup("raft:a", "none"); got != "status=1 value=" {
		t.Errorf("lookup of nothing: %s", got)
	}
	if got := r.lookup("raft:b", "k"); got != "status=4 value=" {
		t.Errorf("lookup in a table that is not approved: %s", got)
	}
	if got := n.ok("get", "a", "k"); got != "v\n" {
		t.Errorf("get: %q", got)
	}
	if info, err := os.Stat(rw); err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("mode of the proxywrite socket: %v %v", info.Mode(), err)
	}

	write("bootstrap_expect = 1\nproxy_read_maps = proxy:raft:a proxy:raft:b\nvoters = 3\n")
	n.cmd.Process.Signal(syscall.SIGHUP)
	clustertest.Eventually(t, "SIGHUP approves another table", func() error {
		if got := r.lookup("raft:b", "k"); got != "status=2 value=" { // it does not exist: RETRY
			return fmt.Errorf("%s", got)
		}
		return nil
	})
	write("bootstrap_expect = 1\nproxy_read_maps = proxy:raft:a\nnonsense\n")
	n.cmd.Process.Signal(syscall.SIGHUP) // it must survive this; the log is looked at below

	n.waitFor("the agent still answers", func(s map[string]any) bool { return s["ready"] == true })
	code, took := n.end(syscall.SIGTERM)
	if code != 0 || took > 5*time.Second {
		t.Errorf("SIGTERM: exit %d after %v", code, took)
	}
	if got := told(); got != "STOPPING=1" {
		t.Errorf("systemd was told %q", got)
	}
	log := n.child.out.String()
	for _, want := range []string{"changed settings wait for a restart", "settings=[voters]", "configuration not taken over", "postraft.cf line 3: want: name = value"} {
		if !strings.Contains(log, want) {
			t.Errorf("the log does not say %q", want)
		}
	}
	for _, path := range []string{read, rw, filepath.Join(n.runDir, adminSocket), filepath.Join(n.runDir, handoffSocket)} {
		if _, err := os.Lstat(path); err == nil {
			t.Errorf("%s is still there after the end", path)
		}
	}
	n.fails(exitNoAgent, []string{"postraft: status: no agent at ", "systemctl start postraft"}, "status")

	write("")
	again := startAgentIn(t, dir, args...)
	if got := again.ok("get", "a", "k"); got != "v\n" {
		t.Errorf("get after a restart: %q", got)
	}
	again.cmd.Process.Kill()
	again.exit()
	third := startAgentIn(t, dir, args...) // the sockets of a killed agent are in the way of nobody
	if got := third.ok("get", "a", "k"); got != "v\n" {
		t.Errorf("get after kill -9: %q", got)
	}
}

// TestAgent_Refused ensures that an agent that cannot start says why in one line, with exit code 78.
func TestAgent_Refused(t *testing.T) {
	dir := shortDir(t)
	secret := filepath.Join(dir, "secret")
	if err := os.WriteFile(secret, []byte(trust.NewSecret()), 0o644); err != nil {
		t.Fatal(err)
	}
	c := cli{t, dir}
	run := func(args ...string) result {
		return c.run(append([]string{"agent", "--config", os.DevNull, "--data-dir", filepath.Join(dir, "data"), "--run-dir", filepath.Join(dir, "run"),
			"--bind", clustertest.FreePort(t), "--gossip", clustertest.FreePort(t), "--http", ""}, args...)...)
	}
	c.failed(run("--secret-file", secret), exitConfig, []string{"postraft: agent: ", secret, "others may access", "chmod o= "})
	c.failed(run("--secret-file", secret+".none"), exitConfig, []string{"no such file", "postraft keygen"})
	os.Chmod(secret, 0o600)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	c.failed(run("--secret-file", secret, "--bind", taken.Addr().String()), exitConfig, []string{"address already in use", "postraft status tells", "--bind"})
	c.failed(run("--secret-file", secret, "--postfix-config", "/nonexistent"), exitConfig, []string{"/nonexistent"})
	c.failed(run("--voters", "x"), exitUsage, []string{"--voters", "want a number"})
	n := startAgent(t)
	c.failed(run("--secret-file", secret, "--run-dir", n.runDir), exitConfig, []string{"another process answers"})
	if got := n.ok("table", "list"); !strings.HasPrefix(got, "TABLE") {
		t.Errorf("the first agent after the second was refused: %q", got)
	}
}

// TestStatus_Fields ensures that the fields that scripts rely on are there, and that the only voter cannot go.
func TestStatus_Fields(t *testing.T) {
	n := startAgent(t)
	n.ok("table", "create", "a")
	s := n.object("status")
	for _, name := range strings.Fields("name id state leader term applied_index commit_index last_log_index ready voters tables") {
		if _, ok := s[name]; !ok {
			t.Errorf("status has no %s: %v", name, s)
		}
	}
	if s["name"] != "n1" || s["state"] != "leader" || s["leader"] != "n1" || s["ready"] != true || fmt.Sprint(s["voters"]) != "[n1]" || len(s["tables"].([]any)) != 1 {
		t.Errorf("status: %v", s)
	}
	if out := n.ok("status"); !strings.Contains(out, "role     voter, leader, term ") || !strings.Contains(out, "\na      hash  0 ") {
		t.Errorf("status: %s", out)
	}
	var members []map[string]any
	n.document(&members, "members")
	if len(members) != 1 || fields(members[0]) != "address alive applied_index id leader name role version" {
		t.Errorf("members: %v", members)
	}
	n.fails(exitUsage, []string{"postraft: leave: ", "only voter"}, "leave")
	n.fails(exitNotFound, []string{"remove n9: n9: no such member", "postraft members"}, "remove", "n9")
	n.fails(exitNotFound, []string{"no such member"}, "transfer-leader", "n9")
	n.fails(exitUsage, []string{"n1 is alive", "postraft leave"}, "remove", "n1")
	n.fails(exitTempFail, []string{"same secret"}, "join", "--timeout", "3s", clustertest.FreePort(t))
	n.fails(exitUsage, []string{"want: postraft join HOST"}, "join")
	n.fails(exitUsage, []string{`there is no command "frob"`}, "frob")
	n.fails(exitUsage, []string{`there is no command "frob"`, "see: postraft table --help"}, "table", "frob")
	n.fails(exitUsage, []string{`there is no command "table frob"`}, "help", "table", "frob")
	n.fails(exitUsage, []string{"unknown flag: --frob"}, "status", "--frob")
	n.fails(exitUsage, []string{"want more than 0"}, "status", "--timeout", "0s")
	if r := n.run("__complete", "table", "info", ""); !strings.HasPrefix(r.out, "a\n") {
		t.Errorf("completion of tables: %+v", r)
	}
}

// TestSyslog_Priorities ensures that records keep their level on the way to syslog, and bring no time of
// their own.
func TestSyslog_Priorities(t *testing.T) {
	var w fakeSyslog
	log := slog.New(newSyslogHandler(&w, "text", slog.LevelDebug)).With("node", "n1")
	log.Debug("d")
	log.Info("i")
	log.Warn("w", "err", "x")
	log.Error("e")
	want := `debug level=DEBUG msg=d node=n1|info level=INFO msg=i node=n1|warning level=WARN msg=w node=n1 err=x|err level=ERROR msg=e node=n1|`
	if w.String() != want {
		t.Errorf("got %s\nwant %s", w.String(), want)
	}
}

type fakeSyslog struct{ bytes.Buffer }

func (f *fakeSyslog) line(p, s string) error { fmt.Fprintf(f, "%s %s|", p, s); return nil }

func (f *fakeSyslog) Debug(s string) error   { return f.line("debug", s) }
func (f *fakeSyslog) Info(s string) error    { return f.line("info", s) }
func (f *fakeSyslog) Warning(s string) error { return f.line("warning", s) }
func (f *fakeSyslog) Err(s string) error     { return f.line("err", s) }

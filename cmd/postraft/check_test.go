package main

import (
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"postraft/cluster/clustertest"
	"postraft/cluster/trust"
	"postraft/cluster/trust/trusttest"
)

// checking prepares a configuration file and returns a cli, the file's path, and what checks it.
func checking(t *testing.T, text string) (c cli, dir, conf string, check func(args ...string) result) {
	t.Helper()
	dir = shortDir(t)
	conf = filepath.Join(dir, "postraft.cf")
	for path, text := range map[string]string{conf: text, filepath.Join(dir, "secret"): trust.NewSecret()} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c = cli{t, filepath.Join(dir, "run")}
	return c, dir, conf, func(args ...string) result {
		return c.run(append([]string{"agent", "--check-config", "--config", conf, "--name", "n1", "--data-dir", filepath.Join(dir, "data"), "--run-dir", c.runDir, "--secret-file", filepath.Join(dir, "secret")}, args...)...)
	}
}

// TestCheckConfig_WatchFile ensures that a watched file that cannot be read is warned of, and one that can is not.
func TestCheckConfig_WatchFile(t *testing.T) {
	_, dir, conf, check := checking(t, "")
	there, away := conf, filepath.Join(dir, "away")
	r := check("--watch-file", "a="+there, "--watch-file", "cidr:b="+away)
	if want := "warning: watch_file: open " + away + ": no such file or directory: table b stays as it is"; r.code != exitOK || !strings.Contains(r.out, want) || strings.Contains(r.out, "table a") {
		t.Errorf("want %q and nothing of table a: %+v", want, r)
	}
}

// TestCheckConfig_InEffect ensures that a good configuration is printed with the place that each value comes from and
// without the secret, and that nothing is started or made.
func TestCheckConfig_InEffect(t *testing.T) {
	c, dir, conf, check := checking(t, "voters = 3\n\nmax_staleness = 1m\nproxy_read_maps = proxy:raft:a,\n  proxy:raft:b\n")
	r := check("--log-level", "warn", "--http", "")
	if r.code != exitOK || r.err != "" {
		t.Fatalf("%+v", r)
	}
	var got []string
	for line := range strings.Lines(r.out) {
		got = append(got, strings.Join(strings.Fields(line), " "))
	}
	all := strings.Join(got, "\n")
	for _, want := range []string{
		"voters = 3 # " + conf + ":1", "max_staleness = 1m0s # " + conf + ":3", "proxy_read_maps = proxy:raft:a, proxy:raft:b # " + conf + ":4", "log_level = warn # command line",
		"gossip = 0.0.0.0:7951 # default", "http = # command line", "the configuration can be used by user " + userName(),
	} {
		if !strings.Contains("\n"+all+"\n", "\n"+want+"\n") {
			t.Errorf("there is no line %q in\n%s", want, all)
		}
	}
	secret, err := os.ReadFile(filepath.Join(dir, "secret"))
	if err != nil || strings.Contains(r.out, string(secret)) {
		t.Errorf("the secret is printed, or %v", err)
	}
	for _, made := range []string{"data", "run"} {
		if _, err := os.Stat(filepath.Join(dir, made)); err == nil {
			t.Errorf("%s was made", made)
		}
	}
	var out, errOut output
	a := &app{out: &out, err: &errOut, environ: []string{"POSTRAFT_VOTERS=5", "POSTRAFT_CHECK_CONFIG=yes"}}
	if code := run(t.Context(), a, []string{"agent", "--check-config", "--config", conf, "--run-dir", c.runDir, "--data-dir", dir, "--secret-file", filepath.Join(dir, "secret"), "--name", "n1"}); code != 0 {
		t.Errorf("exit %d: %s", code, errOut.String())
	}
	if !strings.Contains(out.String(), "# environment POSTRAFT_VOTERS") {
		t.Errorf("with an environment: %s", out.String())
	}
}

// TestCheckConfig_AllErrors ensures that everything that is wrong is told at once, in one line on standard error and
// line by line on standard output.
func TestCheckConfig_AllErrors(t *testing.T) {
	_, dir, conf, check := checking(t, "nosuch = 1\nvoters = many\nbind = 192.0.2.77:7950\ngossip = 0.0.0.0:7952\nbootstrap_expect = 2\nsnapshot_dir = /nonexistent\npassthrough_read = /nonexistent/s\n")
	if err := os.Chmod(filepath.Join(dir, "secret"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "data"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "data", "id"), []byte("n9/1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := check("--proxymap-socket", filepath.Join(conf, "s"), "--tls-cert", "/nonexistent/cert", "--tls-key", "/nonexistent/key", "--tls-ca", "/nonexistent/ca", "--join", "host.invalid")
	for _, want := range []string{
		conf + ` line 1: there is no setting "nosuch"`, conf + " line 2: voters = many: want a number", "others may access", "chmod o= ", "/nonexistent/cert", "this node is called \"n1\"",
		"this host does not have the address 192.0.2.77", "gossip and http have the same port 7952", "snapshot_dir: stat /nonexistent: no such file", "proxymap_socket " + conf,
	} {
		if !strings.Contains(r.err, want) || !strings.Contains(r.out, want) {
			t.Errorf("%q is not told in\n%s\n%s", want, r.err, r.out)
		}
	}
	for _, want := range []string{"warning: bootstrap_expect = 2", "warning: join: no address of host.invalid", "warning: passthrough_read: stat /nonexistent/s", "error: ", "gossip = 0.0.0.0:7952"} {
		if !strings.Contains(r.out, want) {
			t.Errorf("%q is not in\n%s", want, r.out)
		}
	}
	if r.code != exitConfig || strings.Contains(r.out, "can be used") {
		t.Errorf("exit %d: %s", r.code, r.out)
	}
}

// TestSIGHUP_WhatChanges ensures that the log level, the approved tables and the secrets change at run time, and that
// the agent names what waits for a restart.
func TestSIGHUP_WhatChanges(t *testing.T) {
	dir := shortDir(t)
	conf, socket := filepath.Join(dir, "postraft.cf"), filepath.Join(dir, "proxymap")
	first, second := trust.NewSecret(), trust.NewSecret()
	write := func(path, text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(filepath.Join(dir, "secret"), first)
	write(conf, "log_level = info\nproxy_read_maps = proxy:raft:a\nvoters = 5\n")
	n := startAgentIn(t, dir, "--bootstrap-expect", "1", "--config", conf, "--proxymap-socket", socket, "--mail-version", "3.7")
	n.ok("table", "create", "a")
	n.ok("table", "create", "b")
	p := dialProxymap(t, socket)
	if got := p.lookup("raft:b", "k"); got != "status=4 value=" {
		t.Errorf("before: %s", got)
	}
	if strings.Contains(n.child.out.String(), "level=DEBUG") {
		t.Error("debug lines before")
	}
	write(conf, "log_level = debug\nproxy_read_maps = proxy:raft:a proxy:raft:b\nvoters = 3\nmax_staleness = 1m\nlog_format = json\n")
	write(filepath.Join(dir, "secret"), first+"\n"+second+"\n")
	n.cmd.Process.Signal(syscall.SIGHUP)
	clustertest.Eventually(t, "what can change has changed", func() error {
		if got := p.lookup("raft:b", "k"); got != "status=1 value=" {
			return fmt.Errorf("lookup: %s", got)
		}
		n.ok("status") // which is told at this level only
		log := n.child.out.String()
		for _, want := range []string{"configuration read again", "changed settings wait for a restart", `settings="[log-format max-staleness voters]"`, "level=DEBUG", "keys changed", trust.Fingerprint(second)} {
			if !strings.Contains(log, want) {
				return fmt.Errorf("the log does not say %q", want)
			}
		}
		return nil
	})
	if log := n.child.out.String(); strings.Contains(log, first) || strings.Contains(log, second) {
		t.Error("a secret is in the log")
	}
}

// TestCheckConfig_Certificates ensures that the operator's certificate is read, that one that has expired is an error
// and one that is about to is a warning.
func TestCheckConfig_Certificates(t *testing.T) {
	_, _, _, check := checking(t, "")
	ca := trusttest.New(t)
	for _, tt := range []struct {
		left    time.Duration
		code    int
		message string
	}{{365 * 24 * time.Hour, exitOK, "can be used"}, {24 * time.Hour, exitOK, "warning: the certificate in "}, {-time.Hour, exitConfig, "has expired"}} {
		files := ca.Issue("n1", func(c *x509.Certificate) {
			c.NotBefore, c.NotAfter = time.Now().Add(-48*time.Hour), time.Now().Add(tt.left)
		})
		r := check("--tls-cert", files.Cert, "--tls-key", files.Key, "--tls-ca", files.CA)
		if r.code != tt.code || !strings.Contains(r.out, tt.message) {
			t.Errorf("%v left: %+v", tt.left, r)
		}
	}
}

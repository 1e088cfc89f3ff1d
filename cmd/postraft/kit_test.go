package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"postraft/cluster/clustertest"
	"postraft/cluster/trust"
)

// asPostraft makes the test binary behave as postraft.
const asPostraft = "TEST_AS_POSTRAFT"

func TestMain(m *testing.M) {
	if os.Getenv(asPostraft) != "" && !slices.Contains(os.Args, "-test.fuzzworker") {
		if dev := os.Getenv(withDev); dev != "" {
			mountDev(dev)
		}
		main()
	}
	os.Setenv(asPostraft, "1") // for child processes
	os.Exit(m.Run())
}

// A result is what a command left behind.
type result struct {
	code     int
	out, err string
}

// A cli runs commands against the agent of a run directory, in this process.
type cli struct {
	t      *testing.T
	runDir string
}

func (c cli) runIn(stdin string, args ...string) result {
	c.t.Helper()
	var out, err output
	a := &app{in: strings.NewReader(stdin), out: &out, err: &err, environ: []string{"POSTRAFT_RUN_DIR=" + c.runDir}}
	code := run(context.Background(), a, args)
	r := result{code, out.String(), err.String()}
	if args[0] == "agent" { // it logs there as well
		var lines []string
		for line := range strings.Lines(r.err) {
			if strings.HasPrefix(line, "postraft: ") {
				lines = append(lines, line)
			}
		}
		r.err = strings.Join(lines, "")
	}
	if code >= 64 && (strings.Count(r.err, "\n") != 1 || !strings.HasPrefix(r.err, "postraft: ")) {
		c.t.Errorf("%v: the error is not one line of the form postraft: what: why:\n%s", args, r.err)
	}
	return r
}

func (c cli) run(args ...string) result { c.t.Helper(); return c.runIn("", args...) }

// ok runs a command that must succeed and say nothing on standard error, and returns its output.
func (c cli) ok(args ...string) string {
	c.t.Helper()
	r := c.run(args...)
	if r.code != exitOK || r.err != "" {
		c.t.Fatalf("postraft %v: exit %d: %s", args, r.code, r.err)
	}
	return r.out
}

// fails runs a command that must end with this code and with an error line that has all of the words.
func (c cli) fails(code int, words []string, args ...string) {
	c.t.Helper()
	c.failed(c.run(args...), code, words, args...)
}

func (c cli) failed(r result, code int, words []string, args ...string) {
	c.t.Helper()
	if r.code != code {
		c.t.Errorf("postraft %v: exit %d, want %d: %s", args, r.code, code, r.err)
	}
	for _, w := range words {
		if !strings.Contains(r.err, w) {
			c.t.Errorf("postraft %v: error does not say %q: %s", args, w, r.err)
		}
	}
}

// object runs a command with --json and returns its document.
func (c cli) object(args ...string) map[string]any {
	c.t.Helper()
	var v map[string]any
	c.document(&v, args...)
	return v
}

func (c cli) document(into any, args ...string) {
	c.t.Helper()
	out := c.ok(append([]string{"--json"}, args...)...)
	if err := json.Unmarshal([]byte(out), into); err != nil {
		c.t.Fatalf("postraft --json %v: %v in %s", args, err, out)
	}
}

// shortDir returns a directory whose name leaves room for sockets.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "pr")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// A child is a postraft process.
type child struct {
	t    *testing.T
	cmd  *exec.Cmd
	out  output // both of them
	done chan struct{}
}

// An output collects what a process says.
type output struct {
	mu  sync.Mutex // guards buf
	buf bytes.Buffer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

func startChild(t *testing.T, env []string, args ...string) *child {
	t.Helper()
	return startChildWith(t, nil, env, args...)
}

func startChildWith(t *testing.T, attr *syscall.SysProcAttr, env []string, args ...string) *child {
	t.Helper()
	c := &child{t: t, cmd: exec.Command(os.Args[0], args...), done: make(chan struct{})}
	c.cmd.SysProcAttr = attr
	c.cmd.Env = append(os.Environ(), env...)
	c.cmd.Stdout, c.cmd.Stderr = &c.out, &c.out
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { c.cmd.Wait(); close(c.done) }()
	t.Cleanup(func() {
		c.cmd.Process.Kill()
		<-c.done
		if t.Failed() {
			t.Logf("postraft %s\n%s", strings.Join(args, " "), c.out.String())
		}
	})
	return c
}

// end sends a signal and returns the exit code and how long the process took.
func (c *child) end(sig syscall.Signal) (code int, took time.Duration) {
	c.t.Helper()
	began := time.Now()
	c.cmd.Process.Signal(sig)
	return c.exit(), time.Since(began)
}

// exit waits for the end of the process.
func (c *child) exit() int {
	c.t.Helper()
	select {
	case <-c.done:
	case <-time.After(clustertest.Patience):
		c.t.Fatalf("process did not end within %v", clustertest.Patience)
	}
	return c.cmd.ProcessState.ExitCode()
}

// A node is an agent in a child process, and a cli for it.
type node struct {
	cli
	*child
	dir    string
	gossip string
}

// startAgent starts an agent that forms a cluster alone, and waits until it is ready.
func startAgent(t *testing.T, args ...string) *node {
	t.Helper()
	dir := shortDir(t)
	secret := filepath.Join(dir, "secret")
	if err := os.WriteFile(secret, []byte(trust.NewSecret()), 0o600); err != nil {
		t.Fatal(err)
	}
	return startAgentIn(t, dir, append([]string{"--bootstrap-expect", "1"}, args...)...)
}

// startAgentIn starts an agent on a directory that has a secret.
func startAgentIn(t *testing.T, dir string, args ...string) *node {
	t.Helper()
	runDir := filepath.Join(dir, "run")
	n := &node{cli: cli{t, runDir}, dir: dir, gossip: clustertest.FreePort(t)}
	n.child = startChild(t, []string{"POSTRAFT_CONFIG=" + os.DevNull}, append([]string{
		"agent", "--name", "n1", "--data-dir", filepath.Join(dir, "data"), "--run-dir", runDir, "--secret-file", filepath.Join(dir, "secret"),
		"--bind", clustertest.FreePort(t), "--gossip", n.gossip, "--heartbeat-timeout", "200ms", "--http", "",
	}, args...)...)
	n.waitFor("the agent is ready", func(s map[string]any) bool { return s["ready"] == true && s["leader"] != "" })
	return n
}

// waitFor waits until the status of the node is as wanted.
func (c cli) waitFor(what string, wanted func(status map[string]any) bool) {
	c.t.Helper()
	clustertest.Eventually(c.t, what, func() error {
		var out, errOut bytes.Buffer
		a := &app{in: strings.NewReader(""), out: &out, err: &errOut}
		if code := run(context.Background(), a, []string{"--json", "--run-dir", c.runDir, "status"}); code != 0 {
			return fmt.Errorf("status: exit %d: %s", code, errOut.String())
		}
		var s map[string]any
		if err := json.Unmarshal(out.Bytes(), &s); err != nil {
			return err
		}
		if !wanted(s) {
			return fmt.Errorf("status is %s", out.String())
		}
		return nil
	})
}

// A proxymap is a Postfix process as the agent sees it, in the dialect of Postfix 3.6 to 3.10.
type proxymap struct {
	t    *testing.T
	conn net.Conn
	r    *bufio.Reader
}

// dialProxymap connects, and reads the server's announcement.
func dialProxymap(t *testing.T, path string) *proxymap {
	t.Helper()
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	p := &proxymap{t, conn, bufio.NewReader(conn)}
	if got := p.read(); got != "protocol=proxymap_protocol" {
		t.Fatalf("announcement %q", got)
	}
	return p
}

// read returns the next attribute list as words.
func (p *proxymap) read() string {
	p.t.Helper()
	p.conn.SetReadDeadline(time.Now().Add(clustertest.Patience))
	var words []string
	for {
		name, err := p.r.ReadString(0)
		if err != nil && err != io.EOF {
			p.t.Fatal(err)
		}
		if name == "\x00" || err == io.EOF {
			return strings.Join(words, " ")
		}
		value, err := p.r.ReadString(0)
		if err != nil {
			p.t.Fatal(err)
		}
		words = append(words, strings.TrimSuffix(name, "\x00")+"="+strings.TrimSuffix(value, "\x00"))
	}
}

// ask sends a request, given as names and values in turn, and returns the reply.
func (p *proxymap) ask(attrs ...string) string {
	p.t.Helper()
	if _, err := io.WriteString(p.conn, strings.Join(attrs, "\x00")+"\x00\x00"); err != nil {
		p.t.Fatal(err)
	}
	return p.read()
}

func (p *proxymap) lookup(table, key string) string {
	p.t.Helper()
	return p.ask("request", "lookup", "table", table, "flags", "16448", "key", key)
}

// said returns an error unless the process has said text.
func (c *child) said(text string) error {
	if out := c.out.String(); !strings.Contains(out, text) {
		return fmt.Errorf("it says %q", out)
	}
	return nil
}

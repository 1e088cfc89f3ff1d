package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A node is one agent, a process of its own.
type node struct {
	t    *testing.T
	name string
	dir  string
	args []string

	account account // the agent runs as this user, who may not enter Postfix's directories

	cmd  *exec.Cmd
	done chan struct{} // closed when the process has ended

	mu  sync.Mutex // guards log
	log bytes.Buffer
}

// Write keeps what the agent logs.
func (n *node) Write(b []byte) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.log.Write(b)
}

func (n *node) start() {
	n.t.Helper()
	n.cmd = exec.Command(program(n.t, "postraft"), n.args...)
	n.cmd.Stderr = n
	n.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: n.account.uid, Gid: n.account.gid}}
	if err := n.cmd.Start(); err != nil {
		n.t.Fatal(err)
	}
	n.done = make(chan struct{})
	go func(cmd *exec.Cmd, done chan struct{}) {
		defer close(done)
		cmd.Wait()
	}(n.cmd, n.done)
}

// signal sends a signal; the caller waits for what it does.
func (n *node) signal(s syscall.Signal) {
	n.t.Helper()
	if err := n.cmd.Process.Signal(s); err != nil {
		n.t.Fatalf("signal %v to %s: %v", s, n.name, err)
	}
}

// end sends a signal and waits for the end of the process.
func (n *node) end(s syscall.Signal) {
	n.t.Helper()
	n.signal(s)
	select {
	case <-n.done:
	case <-time.After(10 * time.Second):
		n.t.Fatalf("%s does not end after %v", n.name, s)
	}
}

func (n *node) runDir() string { return filepath.Join(n.dir, "run") }

// run runs an operator's command at the node.
func (n *node) run(stdin string, args ...string) (string, int) {
	n.t.Helper()
	return command(n.t, stdin, program(n.t, "postraft"), append(args, "--run-dir", n.runDir())...)
}

// must runs an operator's command that has to work.
func (n *node) must(stdin string, args ...string) string {
	n.t.Helper()
	out, status := n.run(stdin, args...)
	if status != 0 {
		n.t.Fatalf("postraft %s at %s: exit status %d\n%s", strings.Join(args, " "), n.name, status, out)
	}
	return out
}

// nodeStatus is what the tests need of postraft status.
type nodeStatus struct {
	Name   string
	State  string
	Leader string
	Ready  bool
	Voters []string
}

func (n *node) status() (s nodeStatus, err error) {
	n.t.Helper()
	out, status := n.run("", "status", "--json")
	if status != 0 {
		return s, fmt.Errorf("status of %s: exit status %d: %s", n.name, status, out)
	}
	return s, json.Unmarshal([]byte(out), &s)
}

// newSecret makes the secret of a cluster, in a file of the account.
func newSecret(t *testing.T, dir string, of account) string {
	t.Helper()
	secret := filepath.Join(dir, "secret")
	out, err := exec.Command(program(t, "postraft"), "keygen").Output()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(secret, out, 0o600); err != nil {
		t.Fatal(err)
	}
	of.own(t, secret)
	return secret
}

// newCluster starts three agents and waits until all of them vote and are ready.
func newCluster(t *testing.T) []*node {
	t.Helper()
	dir, err := os.MkdirTemp("", "pc")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	account := lookupAccount(t, "nobody")
	secret := newSecret(t, dir, account)
	var nodes []*node
	seed := ""
	for i := range 3 {
		n := &node{t: t, name: fmt.Sprintf("n%d", i+1), account: account}
		n.dir = filepath.Join(dir, n.name)
		if err := os.Mkdir(n.dir, 0o755); err != nil {
			t.Fatal(err)
		}
		account.own(t, n.dir)
		gossip := fmt.Sprintf("127.0.0.1:%d", freePort(t))
		n.args = []string{"agent", "--name", n.name, "--data-dir", filepath.Join(n.dir, "data"), "--run-dir", n.runDir(), "--http", "",
			"--bind", fmt.Sprintf("127.0.0.1:%d", freePort(t)), "--gossip", gossip,
			"--secret-file", secret, "--bootstrap-expect", "3",
			"--proxymap-socket", n.socket("proxymap"), "--proxywrite-socket", n.socket("proxywrite"),
			"--proxy-read-maps", "proxy:raft:virtual proxy:raft:recipients", "--proxy-write-maps", "proxy:raft:virtual proxy:raft:recipients"}
		if seed == "" {
			seed = gossip
		} else {
			n.args = append(n.args, "--join", seed)
		}
		nodes = append(nodes, n)
	}
	for _, n := range nodes {
		t.Cleanup(n.discard)
		n.start()
	}
	for _, n := range nodes {
		n.ready(3)
	}
	return nodes
}

// discard kills the agent at the end of its test.
func (n *node) discard() {
	if n.cmd == nil {
		return
	}
	n.cmd.Process.Signal(syscall.SIGCONT)
	n.cmd.Process.Kill()
	<-n.done
	if n.t.Failed() {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.t.Logf("log of %s:\n%s", n.name, tail(n.log.String(), 40))
	}
}

// ready waits until the node serves, in a cluster of so many voters.
func (n *node) ready(voters int) {
	n.t.Helper()
	within(n.t, 30*time.Second, n.name+" is ready", func() error {
		s, err := n.status()
		if err == nil && (!s.Ready || s.Leader == "" || len(s.Voters) != voters) {
			err = fmt.Errorf("status %+v", s)
		}
		return err
	})
}

// socket is one of the agent's own sockets.
func (n *node) socket(service string) string { return filepath.Join(n.runDir(), service) }

// leader returns the leader among nodes and the others.
func leader(t *testing.T, nodes []*node) (lead *node, others []*node) {
	t.Helper()
	within(t, 10*time.Second, "leader", func() error {
		lead, others = nil, nil
		for _, n := range nodes {
			s, err := n.status()
			if err != nil {
				return err
			}
			if s.State == "leader" {
				lead = n
			} else {
				others = append(others, n)
			}
		}
		if lead == nil || len(others) != len(nodes)-1 {
			return fmt.Errorf("none")
		}
		return nil
	})
	return lead, others
}

package main

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"postraft/ops/adopt"
)

// childPatience is how long a child may take to end before it is killed.
const childPatience = 6 * time.Second

// A devNode is one child process.
type devNode struct {
	dev     *dev
	name    string
	program string
	args    []string
	runDir  string
	http    string // address
	logFile string

	cmd  *exec.Cmd     // nil until it has started
	done chan struct{} // closed when it has ended
}

func newDevNode(d *dev, program string, i, nodes, base int) (*devNode, error) {
	name := "n" + strconv.Itoa(i+1)
	dir := filepath.Join(d.dir, name)
	n := &devNode{dev: d, name: name, program: program, runDir: filepath.Join(dir, "run"), logFile: filepath.Join(dir, "agent.log"), done: make(chan struct{})}
	if err := os.MkdirAll(n.runDir, 0o755); err != nil {
		return nil, err
	}
	at := func(i int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(i)) }
	n.http = at(base + 2*nodes + i)
	n.args = []string{
		"agent", "--name", name, "--data-dir", filepath.Join(dir, "data"), "--run-dir", n.runDir,
		"--bind", at(base + 2*i), "--gossip", at(base + 2*i + 1), "--secret-file", d.secret, "--http", n.http,
		"--bootstrap-expect", strconv.Itoa(nodes), "--approve-all-raft",
		"--proxymap-socket", "{" + filepath.Join(n.runDir, "proxymap") + "}", "--proxywrite-socket", "{" + filepath.Join(n.runDir, "proxywrite") + "}",
	}
	for j := range nodes {
		if j != i {
			n.args = append(n.args, "--join", at(base+2*j+1))
		}
	}
	return n, nil
}

// start starts the child, in a process group of its own so that Ctrl-C reaches dev alone. When dev dies, so does
// the child: the kernel watches the thread that started it, which therefore waits for it as well.
func (n *devNode) start() error {
	started := make(chan error)
	go func() { // ends with the child; wait tells when
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		log, err := os.OpenFile(n.logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		if err != nil {
			started <- err
			return
		}
		defer log.Close()
		cmd := exec.Command(n.program, n.args...)
		cmd.Stdout, cmd.Stderr = log, log
		cmd.Env = childEnv(n.dev.app.environ)
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
		if err := cmd.Start(); err != nil {
			started <- err
			return
		}
		n.cmd = cmd
		started <- nil
		cmd.Wait() // how it ended is in its ProcessState
		close(n.done)
		n.dev.ended <- n
	}()
	return <-started
}

// childEnv leaves out the settings of other agents.
func childEnv(environ []string) []string {
	var env []string
	for _, e := range environ {
		if !strings.HasPrefix(e, envPrefix) && !strings.HasPrefix(e, "NOTIFY_SOCKET=") {
			env = append(env, e)
		}
	}
	// A file of this host must not reach the children either.
	return append(env, envPrefix+"CONFIG="+os.DevNull)
}

func (n *devNode) pid() int { return n.cmd.Process.Pid }

// state says how the child ended.
func (n *devNode) state() string {
	<-n.done
	return n.cmd.ProcessState.String()
}

// lastLine returns the end of the child's log.
func (n *devNode) lastLine() string {
	b, err := os.ReadFile(n.logFile)
	if err != nil {
		return err.Error()
	}
	b = bytes.TrimSpace(b)
	return string(b[bytes.LastIndexByte(b, '\n')+1:])
}

func (n *devNode) commandLine() string {
	words := []string{adopt.Quote(n.program)}
	for _, arg := range n.args {
		words = append(words, adopt.Quote(arg))
	}
	return strings.Join(words, " ")
}

func (n *devNode) terminate() {
	if n.cmd != nil {
		n.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	}
}

// wait returns when the child has ended, killed if need be.
func (n *devNode) wait() {
	if n.cmd == nil {
		return
	}
	select {
	case <-n.done:
	case <-time.After(childPatience):
		n.cmd.Process.Kill()
		<-n.done
	}
}

// portsFree fails unless count ports from first on are free on loopback, for TCP and UDP.
func portsFree(first, count int) error {
	for port := first; port < first+count; port++ {
		at := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		ln, err := net.Listen("tcp", at)
		if err != nil {
			return fmt.Errorf("port %d is not free: %w", port, err)
		}
		ln.Close()
		udp, err := net.ListenPacket("udp", at)
		if err != nil {
			return fmt.Errorf("port %d is not free: %w", port, err)
		}
		udp.Close()
	}
	return nil
}

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"postraft/ops"
)

// An agent is a node of a cluster, a process of its own.
type agent struct {
	*daemon
	lab    *lab
	name   string
	runDir string
	data   string
	args   []string
}

// cluster starts n agents that form a cluster, and waits until they have a leader.
func (l *lab) cluster(name string, n int, more ...string) ([]*agent, error) {
	ports, err := freePorts(2 * n)
	if err != nil {
		return nil, err
	}
	secret := l.path(name + ".secret")
	text, err := l.run(filepath.Join(l.bin, "postraft"), "keygen")
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(secret, []byte(text), 0o600); err != nil {
		return nil, err
	}
	agents := make([]*agent, n)
	for i := range agents {
		a := &agent{lab: l, name: fmt.Sprintf("%s%d", name, i+1)}
		a.runDir, a.data = l.path(a.name), l.path(a.name+"d")
		if err := os.Mkdir(a.runDir, 0o755); err != nil {
			return nil, err
		}
		a.args = append([]string{"agent", "--name", a.name, "--data-dir", a.data, "--run-dir", a.runDir,
			"--bind", ports[i], "--gossip", ports[n+i], "--advertise", "127.0.0.1", "--join", strings.Join(ports[n:], ","),
			"--bootstrap-expect", fmt.Sprint(n), "--secret-file", secret, "--http", "", "--approve-all-raft", "--mail-version", "3.7",
			"--proxymap-socket", a.socket("proxymap"), "--proxywrite-socket", a.socket("proxywrite")}, more...)
		if err := a.start(); err != nil {
			return nil, err
		}
		agents[i] = a
	}
	for _, a := range agents {
		if err := a.ready(30 * time.Second); err != nil {
			return nil, err
		}
	}
	return agents, nil
}

// start starts the process, for the first time or again. It ends with the lab.
func (a *agent) start() (err error) {
	a.daemon, err = a.lab.daemon(a.name, filepath.Join(a.lab.bin, "postraft"), a.args...)
	return err
}

func (a *agent) socket(service string) string { return filepath.Join(a.runDir, service) }

// postraft runs a command at this agent.
func (a *agent) postraft(args ...string) (string, error) {
	return a.lab.run(filepath.Join(a.lab.bin, "postraft"), a.command(args)...)
}

// load writes a source of n entries and imports it as a table.
func (a *agent) load(table, source string, n int) error {
	if err := writeSource(source, n, valueFormat); err != nil {
		return err
	}
	_, err := a.postraft("table", "import", table, source)
	return err
}

// timed runs a command at this agent and says what it took, of the agents nothing.
func (a *agent) timed(args ...string) (job, error) {
	return a.lab.timed(filepath.Join(a.lab.bin, "postraft"), a.command(args)...)
}

func (a *agent) command(args []string) []string {
	return append([]string{"--run-dir", a.runDir, "--timeout", "10m"}, args...)
}

// all returns the processes of agents.
func all(agents []*agent) processes {
	return func() (pids []int, err error) {
		for _, a := range agents {
			pids = append(pids, a.cmd.Process.Pid)
		}
		return pids, nil
	}
}

func (a *agent) status() (ops.Status, error) {
	ctx, cancel := context.WithTimeout(a.lab.ctx, 2*time.Second)
	defer cancel()
	return ops.NewClient(a.socket("admin.sock"), 2*time.Second).Status(ctx)
}

// ready waits until the agent serves lookups and knows its leader.
func (a *agent) ready(limit time.Duration) error {
	err := a.lab.until(limit, a.name+" ready", func() error {
		s, err := a.status()
		if err == nil && !s.Ready {
			err = errors.New("it is not ready")
		}
		if err == nil && s.Leader == "" {
			err = errors.New("it has no leader")
		}
		return err
	})
	if err != nil {
		return a.failure(err.Error())
	}
	return nil
}

// same waits until all agents show what the first shows of its tables.
func same(agents []*agent) error {
	s, err := agents[0].status()
	if err != nil {
		return err
	}
	for _, a := range agents[1:] {
		if _, err := a.postraft("status", "--wait-index", fmt.Sprint(s.AppliedIndex)); err != nil {
			return err
		}
	}
	return nil
}

// leader returns the agent that leads.
func leader(agents []*agent) (*agent, error) {
	for _, a := range agents {
		if s, err := a.status(); err == nil && s.State == "leader" {
			return a, nil
		}
	}
	return nil, errors.New("no agent leads")
}

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"postraft/cluster/trust"
	"postraft/dict"
	"postraft/ops"
	"postraft/ops/adopt"
)

const (
	devPatience = 30 * time.Second
	devTable    = "virtual_alias"
	devBasePort = 17950

	portsPerNode = 3
)

// devSource is the sample table.
const devSource = `# virtual_alias_maps, as postmap(1) reads them
postmaster@example.com  root@localhost
info@example.com        alice@example.com, bob@example.com
sales@example.com       carol@example.com
@example.net            @example.com
`

func (a *app) devCmd() *cobra.Command {
	var dir string
	var nodes, basePort int
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Try it: a cluster on this machine with a sample table; Ctrl-C ends it",
		Long: `Starts agents n1 to nN on loopback as child processes, with all their files below DIR: nI/data, nI/run with the
sockets admin.sock, handoff.sock, proxymap and proxywrite (all raft tables are approved there), nI/agent.log, and one
secret. It needs no root, no Postfix and no configuration. Node I listens on the ports P+2I-2 and P+2I-1, and on
P+2N+I-1 for its metrics and a page for a browser. Without --dir the files go to a temporary directory, and with the end
of the command they are gone.`,
		Args: want(0, 0),
		RunE: action(func(ctx context.Context, _ []string) error {
			if nodes < 1 || nodes > 9 {
				return ops.Errorf(ops.Usage, "--nodes %d: want 1 to 9", nodes)
			}
			d := &dev{app: a, dir: dir, basePort: basePort}
			defer d.cleanUp()
			if err := d.prepare(nodes); err != nil {
				return err
			}
			return d.run(ctx)
		}),
	}
	cmd.Flags().IntVar(&nodes, "nodes", 3, "how many")
	cmd.Flags().StringVar(&dir, "dir", "", "`directory` for all files (default a temporary one)")
	cmd.Flags().IntVar(&basePort, "base-port", 0, fmt.Sprintf("first of the ports (default %d, or the next free ones)", devBasePort))
	return cmd
}

// A dev is a cluster of child processes.
type dev struct {
	app       *app
	dir       string
	temporary bool
	basePort  int
	secret    string
	nodes     []*devNode
	ended     chan *devNode // a child that ended by itself
}

// prepare makes the directories and the secret and chooses the ports.
func (d *dev) prepare(nodes int) error {
	disk := func(err error) error { return ops.Errorf(ops.Config, "%v", err) }
	var err error
	if d.dir == "" {
		d.temporary = true
		if d.dir, err = os.MkdirTemp("", "postraft-dev-"); err != nil {
			return disk(err)
		}
	}
	if d.dir, err = filepath.Abs(d.dir); err != nil {
		return disk(err)
	}
	if err := checkRunDir(filepath.Join(d.dir, "n1", "run")); err != nil {
		return ops.Errorf(ops.Usage, "--dir %s: %v", d.dir, err)
	}
	if err := os.MkdirAll(d.dir, 0o755); err != nil {
		return disk(err)
	}
	d.secret = filepath.Join(d.dir, "secret")
	if _, err := os.Stat(d.secret); errors.Is(err, fs.ErrNotExist) {
		if err := os.WriteFile(d.secret, []byte(trust.NewSecret()+"\n"), 0o600); err != nil {
			return disk(err)
		}
	}
	base, err := d.choosePorts(nodes)
	if err != nil {
		return err
	}
	program, err := os.Executable()
	if err != nil {
		return disk(err)
	}
	d.ended = make(chan *devNode, nodes)
	for i := range nodes {
		n, err := newDevNode(d, program, i, nodes, base)
		if err != nil {
			return disk(err)
		}
		d.nodes = append(d.nodes, n)
	}
	return nil
}

// choosePorts returns the first port: the one asked for, the one that the cluster in this directory had, or the
// first of a free range.
func (d *dev) choosePorts(nodes int) (int, error) {
	file := filepath.Join(d.dir, "base-port")
	base := d.basePort
	if b, err := os.ReadFile(file); err == nil && base == 0 {
		base, _ = strconv.Atoi(strings.TrimSpace(string(b)))
	}
	if base != 0 {
		if base < 1 || base+portsPerNode*nodes > 1<<16 {
			return 0, ops.Errorf(ops.Usage, "--base-port %d: want room for %d ports below 65536", base, portsPerNode*nodes)
		}
		if err := portsFree(base, portsPerNode*nodes); err != nil {
			return 0, ops.Errorf(ops.Config, "%v", err).Advise("choose other ports with --base-port")
		}
	} else {
		for base = devBasePort; portsFree(base, portsPerNode*nodes) != nil; base += 30 {
			if base > 30000 {
				return 0, ops.Errorf(ops.Config, "no free ports from %d on", devBasePort).Advise("choose some with --base-port")
			}
		}
	}
	if err := os.WriteFile(file, []byte(strconv.Itoa(base)+"\n"), 0o644); err != nil {
		return 0, ops.Errorf(ops.Config, "%v", err)
	}
	return base, nil
}

// run starts the nodes and waits for the end.
func (d *dev) run(ctx context.Context) error {
	defer d.stop()
	began := time.Now()
	for _, n := range d.nodes {
		if err := n.start(); err != nil {
			return ops.Errorf(ops.Config, "start node %s: %v", n.name, err)
		}
	}
	ready, cancel := context.WithTimeout(ctx, devPatience)
	defer cancel()
	for _, n := range d.nodes {
		if err := d.waitReady(ready, n); err != nil {
			if ctx.Err() != nil {
				return nil // Ctrl-C before it was up
			}
			return err
		}
	}
	if err := d.fill(ctx); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	d.cheatSheet(time.Since(began))
	return d.watch(ctx)
}

func (d *dev) waitReady(ctx context.Context, n *devNode) error {
	client := ops.NewClient(filepath.Join(n.runDir, adminSocket), 5*time.Second)
	last := "no answer yet"
	for {
		s, err := client.Status(ctx)
		switch {
		case err == nil && s.Ready && s.Leader != "":
			return nil
		case err != nil:
			last = err.Error()
		default:
			last = cmp.Or(s.NotReady, "no leader yet")
		}
		select {
		case gone := <-d.ended:
			return ops.Errorf(ops.Config, "node %s has ended: %s", gone.name, gone.lastLine()).Advise("its log: %s", gone.logFile)
		case <-ctx.Done():
			return ops.Errorf(ops.Retry, "node %s is not ready after %v: %s", n.name, devPatience, last).Advise("its log: %s", n.logFile)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// fill makes the sample table, unless the cluster has one from an earlier run.
func (d *dev) fill(ctx context.Context) error {
	client := ops.NewClient(filepath.Join(d.nodes[0].runDir, adminSocket), devPatience)
	var e *ops.Error
	if _, err := client.Table(ctx, devTable); err == nil || !errors.As(err, &e) || e.Kind != ops.NotFound {
		return err
	}
	source, _, err := dict.LoadSource(strings.NewReader(devSource), dict.SourceOptions{})
	if err != nil {
		return err
	}
	_, err = client.Import(ctx, devTable, ops.ImportOptions{}, source.All())
	return err
}

func (d *dev) cheatSheet(took time.Duration) {
	n1, n2 := d.nodes[0], d.nodes[min(1, len(d.nodes)-1)]
	on := func(n *devNode) string { return adopt.Quote(n.program) + " --run-dir " + adopt.Quote(n.runDir) }
	fmt.Fprintf(d.app.out, `%d nodes are up after %v, with a sample table %s. Files: %s

  alias pr=%s
  pr status
  pr members
  pr get %s info@example.com
  pr put %s hans@example.com hans@example.org
  %s list %s
  pr table export %s
  curl -s http://%s/metrics            # and http://%s/ in a browser

`, len(d.nodes), took.Round(10*time.Millisecond), devTable, d.dir, adopt.Quote(on(n1)), devTable, devTable, on(n2), devTable, devTable, n1.http, n1.http)
	for _, n := range d.nodes {
		fmt.Fprintf(d.app.out, "  %s  pid %d  %s/{admin.sock,proxymap,proxywrite}  http://%s/  log %s\n", n.name, n.pid(), n.runDir, n.http, n.logFile)
	}
	fmt.Fprintf(d.app.out, "\nKill one with kill -9 and see what the others do. Ctrl-C ends all.\n")
}

// watch waits for Ctrl-C and tells of nodes that end.
func (d *dev) watch(ctx context.Context) error {
	alive := len(d.nodes)
	for {
		select {
		case <-ctx.Done():
			signal.Reset(os.Interrupt, syscall.SIGTERM) // the second one ends the process at once
			return nil
		case n := <-d.ended:
			alive--
			fmt.Fprintf(d.app.out, "%s has ended (%s). Start it again with:\n  %s\n", n.name, n.state(), n.commandLine())
			if alive == 0 {
				return ops.Errorf(ops.NoAgent, "all nodes have ended").Advise("their logs: %s", filepath.Join(d.dir, "n*", "agent.log"))
			}
		}
	}
}

func (d *dev) stop() {
	for _, n := range d.nodes {
		n.terminate()
	}
	for _, n := range d.nodes {
		n.wait()
	}
}

func (d *dev) cleanUp() {
	if d.temporary && d.dir != "" {
		os.RemoveAll(d.dir)
	}
}

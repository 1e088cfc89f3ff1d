// Package clustertest runs whole clusters in one process, on loopback TCP and temporary directories, for
// tests. Its verbs read like the story of a test: start, write, kill, restart, wait until.
package clustertest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"postraft/cluster"
	"postraft/cluster/trust"
	"postraft/dict"
)

// Patience is how long Eventually waits before it fails a test.
const Patience = 20 * time.Second

// A Cluster is some nodes that share a secret. All its methods fail the test instead of returning errors.
type Cluster struct {
	t      testing.TB
	Secret string
	Nodes  []*Node
}

// A Node is a place for a node: its directory and addresses outlive the node that runs there.
type Node struct {
	*cluster.Node // nil while it is down
	Config        cluster.Config
	c             *Cluster
}

// New starts n nodes that form a cluster, and waits until all are ready.
func New(t testing.TB, n int) *Cluster {
	t.Helper()
	return NewWith(t, n, nil)
}

// NewWith is New with configurations that edit has changed.
func NewWith(t testing.TB, n int, edit func(*cluster.Config)) *Cluster {
	t.Helper()
	c := &Cluster{t: t, Secret: trust.NewSecret()}
	for range n {
		c.Add(func(cfg *cluster.Config) {
			cfg.BootstrapExpect = n
			if edit != nil {
				edit(cfg)
			}
		})
	}
	votes := min(n, cmp.Or(c.Nodes[0].Config.Voters, 5))
	for _, node := range c.Nodes {
		node.WaitReady()
	}
	c.Eventually("there are all voters", func() error {
		if got := len(c.Nodes[0].Status().Voters); got != votes {
			return fmt.Errorf("%d voters", got)
		}
		return nil
	})
	return c
}

// Add starts one more node, which joins the first ones. edit changes its configuration.
func (c *Cluster) Add(edit func(*cluster.Config)) *Node {
	c.t.Helper()
	level := slog.LevelError + 1
	if os.Getenv("POSTRAFT_TEST_LOG") != "" {
		level = slog.LevelDebug
	}
	name := fmt.Sprintf("n%d", len(c.Nodes)+1)
	node := &Node{c: c, Config: cluster.Config{
		Name: name, DataDir: filepath.Join(c.t.TempDir(), name), Secret: c.Secret, Version: "test", StableFor: 300 * time.Millisecond,
		Bind: FreePort(c.t), Gossip: FreePort(c.t),
		Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level})),
	}}
	for _, other := range c.Nodes {
		node.Config.Join = append(node.Config.Join, other.Config.Gossip)
	}
	if edit != nil {
		edit(&node.Config)
	}
	c.Nodes = append(c.Nodes, node)
	node.Start()
	c.t.Cleanup(node.Kill)
	return node
}

// CopyDir copies a directory of a stopped node.
func CopyDir(t testing.TB, from, to string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}

// Start starts the node again on the same directory and addresses.
func (n *Node) Start() {
	n.c.t.Helper()
	if err := n.TryStart(); err != nil {
		n.c.t.Fatal(err)
	}
}

// TryStart is Start for nodes that may refuse.
func (n *Node) TryStart() (err error) {
	n.Node, err = cluster.Open(context.Background(), n.Config)
	return err
}

// Kill ends the node without telling anybody. It may be down already.
func (n *Node) Kill() {
	if n.Node != nil {
		n.Node.Kill()
	}
}

// WaitReady waits until the node answers lookups.
func (n *Node) WaitReady() {
	n.c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	if err := n.Node.WaitReady(ctx); err != nil {
		n.c.t.Fatalf("%s: %v; status %+v", n.Config.Name, err, n.Status())
	}
}

// Put writes an entry through this node.
func (n *Node) Put(table, key, value string) {
	n.c.t.Helper()
	if err := n.TryPut(table, key, value, Patience); err != nil {
		n.c.t.Fatalf("%s: put: %v", n.Config.Name, err)
	}
}

// TryPut is Put for writes that may fail.
func (n *Node) TryPut(table, key, value string, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return n.Table(table).Update(ctx, []byte(key), []byte(value))
}

// Create makes a table through this node.
func (n *Node) Create(table string) {
	n.c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	if err := n.CreateTable(ctx, table, dict.TypeHash, dict.Settings{}); err != nil {
		n.c.t.Fatal(err)
	}
}

// Want looks a key up on this node; an empty value means that there must be none.
func (n *Node) Want(table, key, value string) {
	n.c.t.Helper()
	v, found, err := n.Table(table).Lookup([]byte(key))
	if err != nil || found != (value != "") || string(v) != value {
		n.c.t.Fatalf("%s: lookup %s %s: %q %v %v, want %q", n.Config.Name, table, key, v, found, err, value)
	}
}

// Leader waits for a leader among the running nodes and returns it.
func (c *Cluster) Leader() *Node {
	c.t.Helper()
	var leader *Node
	c.Eventually("there is a leader", func() error {
		for _, n := range c.Nodes {
			if n.running() && n.Status().State == "leader" {
				leader = n
				return nil
			}
		}
		return errors.New("none")
	})
	return leader
}

// Followers returns the running nodes but the leader.
func (c *Cluster) Followers() []*Node {
	leader := c.Leader()
	var followers []*Node
	for _, n := range c.Nodes {
		if n != leader && n.running() {
			followers = append(followers, n)
		}
	}
	return followers
}

func (n *Node) running() bool {
	if n.Node == nil {
		return false
	}
	select {
	case <-n.Done():
		return false
	default:
		return true
	}
}

// Agree waits until all running nodes have equal tables.
func (c *Cluster) Agree() {
	c.t.Helper()
	c.Eventually("all nodes agree", func() error {
		var first string
		for _, n := range c.Nodes {
			if !n.running() {
				continue
			}
			if got := fmt.Sprint(n.Status().Tables); first == "" {
				first = got
			} else if got != first {
				return fmt.Errorf("%s has %s, another node %s", n.Config.Name, got, first)
			}
		}
		return nil
	})
}

// Eventually waits until check returns nil.
func (c *Cluster) Eventually(what string, check func() error) {
	c.t.Helper()
	Eventually(c.t, what, check)
}

// Eventually waits until check returns nil, and fails the test with its last error after Patience.
func Eventually(t testing.TB, what string, check func() error) {
	t.Helper()
	deadline := time.Now().Add(Patience)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not so after %v: %s: %v", Patience, what, err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

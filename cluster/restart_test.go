package cluster_test

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"postraft/cluster"
	"postraft/cluster/clustertest"
	"postraft/dict"
)

// compacted starts a node of its own whose log begins behind a snapshot that ends with an entry of membership.
func compacted(t *testing.T) *clustertest.Node {
	t.Helper()
	c := clustertest.New(t, 1)
	n := c.Nodes[0]
	n.Create("t")
	for i := range 20 {
		n.Put("t", fmt.Sprint("old", i), "v")
	}
	second := c.Add(func(cfg *cluster.Config) { cfg.Nonvoter = true })
	second.WaitReady()
	second.Kill()
	n.Kill()
	r, err := cluster.OpenRecovery(n.Config.DataDir, n.Config.Name, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Run(); err != nil { // it makes a snapshot of everything and empties the log
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	n.Start()
	n.WaitReady()
	return n
}

// TestNode_WatermarkLost ensures that a node whose watermark did not reach the disk before the power went starts
// from its snapshot, which is committed to its end, and has every entry again once there is a leader.
func TestNode_WatermarkLost(t *testing.T) {
	n := compacted(t)
	n.Put("t", "new", "v")
	n.Kill()
	if err := os.Truncate(filepath.Join(n.Config.DataDir, "applied"), 0); err != nil {
		t.Fatal(err)
	}
	n.Start()
	for i := range 20 {
		n.Want("t", fmt.Sprint("old", i), "v")
	}
	if v, found, err := n.Table("t").Lookup([]byte("new")); !errors.Is(err, dict.ErrRetry) && (err != nil || !found || string(v) != "v") {
		t.Fatalf("an entry behind the snapshot: %q %v %v", v, found, err)
	}
	clustertest.Eventually(t, "all entries are back", func() error {
		v, found, err := n.Table("t").Lookup([]byte("new"))
		if err != nil || !found || string(v) != "v" {
			return fmt.Errorf("%q %v %v", v, found, err)
		}
		return nil
	})
	if err := n.TryPut("t", "after", "v", 5*time.Second); err != nil {
		t.Fatal(err)
	}
}

// TestNode_StaleFromTheStart ensures that a node with a bound on staleness, restarted without a leader, answers
// nothing: it does not know for how long it was down.
func TestNode_StaleFromTheStart(t *testing.T) {
	c := clustertest.NewWith(t, 2, func(cfg *cluster.Config) { cfg.MaxStaleness = time.Hour })
	c.Leader().Create("t")
	c.Nodes[0].Put("t", "k", "v")
	for _, n := range c.Nodes {
		n.Kill()
	}
	n := c.Nodes[0]
	n.Start()
	if _, _, err := n.Table("t").Lookup([]byte("k")); !errors.Is(err, dict.ErrRetry) {
		t.Fatalf("lookup: %v", err)
	}
	c.Nodes[1].Start()
	clustertest.Eventually(t, "lookups are answered", func() error {
		_, _, err := n.Table("t").Lookup([]byte("k"))
		return err
	})
}

package cluster_test

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"testing"

	"postraft/cluster"
	"postraft/cluster/clustertest"
)

// TestRecovery ensures that one survivor of a lost majority becomes a cluster of its own with every entry it
// has, and that the others join it with empty directories and not with their old ones.
func TestRecovery(t *testing.T) {
	c := clustertest.New(t, 3)
	c.Leader().Create("t")
	for i := range 50 {
		c.Nodes[i%3].Put("t", fmt.Sprint(i), "v")
	}
	c.Agree()
	for _, n := range c.Nodes {
		n.Kill()
	}
	survivor := c.Nodes[1]
	survivor.Config.Join, survivor.Config.BootstrapExpect = nil, 0
	if _, err := cluster.OpenRecovery(survivor.Config.DataDir, "n7", slog.New(slog.DiscardHandler)); !errors.Is(err, cluster.ErrRefused) {
		t.Errorf("with another name: %v", err)
	}
	if _, err := cluster.OpenRecovery(t.TempDir(), "n2", slog.New(slog.DiscardHandler)); !errors.Is(err, cluster.ErrNoState) {
		t.Errorf("empty directory: %v", err)
	}
	for range 2 { // the second time it is a cluster of its own already
		r, err := cluster.OpenRecovery(survivor.Config.DataDir, "n2", slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		tables, err := r.Run()
		if err != nil || len(tables) != 1 || tables[0].Entries != 50 {
			t.Fatalf("%+v %v", tables, err)
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 { // and it starts again after a clean stop
		survivor.Start()
		survivor.WaitReady()
		survivor.Put("t", "after", "v")
		for i := range 50 {
			survivor.Want("t", fmt.Sprint(i), "v")
		}
		survivor.Kill()
	}
	survivor.Start()
	old, fresh := c.Nodes[0], c.Nodes[2]
	old.Config.Join, old.Config.BootstrapExpect = []string{survivor.Config.Gossip}, 0
	old.Start()
	fresh.Config.Join, fresh.Config.BootstrapExpect, fresh.Config.DataDir = []string{survivor.Config.Gossip}, 0, t.TempDir()
	fresh.Start()
	fresh.WaitReady()
	fresh.Want("t", "after", "v")
	if got := survivor.Status().Voters; slices.Contains(got, "n1") {
		t.Errorf("voters %v: a node with the old data directory was taken in", got)
	}
}

package cluster_test

import (
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"
	"testing"

	"postraft/cluster"
	"postraft/cluster/clustertest"
	"postraft/fsm"
)

// origins returns node, way and new value of each change of a key, as a node remembers them.
func origins(t *testing.T, n *clustertest.Node, key string) (list []string) {
	t.Helper()
	events, _, err := n.KeyHistory("t", []byte(key))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events {
		list = append(list, strings.TrimSpace(fmt.Sprintf("%s %s %s", e.Node, e.Way, e.New)))
	}
	return list
}

func one(key, value string) iter.Seq2[[]byte, []byte] {
	return func(yield func(k, v []byte) bool) { yield([]byte(key), []byte(value)) }
}

// TestNode_Origin ensures that every node tells on which one, and by what means, a change was made, also after it has
// read its log again.
func TestNode_Origin(t *testing.T) {
	c := clustertest.New(t, 3)
	c.Nodes[0].Create("t")
	var writing sync.WaitGroup
	for i, way := range []fsm.Way{fsm.WayProxywrite, fsm.WayCommand} { // at once, so that some share a command
		for j := range 20 {
			writing.Go(func() {
				if err := c.Nodes[1].Table("t").By(way).Update(t.Context(), fmt.Appendf(nil, "%d/%d", i, j), []byte("1")); err != nil {
					t.Error(err)
				}
			})
		}
	}
	writing.Wait()
	if _, err := c.Nodes[2].Import(t.Context(), "t", cluster.ImportOptions{Merge: true}, one("0/0", "2")); err != nil {
		t.Fatal(err)
	}
	version := c.Nodes[2].Status().Tables[0].Version
	if found, err := c.Nodes[0].Table("t").By(fsm.WayProxywrite).DeleteIf(t.Context(), []byte("0/0"), []byte("2")); !found || err != nil {
		t.Fatal(found, err)
	}
	if _, err := c.Nodes[1].RestoreVersion(t.Context(), "t", version); err != nil {
		t.Fatal(err)
	}
	if err := c.Nodes[0].DropTable(t.Context(), "t"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Nodes[0].Import(t.Context(), "t", cluster.ImportOptions{Way: fsm.WayWatchFile}, one("0/0", "3")); err != nil {
		t.Fatal(err)
	}
	c.Agree()
	check := func(n *clustertest.Node) {
		t.Helper()
		want := []string{"n2 proxywrite 1", "n3 import 2", "n1 proxywrite", "n2 restore 2", "n1 command", "n1 watch-file 3"}
		if got := origins(t, n, "0/0"); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", n.Config.Name, got, want)
		}
		for j := range 20 {
			if got := origins(t, n, fmt.Sprintf("1/%d", j)); got[0] != "n2 command 1" {
				t.Errorf("%s: %q", n.Config.Name, got)
			}
		}
	}
	for _, n := range c.Nodes {
		check(n)
	}
	c.Nodes[2].Kill()
	c.Nodes[2].Start()
	check(c.Nodes[2])
}

// TestNode_OriginOlderNode ensures that writes go on while a server of the cluster cannot read where changes come from,
// be it the leader, another one, or one that is away, and that they tell it as soon as all can.
func TestNode_OriginOlderNode(t *testing.T) {
	c := clustertest.NewWith(t, 3, func(cfg *cluster.Config) {
		if cfg.Name == "n2" {
			cfg.CommandLevel, cfg.Version = 2, "0.1"
		}
	})
	older := c.Nodes[1]
	older.Create("t")
	for _, leader := range []string{"n2", "n1"} {
		if err := c.Nodes[2].TransferLeader(t.Context(), leader); err != nil {
			t.Fatal(err)
		}
		for _, n := range c.Nodes {
			n.Put("t", "k", leader)
			if _, err := n.Import(t.Context(), "t", cluster.ImportOptions{}, one("k", leader+" "+n.Config.Name)); err != nil {
				t.Errorf("%s, while %s leads: %v", n.Config.Name, leader, err)
			}
		}
	}
	c.Agree()
	for _, n := range c.Nodes {
		if got := origins(t, n, "k"); len(got) != 12 || strings.HasPrefix(got[11], "n3") || slices.ContainsFunc(got, func(s string) bool { return strings.Contains(s, "import") }) {
			t.Errorf("%s: %q, of which the older node could read nothing", n.Config.Name, got)
		}
	}
	older.Kill()
	older.Config.CommandLevel = 0
	older.Start()
	older.WaitReady()
	told := func(n *clustertest.Node) {
		t.Helper()
		c.Eventually("changes tell where they come from", func() error {
			n.Put("t", "k", "v")
			if got := origins(t, n, "k"); got[len(got)-1] != n.Config.Name+"  v" {
				return fmt.Errorf("%s tells %q", n.Config.Name, got[len(got)-1])
			}
			return nil
		})
	}
	for _, n := range c.Nodes {
		told(n)
	}
	// A leader that never heard of a server itself knows it from the one before.
	c.Eventually("the leader has told the others", func() error {
		for _, n := range c.Nodes {
			for _, s := range c.Nodes {
				if level := n.KnownLevels()[s.Status().ID]; level != fsm.Level {
					return fmt.Errorf("%s knows level %d of %s", n.Config.Name, level, s.Config.Name)
				}
			}
		}
		return nil
	})
	leader := c.Leader()
	away := c.Followers()[0]
	away.Kill()
	next := c.Followers()[0]
	if err := next.TransferLeader(t.Context(), next.Config.Name); err != nil {
		t.Fatal(err)
	}
	for _, n := range []*clustertest.Node{leader, next} {
		told(n)
	}
}

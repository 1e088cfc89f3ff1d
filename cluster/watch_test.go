package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"postraft/cluster"
	"postraft/cluster/clustertest"
	"postraft/dict"
)

var errEnough = errors.New("enough")

func noChange(uint64) error { return nil }

func show(e cluster.Event) string {
	return fmt.Sprintf("%s %s>%s %v", e.Key, e.Old, e.New, e.Whole)
}

// follow returns the first count changes that a watch of t sees.
func follow(t *testing.T, n *clustertest.Node, from *uint64, count int) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), clustertest.Patience)
	defer cancel()
	var seen []string
	var last uint64
	err := n.Watch(ctx, "t", from, func(e cluster.Event) error {
		if e.Index < last {
			t.Errorf("index %d behind %d", e.Index, last)
		}
		last = e.Index
		if seen = append(seen, show(e)); len(seen) == count {
			return errEnough
		}
		return nil
	}, noChange)
	if !errors.Is(err, errEnough) {
		t.Fatalf("%v after %q", err, seen)
	}
	return seen
}

// TestNode_Watch ensures that a watch on any node sees every change once and in order, from an index on, through a
// change of the leader, and what an import and a dropped table change.
func TestNode_Watch(t *testing.T) {
	c := clustertest.New(t, 3)
	n := c.Followers()[0]
	n.Create("t")
	from := n.Status().AppliedIndex
	n.Put("t", "a", "1")
	n.Put("t", "a", "2")
	if err := c.Leader().TransferLeader(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	n.Put("t", "b", "")
	if _, err := n.Table("t").Delete(t.Context(), []byte("a")); err != nil {
		t.Fatal(err)
	}
	entries := map[string]string{}
	for i := range 5000 { // more than fits into one entry of the log
		entries[fmt.Sprintf("k%05d", i)] = "v"
	}
	sorted := slices.Sorted(maps.Keys(entries))
	if _, err := n.Import(t.Context(), "t", cluster.ImportOptions{}, func(yield func(k, v []byte) bool) {
		for _, k := range sorted {
			if !yield([]byte(k), []byte(entries[k])) {
				return
			}
		}
	}); err != nil {
		t.Fatal(err)
	}
	if err := n.DropTable(t.Context(), "t"); err != nil {
		t.Fatal(err)
	}
	n.Create("t")
	n.Put("t", "z", "1")
	c.Agree()
	for _, n := range c.Nodes {
		seen := follow(t, n, &from, 4+1+5000+5000+1)
		if want := []string{"a >1 false", "a 1>2 false", "b > false", "a 2> false", "b > true", "k00000 >v true"}; !slices.Equal(seen[:6], want) {
			t.Errorf("%s begins with %q, want %q", n.Config.Name, seen[:6], want)
		}
		if last := seen[len(seen)-1]; last != "z >1 false" {
			t.Errorf("%s ends with %q", n.Config.Name, last)
		}
	}
	if err := n.Watch(t.Context(), "none", nil, nil, noChange); !errors.Is(err, dict.ErrNoTable) {
		t.Errorf("a table that is not there: %v", err)
	}
}

// TestNode_RestoreVersion ensures that a table goes back to what it was at an index, by all kinds of changes, and that
// a key tells its history.
func TestNode_RestoreVersion(t *testing.T) {
	c := clustertest.New(t, 3)
	n := c.Followers()[0]
	n.Create("t")
	n.Put("t", "stays", "1")
	n.Put("t", "changes", "1")
	n.Put("t", "goes", "1")
	c.Agree()
	table := n.Status().Tables
	version, digest := table[0].Version, table[0].Digest
	n.Put("t", "changes", "2")
	n.Put("t", "new", "2")
	if _, err := n.Table("t").Delete(t.Context(), []byte("goes")); err != nil {
		t.Fatal(err)
	}
	if err := n.DropTable(t.Context(), "t"); err != nil {
		t.Fatal(err)
	}
	if _, err := n.RestoreVersion(t.Context(), "t", version); err != nil {
		t.Fatal(err)
	}
	c.Agree()
	if got := n.Status().Tables[0]; got.Digest != digest || got.Entries != 3 {
		t.Errorf("%+v, want digest %v", got, digest)
	}
	list, _, err := n.KeyHistory("t", []byte("goes"))
	if err != nil {
		t.Fatal(err)
	}
	var seen []string
	for _, e := range list {
		seen = append(seen, show(e))
	}
	if want := []string{"goes >1 false", "goes 1> false", "goes >1 true"}; !slices.Equal(seen, want) {
		t.Errorf("history %q, want %q", seen, want)
	}
	if _, err := n.RestoreVersion(t.Context(), "t", 1); !errors.Is(err, cluster.ErrRefused) {
		t.Errorf("a version before the table: %v", err)
	}
	if _, err := n.RestoreVersion(t.Context(), "t", 1<<40); !errors.Is(err, cluster.ErrRefused) {
		t.Errorf("a version to come: %v", err)
	}
}

// TestNode_HistoryForgets ensures that a history is bounded and says where it begins.
func TestNode_HistoryForgets(t *testing.T) {
	c := clustertest.New(t, 1)
	n := c.Nodes[0]
	n.Create("t")
	version := n.Status().AppliedIndex
	value := make([]byte, 200<<10)
	for i := range value {
		value[i] = 'v'
	}
	for i := range 100 { // 20 MB, and as much again of old values
		n.Put("t", "k", fmt.Sprint(i, string(value)))
	}
	if _, err := n.RestoreVersion(t.Context(), "t", version); !errors.Is(err, cluster.ErrForgotten) {
		t.Errorf("restored: %v", err)
	}
	if err := n.Watch(t.Context(), "t", &version, nil, noChange); !errors.Is(err, cluster.ErrForgotten) {
		t.Errorf("watched: %v", err)
	}
	list, begin, err := n.KeyHistory("t", []byte("k"))
	if err != nil || begin <= version || len(list) < 20 || len(list) > 60 {
		t.Errorf("%d changes behind %d, %v", len(list), begin, err)
	}
}

// TestTable_DeleteIf ensures that a delete which rests on what its sender has seen spares an entry that was written
// since, on whatever node, and that a cluster with a node which does not know such deletes makes plain ones.
func TestTable_DeleteIf(t *testing.T) {
	c := clustertest.New(t, 3)
	a, b := c.Leader(), c.Followers()[0]
	a.Create("t")
	for i, n := range []*clustertest.Node{a, b} {
		n.Put("t", "k", "old")
		c.Agree()
		a.Put("t", "k", "fresh")
		c.Agree()
		if found, err := n.Table("t").DeleteIf(t.Context(), []byte("k"), []byte("old")); !found || err != nil {
			t.Errorf("%d: a refreshed entry: %v %v", i, found, err)
		}
		if v, ok, err := n.Table("t").Lookup([]byte("k")); string(v) != "fresh" || !ok || err != nil {
			t.Errorf("%d: it is %q %v %v", i, v, ok, err)
		}
		if found, err := n.Table("t").DeleteIf(t.Context(), []byte("k"), []byte("fresh")); !found || err != nil {
			t.Errorf("%d: an old entry: %v %v", i, found, err)
		}
		if found, err := n.Table("t").DeleteIf(t.Context(), []byte("k"), []byte("fresh")); found || err != nil {
			t.Errorf("%d: no entry: %v %v", i, found, err)
		}
	}
	// The sender has not applied yet what another node has written.
	b.Put("t", "k", "old")
	var writing sync.WaitGroup
	for range 50 {
		a.Put("t", "k", "old")
		writing.Go(func() { a.TryPut("t", "k", "fresh", clustertest.Patience) })
		if _, err := b.Table("t").DeleteIf(t.Context(), []byte("k"), []byte("old")); err != nil {
			t.Error(err)
		}
		writing.Wait()
		if v, ok, err := a.Table("t").Lookup([]byte("k")); string(v) != "fresh" || !ok || err != nil {
			t.Fatalf("a fresh entry was deleted: %q %v %v", v, ok, err)
		}
	}
}

// TestNode_OlderNode ensures that a leader takes no command that a node of the cluster cannot carry out: the node
// would end.
func TestNode_OlderNode(t *testing.T) {
	c := clustertest.NewWith(t, 3, func(cfg *cluster.Config) {
		if cfg.Name == "n2" {
			cfg.CommandLevel, cfg.Version = 1, "0.1"
		}
	})
	older := c.Nodes[1]
	older.Create("t")
	for _, n := range c.Nodes {
		if err := n.CreateTable(t.Context(), "networks", "cidr", dict.Settings{}); !errors.Is(err, cluster.ErrRefused) || !strings.Contains(err.Error(), "n2 runs version 0.1") {
			t.Errorf("%s: a table that n2 cannot keep: %v", n.Config.Name, err)
		}
	}
	older.Put("t", "k", "v")
	c.Agree()
	for _, n := range c.Nodes { // a plain delete in its place
		n.Put("t", "k", "v")
		if found, err := n.Table("t").DeleteIf(t.Context(), []byte("k"), []byte("v")); err != nil || !found {
			t.Errorf("%s: %v %v", n.Config.Name, found, err)
		}
	}
	older.Kill()
	older.Config.CommandLevel = 0
	older.Start()
	older.WaitReady()
	c.Eventually("all can, and the leader knows", func() error { return c.Leader().CreateTable(t.Context(), "networks", "cidr", dict.Settings{}) })
	c.Agree()
}

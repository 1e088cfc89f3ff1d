package cluster_test

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"postraft/cluster"
	"postraft/cluster/clustertest"
	"postraft/cluster/store"
	"postraft/dict"
	"postraft/fsm"
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

// snapshotOf makes a snapshot of everything in the log of a stopped node, in the data directory of another stopped
// node: what that one has when it is killed while the leader's snapshot takes the place of its log.
// With ahead, raft believes that the snapshot ends so many entries earlier than it does.
func snapshotOf(t *testing.T, donor, to *clustertest.Node, ahead uint64) {
	t.Helper()
	open := func(n *clustertest.Node) *store.Stores {
		s, err := store.Open(n.Config.DataDir, store.Options{Kind: store.WAL}, hclog.NewNullLogger(), slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	from := open(donor)
	defer from.Close()
	machine := fsm.New(fsm.Options{})
	last, err := from.Log.LastIndex()
	if err != nil {
		t.Fatal(err)
	}
	var log raft.Log
	var config raft.Configuration
	var configIndex uint64
	for i := uint64(1); i <= last; i++ {
		log = raft.Log{}
		if err := from.Log.GetLog(i, &log); err != nil {
			t.Fatal(err)
		}
		if log.Type == raft.LogConfiguration {
			config, configIndex = raft.DecodeConfiguration(log.Data), i
		}
		machine.Apply(&log)
	}
	stores := open(to)
	defer stores.Close()
	_, transport := raft.NewInmemTransport("")
	if err := from.Log.GetLog(last-ahead, &log); err != nil {
		t.Fatal(err)
	}
	sink, err := stores.Snapshots.Create(1, log.Index, log.Term, config, configIndex, transport)
	if err != nil {
		t.Fatal(err)
	}
	snapshot, err := machine.Snapshot()
	if err == nil {
		err = snapshot.Persist(sink)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestNode_KilledWithSnapshot ensures that a node goes on which was killed when it had taken over the leader's
// snapshot and not yet cut its log, which ends before the snapshot, or has an end that was never committed.
func TestNode_KilledWithSnapshot(t *testing.T) {
	for name, test := range map[string]struct {
		uncommitted int
		ahead       uint64
	}{
		"short log": {}, "conflicting log": {uncommitted: 60},
		"snapshot ahead of raft": {ahead: 3}, // of a node that has applied its own log before raft did
	} {
		t.Run(name, func(t *testing.T) {
			c := clustertest.New(t, 3)
			c.Leader().Create("t")
			c.Agree()
			behind := c.Leader()
			others := c.Followers()
			for _, n := range others {
				n.Kill()
			}
			for i := range test.uncommitted { // each waits for a quorum, and gives up
				behind.TryPut("t", fmt.Sprint("lost", i), "v", time.Millisecond)
			}
			behind.Kill()
			for _, n := range others {
				n.Start()
			}
			for i := range 30 {
				c.Leader().Put("t", fmt.Sprint(i), "v")
			}
			c.Agree()
			for _, n := range others { // a new leader begins behind the snapshot
				n.Kill()
			}
			snapshotOf(t, others[0], behind, test.ahead)
			for _, n := range append(others, behind) {
				n.Start()
			}
			behind.Put("t", "after", "v")
			for i := range 30 {
				behind.Want("t", fmt.Sprint(i), "v")
			}
			behind.Want("t", "lost0", "")
			c.Agree()
		})
	}
}

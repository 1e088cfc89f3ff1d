package cluster_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"postraft/cluster"
	"postraft/cluster/clustertest"
	"postraft/dict"
	"postraft/fsm/packed"
)

func createWith(t *testing.T, n *clustertest.Node, name string, s dict.Settings) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), clustertest.Patience)
	defer cancel()
	if err := n.CreateTable(ctx, name, dict.TypeHash, s); err != nil {
		t.Fatal(err)
	}
}

// gone waits until no node that runs has a key.
func gone(c *clustertest.Cluster, nodes []*clustertest.Node, table string, keys ...string) {
	c.Eventually("old entries are gone", func() error {
		for _, n := range nodes {
			for _, key := range keys {
				if _, found, err := n.Table(table).Lookup([]byte(key)); found || err != nil {
					return fmt.Errorf("%s on %s: %v %v", key, n.Config.Name, found, err)
				}
			}
		}
		return nil
	})
}

// TestNode_Expiry ensures that entries which nobody writes go on all nodes, that one that is written again and again
// never does, whatever becomes of the leader, and that a node which was away comes to the same.
func TestNode_Expiry(t *testing.T) {
	c := clustertest.New(t, 3)
	const life = time.Second
	createWith(t, c.Nodes[0], "cache", dict.Settings{ExpireAfter: life})
	createWith(t, c.Nodes[0], "slower", dict.Settings{ExpireAfter: 10 * life})
	c.Agree()
	leader := c.Leader()
	survivors := c.Followers()
	began := time.Now()
	leader.Put("slower", "old", "v")
	leader.Put("cache", "old", "v")
	leader.Put("cache", "old2", "v")
	survivors[0].Put("cache", "fresh", "v0")

	var refreshing sync.WaitGroup
	stop := make(chan struct{})
	refreshing.Go(func() {
		for i := 1; ; i++ {
			select {
			case <-stop:
				return
			case <-time.After(life / 8):
			}
			survivors[0].TryPut("cache", "fresh", fmt.Sprint("v", i), life/2)
			if _, found, err := survivors[0].Table("cache").Lookup([]byte("fresh")); !found || err != nil {
				t.Errorf("the entry that is refreshed: %v %v", found, err)
				return
			}
		}
	})
	leader.Kill()
	next := c.Leader()
	gone(c, survivors, "cache", "old", "old2")
	// The refreshed one lives on through a hand-over, and goes when it is left alone.
	if err := next.TransferLeader(t.Context(), ""); err != nil {
		t.Error(err)
	}
	survivors[1].Put("cache", "second", "v")
	close(stop)
	refreshing.Wait()
	gone(c, survivors, "cache", "second", "fresh")
	_, found, err := survivors[1].Table("slower").Lookup([]byte("old")) // three leaders have counted
	if took := time.Since(began); err != nil || !found && took < 10*life {
		t.Errorf("an entry that may stay for %v: %v %v after %v", 10*life, found, err, took)
	}
	if err := survivors[1].DropTable(t.Context(), "slower"); err != nil {
		t.Error(err)
	}
	leader.Start()
	leader.WaitReady()
	c.Agree()
	if info := leader.Status().Tables[0]; info.Entries != 0 || info.Expired != 4 || info.Settings.ExpireAfter != life {
		t.Errorf("on the node that was away: %+v", info)
	}
	idle := c.Leader().Status().LastLogIndex // nothing is left to expire: the log rests
	time.Sleep(2 * 500 * time.Millisecond)   // two looks of the leader
	if now := c.Leader().Status().LastLogIndex; now != idle {
		t.Errorf("an empty cache has made %d log entries", now-idle)
	}
}

// TestNode_MaxEntries ensures that a cache that is written through all nodes never shows more entries than it may, and
// that an import which would not fit is refused.
func TestNode_MaxEntries(t *testing.T) {
	c := clustertest.New(t, 3)
	createWith(t, c.Nodes[0], "cache", dict.Settings{MaxEntries: 10})
	c.Agree()
	var writing sync.WaitGroup
	for i, n := range c.Nodes {
		writing.Go(func() {
			for k := range 20 {
				n.Put("cache", fmt.Sprintf("k%d-%d", i, k), "v")
				if got := n.Status().Tables[0].Entries; got > 10 {
					t.Errorf("%d entries", got)
				}
			}
		})
	}
	writing.Wait()
	c.Agree()
	if info := c.Nodes[2].Status().Tables[0]; info.Entries != 10 || info.Evicted != 50 {
		t.Errorf("%+v", info)
	}
	many := func(yield func(k, v []byte) bool) {
		for i := range 11 {
			if !yield(fmt.Appendf(nil, "%03d", i), []byte("v")) {
				return
			}
		}
	}
	_, err := c.Nodes[1].Import(t.Context(), "cache", cluster.ImportOptions{}, many)
	if !errors.Is(err, cluster.ErrRefused) || !strings.Contains(err.Error(), "11 entries, and its max-entries is 10") {
		t.Errorf("import of too much: %v", err)
	}
}

// TestNode_SettingsKept ensures that snapshots carry the settings of tables, and that loads and restores of versions
// keep them.
func TestNode_SettingsKept(t *testing.T) {
	c := clustertest.New(t, 1)
	n, ctx := c.Nodes[0], t.Context()
	limits := dict.Settings{MaxEntries: 1000, ExpireAfter: dict.Day, WriteDeadline: time.Second, MaxStaleness: time.Hour}
	createWith(t, n, "cache", limits)
	n.Put("cache", "k", "v")
	at := n.TablesIndex()
	want := func(what string, s dict.Settings) {
		t.Helper()
		state, err := n.State()
		if err != nil {
			t.Fatal(err)
		}
		if table, ok := state.Table("cache"); !ok || table.Settings != s {
			t.Errorf("%s: there %v, %+v; want %+v", what, ok, table, s)
		}
	}
	var file, before bytes.Buffer
	if err := n.SaveSnapshot(ctx, &file); err != nil {
		t.Fatal(err)
	}
	one := func(yield func(k, v []byte) bool) { yield([]byte("a"), []byte("b")) }
	if _, err := n.Import(ctx, "cache", cluster.ImportOptions{}, one); err != nil {
		t.Fatal(err)
	}
	want("import", limits)
	if err := n.SetTable(ctx, "cache", dict.Settings{}.Change()); err != nil {
		t.Fatal(err)
	}
	want("cleared", dict.Settings{})
	if err := n.SaveSnapshot(ctx, &before); err != nil {
		t.Fatal(err)
	}
	if _, err := n.RestoreSnapshot(ctx, bytes.NewReader(file.Bytes()), []string{"cache"}); err != nil {
		t.Fatal(err)
	}
	want("restored", limits)
	n.Want("cache", "k", "v")
	if _, err := n.RestoreSnapshot(ctx, &before, nil); err != nil {
		t.Fatal(err)
	}
	want("restored from a file without settings", limits)
	if _, err := n.RestoreVersion(ctx, "cache", at); err != nil {
		t.Fatal(err)
	}
	want("former version", limits)
	if err := n.DropTable(ctx, "cache"); err != nil {
		t.Fatal(err)
	}
	if _, err := n.RestoreVersion(ctx, "cache", at); err != nil {
		t.Fatal(err)
	}
	want("former version of a table that was dropped", limits)
	n.Want("cache", "k", "v")
	if err := n.SetTable(ctx, "none", limits.Change()); !errors.Is(err, dict.ErrNoTable) {
		t.Errorf("settings of a table that is not there: %v", err)
	}
	bad := -1 * time.Second
	if err := n.SetTable(ctx, "cache", dict.SettingsChange{ExpireAfter: &bad}); !errors.Is(err, dict.ErrBadSource) {
		t.Errorf("bad settings: %v", err)
	}
}

// TestNode_OlderNodeSettings ensures that no table gets settings while a server of the cluster cannot keep them, that
// it is told which one, and that the other writes go on.
func TestNode_OlderNodeSettings(t *testing.T) {
	c := clustertest.NewWith(t, 3, func(cfg *cluster.Config) {
		if cfg.Name == "n3" {
			cfg.CommandLevel, cfg.Version = 2, "0.2"
		}
	})
	older := c.Nodes[2]
	older.Create("t")
	week := 7 * dict.Day
	for _, n := range c.Nodes {
		err := n.SetTable(t.Context(), "t", dict.SettingsChange{ExpireAfter: &week})
		if !errors.Is(err, cluster.ErrRefused) || !strings.Contains(err.Error(), "n3 runs version 0.2, which cannot carry that out") {
			t.Errorf("%s: %v", n.Config.Name, err)
		}
		err = n.CreateTable(t.Context(), "u", dict.TypeHash, dict.Settings{MaxEntries: 5})
		if !errors.Is(err, cluster.ErrRefused) {
			t.Errorf("%s: %v", n.Config.Name, err)
		}
		n.Put("t", n.Config.Name, "v")
	}
	c.Agree()
	older.Kill()
	older.Config.CommandLevel = 0
	older.Start()
	older.WaitReady()
	c.Eventually("all can, and the leader knows", func() error {
		return c.Leader().SetTable(t.Context(), "t", dict.SettingsChange{ExpireAfter: &week})
	})
	c.Agree()
}

// TestTable_MaxStaleness ensures that lookups in a table with a limit end with it on a node without a leader, also
// after a restart, while other tables are answered, and that they come back with a leader.
func TestTable_MaxStaleness(t *testing.T) {
	c := clustertest.New(t, 3)
	createWith(t, c.Nodes[0], "strict", dict.Settings{MaxStaleness: 500 * time.Millisecond})
	c.Nodes[0].Create("lax")
	for _, table := range []string{"strict", "lax"} {
		c.Nodes[0].Put(table, "k", "v")
	}
	c.Agree()
	alone := c.Nodes[2]
	for _, n := range c.Nodes[:2] {
		n.Kill()
	}
	refused := func() error {
		if _, _, err := alone.Table("strict").Lookup([]byte("k")); !errors.Is(err, dict.ErrRetry) || errors.Is(err, dict.ErrNoTable) {
			return fmt.Errorf("lookup: %v", err)
		}
		if _, _, _, err := alone.Table("strict").Next(nil); !errors.Is(err, dict.ErrRetry) {
			return fmt.Errorf("sequence: %v", err)
		}
		if s := alone.Status(); !slices.ContainsFunc(s.Warnings, func(w string) bool { return strings.Contains(w, "max-staleness of tables: strict:") }) {
			return fmt.Errorf("warnings %q", s.Warnings)
		}
		return nil
	}
	c.Eventually("the strict table is stale", refused)
	alone.Want("lax", "k", "v")
	alone.Kill()
	alone.Start()
	if err := refused(); err != nil {
		t.Errorf("after a restart without a leader: %v", err)
	}
	alone.Want("lax", "k", "v")
	c.Nodes[0].Start()
	c.Eventually("it is answered again", func() error {
		v, _, err := alone.Table("strict").Lookup([]byte("k"))
		if string(v) != "v" {
			return fmt.Errorf("%q %v", v, err)
		}
		return nil
	})
	key, table := []byte("k"), alone.Table("strict")
	if n := testing.AllocsPerRun(1000, func() { table.Lookup(key) }); n != 0 {
		t.Errorf("a lookup allocates %v times", n)
	}
}

// TestTable_ShortDeadlineLongWay ensures that writes with a deadline that is long enough for a request to a leader far away,
// and too short to make a connection first, come through in the end, also when earlier ones have used up the connections.
func TestTable_ShortDeadlineLongWay(t *testing.T) {
	var tap *clustertest.Tap
	c := clustertest.NewWith(t, 3, func(cfg *cluster.Config) {
		if cfg.Name == "n1" {
			tap = clustertest.NewTap(t, cfg)
		}
	})
	lead, far := c.Nodes[0], c.Nodes[1]
	far.Create("t")
	c.Eventually("n1 leads", func() error { return far.TransferLeader(t.Context(), "n1") })
	far.Put("t", "k", "0")
	tap.Delay(50 * time.Millisecond) // 100 ms for a request, 200 ms and more with a new connection
	for range 6 {
		if err := far.TryPut("t", "k", "1", 60*time.Millisecond); !errors.Is(err, dict.ErrRetry) {
			t.Fatalf("a write that cannot come through: %v", err)
		}
	}
	c.Eventually("a write in 170 ms", func() error { return far.TryPut("t", "k", "2", 170*time.Millisecond) })
	tap.Delay(0)
	lead.Want("t", "k", "2")
	c.Agree()
}

// TestNode_ExpiryHeldUp ensures that the time for which the log does not take a command that tells time makes nothing older
// that was written meanwhile.
func TestNode_ExpiryHeldUp(t *testing.T) {
	n := clustertest.New(t, 1).Nodes[0]
	createWith(t, n, "cache", dict.Settings{ExpireAfter: time.Hour})
	n.Put("cache", "k", "v")
	release := n.HoldProposals()
	var released time.Time
	time.AfterFunc(300*time.Millisecond, func() {
		released = time.Now()
		release()
	})
	if since := n.TellTime(t.Context(), "cache", 2*time.Minute); since.Before(released) {
		t.Errorf("time counts from %v before the command was taken", released.Sub(since))
	}
}

// TestNode_ImportIntoFull ensures that a table which holds as many entries as it may is equal to what is imported.
func TestNode_ImportIntoFull(t *testing.T) {
	n := clustertest.New(t, 1).Nodes[0]
	createWith(t, n, "t", dict.Settings{MaxEntries: 10})
	for i := range 10 {
		n.Put("t", fmt.Sprintf("user%06d@example.com", 10-i), "mailbox") // those that stay are the oldest
	}
	imported(t, n, cluster.ImportOptions{}, numbered(10, same)) // number 0 comes, number 10 goes
	if info := n.Status().Tables[0]; info.Entries != 10 || info.Evicted != 0 || info.Digest != packed.DigestOf(numbered(10, same)) {
		t.Errorf("%+v", info)
	}
}

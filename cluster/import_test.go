package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"testing"
	"time"

	"postraft/cluster"
	"postraft/cluster/clustertest"
	"postraft/dict"
	"postraft/fsm/packed"
)

// numbered yields entries number 0 up to count whose values value makes; where that is empty there is no entry.
func numbered(count int, value func(i int) string) iter.Seq2[[]byte, []byte] {
	return func(yield func(k, v []byte) bool) {
		for i := range count {
			if v := value(i); v != "" && !yield(fmt.Appendf(nil, "user%06d@example.com", i), []byte(v)) {
				return
			}
		}
	}
}

// generation yields entries number 0 up to count with one value.
func generation(count int, value string) iter.Seq2[[]byte, []byte] {
	return numbered(count, func(int) string { return value })
}

// TestNode_Import ensures that an import is seen as a whole on every node, that small and large ones
// count rightly, and that an equal one writes nothing.
func TestNode_Import(t *testing.T) {
	c := clustertest.New(t, 3)
	ctx := context.Background()
	n := c.Followers()[0]
	do := func(opts cluster.ImportOptions, entries iter.Seq2[[]byte, []byte], want string) cluster.ImportResult {
		t.Helper()
		r, err := n.Import(ctx, "virtual", opts, entries)
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(r.Added, r.Changed, r.Removed, r.Unchanged); got != want {
			t.Fatalf("import: added, changed, removed, unchanged %s, want %s", got, want)
		}
		return r
	}
	const many = 20000
	do(cluster.ImportOptions{DryRun: true}, generation(many, "one"), "20000 0 0 0")
	if len(n.Status().Tables) != 0 {
		t.Fatal("a dry run changed something")
	}
	do(cluster.ImportOptions{}, generation(many, "one"), "20000 0 0 0")
	first := do(cluster.ImportOptions{}, generation(many, "one"), "0 0 0 20000")
	if again := do(cluster.ImportOptions{}, generation(many, "one"), "0 0 0 20000"); again.Version != first.Version {
		t.Fatal("an equal import changed the table")
	}
	do(cluster.ImportOptions{}, generation(many-10, "one"), "0 0 10 19990")
	do(cluster.ImportOptions{Merge: true}, generation(many, "one"), "10 0 0 19990")
	do(cluster.ImportOptions{Merge: true}, generation(5, "two"), "0 5 0 0")
	do(cluster.ImportOptions{}, generation(many, "one"), "0 5 0 19995")
	c.Agree()

	stop := make(chan struct{})
	var tasks sync.WaitGroup
	for _, node := range c.Nodes {
		tasks.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				s, err := node.State()
				if err != nil {
					t.Error(err)
					return
				}
				table, _ := s.Table("virtual")
				seen := map[string]int{}
				for _, v := range table.All() {
					seen[string(v)]++
				}
				if len(seen) != 1 {
					t.Errorf("%s saw a mixture: %v", node.Config.Name, seen)
					return
				}
			}
		})
	}
	for i := range 6 {
		do(cluster.ImportOptions{}, generation(many, fmt.Sprint("gen", i)), "0 20000 0 0")
	}
	close(stop)
	tasks.Wait()
	c.Agree()
}

func same(int) string { return "mailbox" }

// everyTenth changes, removes and leaves alone.
func everyTenth(i int) string {
	switch i % 10 {
	case 0:
		return "another"
	case 1:
		return ""
	}
	return "mailbox"
}

func imported(t *testing.T, n *clustertest.Node, opts cluster.ImportOptions, entries iter.Seq2[[]byte, []byte]) cluster.ImportResult {
	t.Helper()
	r, err := n.Import(t.Context(), "t", opts, entries)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestNode_ImportMinimal ensures that of a large import only what has changed goes into the log, that nothing does where
// nothing has, and that the whole goes where a server of the cluster cannot take the changes alone.
func TestNode_ImportMinimal(t *testing.T) {
	const count = 150_000
	for _, level := range []int{0, 2} {
		c := clustertest.NewWith(t, 3, func(cfg *cluster.Config) {
			if cfg.Name == "n3" {
				cfg.CommandLevel = level
			}
		})
		n := c.Nodes[0]
		before := imported(t, n, cluster.ImportOptions{}, numbered(count, same)).Version
		if level == 0 {
			c.Eventually("the leader knows what all can", func() error {
				if events, _, err := n.KeyHistory("t", []byte("user000000@example.com")); err != nil || events[0].Node == "" {
					imported(t, n, cluster.ImportOptions{}, numbered(0, same))
					before = imported(t, n, cluster.ImportOptions{}, numbered(count, same)).Version
					return fmt.Errorf("%v %v", events[0], err)
				}
				return nil
			})
		}
		r := imported(t, n, cluster.ImportOptions{}, numbered(count, everyTenth))
		if want := (cluster.ImportResult{Changed: count / 10, Removed: count / 10, Unchanged: count / 10 * 8, Version: r.Version, Was: before}); r != want {
			t.Errorf("result %+v, want %+v", r, want)
		}
		if entries := r.Version - before; (entries <= 8) != (level == 0) {
			t.Errorf("level %d: it took %d entries of the log", level, entries)
		}
		digest := packed.DigestOf(numbered(count, everyTenth))
		c.Agree()
		for _, n := range c.Nodes {
			if got := n.Status().Tables[0].Digest; got != digest {
				t.Errorf("%s: digest %v, want %v", n.Config.Name, got, digest)
			}
		}
		again := imported(t, c.Nodes[1], cluster.ImportOptions{Digest: &digest}, func(func(k, v []byte) bool) {
			t.Error("entries were read that the table has")
		})
		if want := (cluster.ImportResult{Unchanged: count / 10 * 9, Version: r.Version, Was: r.Version}); again != want {
			t.Errorf("again: %+v, want %+v", again, want)
		}
		other := packed.DigestOf(numbered(10, same))
		if r := imported(t, n, cluster.ImportOptions{Digest: &other, Merge: true}, numbered(10, same)); r.Added != 1 || r.Changed != 1 {
			t.Errorf("merged: %+v", r)
		}
	}
}

// TestNode_ImportContended ensures that an import of many changes makes the table what it is to be while others write to
// it, and tells which version it took the place of.
func TestNode_ImportContended(t *testing.T) {
	const count = 20_000
	c := clustertest.New(t, 3)
	n := c.Nodes[0]
	imported(t, n, cluster.ImportOptions{}, numbered(count, same))
	ctx, cancel := context.WithCancel(t.Context())
	var writing sync.WaitGroup
	for _, w := range c.Nodes[1:] {
		writing.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				w.Put("t", fmt.Sprintf("late%d", i%7), w.Config.Name)
			}
		})
	}
	for _, entries := range []iter.Seq2[[]byte, []byte]{numbered(count, everyTenth), numbered(count, same)} {
		r := imported(t, n, cluster.ImportOptions{}, entries)
		at, err := n.TableAt("t", r.Version)
		if err != nil || at.Digest() != packed.DigestOf(entries) {
			t.Errorf("at its version the table is another one: %v", err)
		}
		was, err := n.TableAt("t", r.Was)
		if before, beforeErr := n.TableAt("t", r.Version-1); err != nil || beforeErr != nil || r.Was >= r.Version || was.Digest() != before.Digest() {
			t.Errorf("%+v is not what it took the place of: %v %v", r, err, beforeErr)
		}
	}
	cancel()
	writing.Wait()
	c.Agree()
}

// TestNode_ImportNewTable ensures that nobody finds a table that an import makes empty, or in part: a key that is
// not found bounces mail.
func TestNode_ImportNewTable(t *testing.T) {
	c := clustertest.New(t, 3)
	ctx, cancel := context.WithCancel(t.Context())
	var looking sync.WaitGroup
	for _, n := range c.Nodes {
		looking.Go(func() {
			tick := time.NewTicker(100 * time.Microsecond) // a leader needs longer for the next entry
			defer tick.Stop()
			for ctx.Err() == nil {
				<-tick.C
				if _, found, err := n.Table("t").Lookup([]byte("user000001@example.com")); err == nil && !found {
					t.Errorf("%s has the table without its entries", n.Config.Name)
					return
				}
			}
		})
	}
	n := c.Nodes[0]
	for range 15 {
		version := imported(t, n, cluster.ImportOptions{}, numbered(3, same)).Version
		if err := n.DropTable(t.Context(), "t"); err != nil {
			t.Fatal(err)
		}
		if _, err := n.RestoreVersion(t.Context(), "t", version); err != nil {
			t.Fatal(err)
		}
		if err := n.DropTable(t.Context(), "t"); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	looking.Wait()
}

// TestNode_ImportMinimalFromFollower ensures that a node that does not lead sends only what has changed, too.
func TestNode_ImportMinimalFromFollower(t *testing.T) {
	const count = 50_000
	c := clustertest.New(t, 2)
	n := c.Followers()[0]
	before := imported(t, n, cluster.ImportOptions{}, numbered(count, same)).Version
	c.Eventually("the leader knows what all can", func() error {
		n.Put("t", "user000000@example.com", "mailbox")
		if events, _, err := n.KeyHistory("t", []byte("user000000@example.com")); err != nil || events[0].Node == "" {
			return fmt.Errorf("%v %v", events[0], err)
		}
		before = n.Status().Tables[0].Version
		return nil
	})
	r := imported(t, n, cluster.ImportOptions{}, numbered(count, everyTenth))
	if entries := r.Version - before; entries > 8 {
		t.Errorf("it took %d entries of the log", entries)
	}
}

// TestNode_ImportWhileTheyCome ensures that an import into a table that is empty or not there, whose chunks are on their way
// while entries come, shows nothing before its end, and leaves nothing where the entries break off, are not in order, or
// are more than the table may have; and that the next one works.
func TestNode_ImportWhileTheyCome(t *testing.T) {
	const count = 60_000
	c := clustertest.New(t, 3)
	n := c.Followers()[0]
	limited := dict.Settings{MaxEntries: count - 1}
	if err := n.CreateTable(t.Context(), "limited", dict.TypeHash, limited); err != nil {
		t.Fatal(err)
	}
	// stagedThen yields half of the entries, waits until a part of them is staged on all nodes, and goes on with do.
	stagedThen := func(do func(yield func(k, v []byte) bool)) iter.Seq2[[]byte, []byte] {
		return func(yield func(k, v []byte) bool) {
			for k, v := range numbered(count/2, same) {
				if !yield(k, v) {
					return
				}
			}
			for _, n := range c.Nodes {
				c.Eventually(n.Config.Name+" has a stage", func() error {
					if n.Stages() != 1 {
						return fmt.Errorf("%d stages", n.Stages())
					}
					if tables := n.Status().Tables; len(tables) > 2 || len(tables) == 2 && tables[1].Entries > 0 {
						t.Errorf("%s shows what was not committed: %+v", n.Config.Name, tables)
					}
					return nil
				})
			}
			do(yield)
		}
	}
	gone := func() {
		t.Helper()
		for _, n := range c.Nodes {
			c.Eventually(n.Config.Name+" has no stage", func() error {
				if n.Stages() != 0 {
					return fmt.Errorf("%d stages", n.Stages())
				}
				return nil
			})
			for _, table := range n.Status().Tables {
				if table.Entries != 0 {
					t.Errorf("%s has %d entries in %s", n.Config.Name, table.Entries, table.Name)
				}
			}
		}
	}
	broke := errors.New("the client has gone")
	for _, existing := range []bool{false, true} {
		if existing {
			if err := n.CreateTable(t.Context(), "t", dict.TypeHash, dict.Settings{}); err != nil {
				t.Fatal(err)
			}
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		_, err := n.Import(ctx, "t", cluster.ImportOptions{}, stagedThen(func(func(k, v []byte) bool) { cancel(broke) }))
		if !errors.Is(err, broke) {
			t.Errorf("broken off: %v", err)
		}
		gone()
		_, err = n.Import(t.Context(), "t", cluster.ImportOptions{}, stagedThen(func(yield func(k, v []byte) bool) { yield([]byte("a"), []byte("v")) }))
		if !errors.Is(err, dict.ErrBadSource) {
			t.Errorf("not in order: %v", err)
		}
		gone()
	}
	if _, err := n.Import(t.Context(), "limited", cluster.ImportOptions{}, numbered(count, same)); !errors.Is(err, cluster.ErrRefused) {
		t.Errorf("too many: %v", err)
	}
	gone()
	r, err := n.Import(t.Context(), "limited", cluster.ImportOptions{}, numbered(count-1, same))
	if err != nil || r.Added != count-1 || r.Was == 0 || r.Version <= r.Was {
		t.Errorf("as many as it may have: %+v, %v", r, err)
	}
	c.Agree()
	for _, n := range c.Nodes {
		if table := n.Status().Tables[0]; table.Digest != packed.DigestOf(numbered(count-1, same)) || table.Settings != limited {
			t.Errorf("%s has another table: %+v", n.Config.Name, table)
		}
	}
}

package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"postraft/cluster"
	"postraft/cluster/clustertest"
	"postraft/cluster/store"
	"postraft/cluster/store/storetest"
	"postraft/dict"
	"postraft/fsm"
)

// onFaultyDisks starts n nodes whose logs are on disks that can fail.
func onFaultyDisks(t *testing.T, n int) (*clustertest.Cluster, map[*clustertest.Node]*storetest.FS) {
	t.Helper()
	disks := map[*clustertest.Node]*storetest.FS{}
	c := clustertest.NewWith(t, n, func(cfg *cluster.Config) { cfg.LogFS = storetest.New() })
	for _, node := range c.Nodes {
		disks[node] = node.Config.LogFS.(*storetest.FS)
	}
	c.Leader().Create("t")
	c.Agree()
	return c, disks
}

// TestNode_DiskFull ensures that a leader whose disk is full hands over within seconds, that writes go on
// through the others and lookups everywhere, that its own writes are refused with the reason, and that it
// goes on by itself when there is room again.
func TestNode_DiskFull(t *testing.T) {
	c, disks := onFaultyDisks(t, 3)
	old := c.Leader()
	old.Put("t", "before", "1")
	c.Agree()
	disks[old].Fail(syscall.ENOSPC, 0)
	// Something has to be written before anybody can know.
	err := old.TryPut("t", "lost", "1", 2*time.Second)
	if !errors.Is(err, dict.ErrRetry) {
		t.Fatalf("put on a full disk: %v", err)
	}
	var other *clustertest.Node
	c.Eventually("another node leads", func() error {
		for _, n := range c.Nodes {
			if n != old && n.Status().State == "leader" {
				other = n
				return nil
			}
		}
		return errors.New("none")
	})
	other.Put("t", "during", "1")
	old.Want("t", "before", "1")
	if err := old.TryPut("t", "refused", "1", time.Second); err == nil {
		t.Error("a write was answered on a full disk")
	}
	warned := slices.ContainsFunc(old.Status().Warnings, func(w string) bool { return strings.Contains(w, "no room") })
	if !warned || old.Events()[cluster.EventDiskFailing] == 0 {
		t.Errorf("warnings: %q, events %v", old.Status().Warnings, old.Events())
	}
	disks[old].Heal()
	c.Agree()
	old.Put("t", "after", "1")
	old.Want("t", "during", "1")
	if w := old.Status().Warnings; len(w) > 0 {
		t.Errorf("warnings: %q", w)
	}
}

// TestNode_AllDisksFull ensures that writes are refused in time with the reason while no node has room, that
// lookups go on, and that writes resume by themselves.
func TestNode_AllDisksFull(t *testing.T) {
	c, disks := onFaultyDisks(t, 3)
	leader := c.Leader()
	leader.Put("t", "before", "1")
	c.Agree()
	for _, d := range disks {
		d.Fail(syscall.ENOSPC, 0)
	}
	began := time.Now()
	for i := 0; ; i++ {
		err := leader.TryPut("t", fmt.Sprint("lost", i), "1", time.Second)
		if err == nil {
			t.Fatal("a write was answered while no disk has room")
		}
		if strings.Contains(err.Error(), "no room") {
			break
		}
		if time.Since(began) > clustertest.Patience {
			t.Fatalf("no reason is given: %v", err)
		}
	}
	for _, n := range c.Nodes {
		n.Want("t", "before", "1")
	}
	for _, d := range disks {
		d.Heal()
	}
	c.Eventually("writes resume", func() error { return leader.TryPut("t", "after", "1", time.Second) })
	c.Agree()
}

// TestNode_CloseOnBrokenDisk ensures that a node whose disk never works again can be stopped.
func TestNode_CloseOnBrokenDisk(t *testing.T) {
	c, disks := onFaultyDisks(t, 1)
	n := c.Nodes[0]
	disks[n].Fail(syscall.EIO, 0)
	if err := n.TryPut("t", "k", "v", time.Second); err == nil {
		t.Fatal("written")
	}
	closed := make(chan error, 1)
	go func() { closed <- n.Close(context.Background()) }()
	select {
	case err := <-closed:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(clustertest.Patience):
		t.Fatal("the node does not end")
	}
}

// TestNode_SlowDisk ensures that a leader whose disk hangs, or is slower than its lease, does not keep the lead.
func TestNode_SlowDisk(t *testing.T) {
	for name, slow := range map[string]time.Duration{"slow": 700 * time.Millisecond, "hanging": time.Hour} {
		t.Run(name, func(t *testing.T) {
			c, disks := onFaultyDisks(t, 3)
			old := c.Leader()
			follower := c.Followers()[0]
			disks[old].Slow(slow)
			if err := old.TryPut("t", "early", "v", 200*time.Millisecond); err == nil {
				t.Error("a write was answered that is not on the leader's disk")
			}
			follower.Put("t", "k", "v")
			c.Eventually("another node leads", func() error {
				_ = old.TryPut("t", "k", "v", 10*time.Millisecond)
				for _, n := range c.Nodes {
					if n != old && n.Status().State == "leader" {
						return nil
					}
				}
				return errors.New("none")
			})
			follower.Put("t", "k2", "v")
			disks[old].Heal()
			c.Agree()
			e := old.Events()
			if e[cluster.EventDiskSlow]+e[cluster.EventDiskStuck] == 0 {
				t.Errorf("events: %v", e)
			}
		})
	}
}

// TestNode_Diverged ensures that a node whose tables differ from the others' at one index is found, answers
// no lookup from them, discards them, and has the right ones after its next start.
func TestNode_Diverged(t *testing.T) {
	c := clustertest.NewWith(t, 3, func(cfg *cluster.Config) { cfg.CheckEvery = 300 * time.Millisecond })
	c.Leader().Create("t")
	c.Leader().Put("t", "k", "right")
	c.Agree()
	bad := c.Followers()[0]
	bad.Kill()
	corruptLastEntry(t, bad.Config)
	bad.Start()
	if v, _, _ := bad.Table("t").Lookup([]byte("k")); string(v) != "wrong" {
		t.Fatalf("the fault did not take: %q", v)
	}
	select {
	case <-bad.Done():
	case <-time.After(clustertest.Patience):
		t.Fatalf("not found: %+v", c.Leader().Status())
	}
	if err := bad.Err(); !errors.Is(err, cluster.ErrRestart) {
		t.Fatalf("it ended because: %v", err)
	}
	if c.Leader().Events()[cluster.EventDigestMismatch] == 0 {
		t.Error("not counted")
	}
	bad.Start()
	bad.WaitReady()
	bad.Want("t", "k", "right")
	c.Agree()
	c.Eventually("it votes again", func() error {
		if v := c.Leader().Status().Voters; len(v) != 3 {
			return fmt.Errorf("voters %v", v)
		}
		return nil
	})
	if _, err := os.Stat(filepath.Join(bad.Config.DataDir, "discarded")); !os.IsNotExist(err) {
		t.Errorf("discarded data is still there: %v", err)
	}
}

// corruptLastEntry gives the last write in a stopped node's log another value, with a checksum that fits: the
// fault of a program, not of a disk.
func corruptLastEntry(t *testing.T, cfg cluster.Config) {
	t.Helper()
	s, err := store.Open(cfg.DataDir, store.Options{Kind: store.WAL}, hclog.NewNullLogger(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	last, _ := s.Log.LastIndex()
	var logs []*raft.Log
	for i := last; ; i-- {
		log := new(raft.Log)
		if err := s.Log.GetLog(i, log); err != nil {
			t.Fatal(err)
		}
		logs = append([]*raft.Log{log}, logs...)
		if log.Type != raft.LogCommand {
			continue
		}
		commands, err := fsm.DecodeEntry(log.Data)
		if err != nil {
			t.Fatal(err)
		}
		if len(commands) == 1 && commands[0].Write != nil {
			commands[0].Write.Ops[0].Value = []byte("wrong")
			log.Data = fsm.AppendCommand(fsm.AppendEntry(nil), fsm.EncodeCommand(nil, &commands[0]))
			break
		}
	}
	if err := s.Log.DeleteRange(logs[0].Index, last); err != nil {
		t.Fatal(err)
	}
	if err := s.Log.StoreLogs(logs); err != nil {
		t.Fatal(err)
	}
}

// TestNode_Damage ensures that damaged files are named with the command that repairs them, and that this
// command repairs them: the node comes back as a new server with everything.
func TestNode_Damage(t *testing.T) {
	c := clustertest.New(t, 3)
	c.Leader().Create("t")
	for i := range 50 {
		c.Leader().Put("t", fmt.Sprint("k", i), "some value to be found")
	}
	c.Agree()
	bad := c.Followers()[0]
	before := bad.Status().ID
	bad.Kill()
	flipped := false
	segments, _ := filepath.Glob(filepath.Join(bad.Config.DataDir, "wal", "*.wal"))
	for _, path := range segments {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if at := strings.Index(string(b), "some value"); at > 0 {
			b[at] ^= 1
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
			flipped = true
		}
	}
	if !flipped {
		t.Fatal("nothing to damage")
	}
	err := bad.TryStart()
	if err == nil || !strings.Contains(err.Error(), bad.Config.DataDir) || !strings.Contains(err.Error(), "agent --reset") {
		t.Fatalf("start on a damaged log: %v", err)
	}
	if err := cluster.Discard(bad.Config.DataDir, "asked for"); err != nil {
		t.Fatal(err)
	}
	bad.Start()
	bad.WaitReady()
	bad.Want("t", "k0", "some value to be found")
	if bad.Status().ID == before {
		t.Error("the server kept its id without its votes")
	}
	c.Eventually("it votes again", func() error {
		if v := c.Leader().Status().Voters; len(v) != 3 {
			return fmt.Errorf("voters %v", v)
		}
		return nil
	})
}

// TestDiscard_FormsNothing ensures that a node which has discarded its data forms no new cluster, even where
// --bootstrap-expect 1 would.
func TestDiscard_FormsNothing(t *testing.T) {
	c := clustertest.New(t, 1)
	n := c.Nodes[0]
	n.Kill()
	if err := cluster.Discard(n.Config.DataDir, "asked for"); err != nil {
		t.Fatal(err)
	}
	n.Start()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := n.Node.WaitReady(ctx); err == nil {
		t.Fatal("a cluster without tables was formed")
	}
	if s := n.Status(); len(s.Warnings) == 0 || !strings.Contains(s.Warnings[0], "discarded") {
		t.Errorf("warnings: %q", s.Warnings)
	}
}

// TestDiscard_PledgesNothing ensures that a node which has discarded its data does not let others form a new cluster
// with it.
func TestDiscard_PledgesNothing(t *testing.T) {
	c := clustertest.New(t, 1)
	n := c.Nodes[0]
	n.Kill()
	if err := cluster.Discard(n.Config.DataDir, "asked for"); err != nil {
		t.Fatal(err)
	}
	n.Config.BootstrapExpect = 2
	n.Start()
	fresh := c.Add(func(cfg *cluster.Config) { cfg.Name, cfg.BootstrapExpect = "a", 2 }) // the first by name asks the others
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	if err := fresh.Node.WaitReady(ctx); err == nil {
		t.Fatal("a cluster without the discarded tables was formed")
	}
}

// TestNode_WrongAnswersNothing ensures that a node that knows its tables to be wrong answers nothing from them: no lookup, no
// consistent one, no snapshot, and no write, whose outcome they would tell.
func TestNode_WrongAnswersNothing(t *testing.T) {
	c := clustertest.New(t, 1)
	n := c.Nodes[0]
	n.Create("t")
	n.Put("t", "k", "v")
	n.Diverge()
	ctx, cancel := context.WithTimeout(t.Context(), clustertest.Patience)
	defer cancel()
	for what, ask := range map[string]func() error{
		"lookup":            func() error { _, _, err := n.Table("t").Lookup([]byte("k")); return err },
		"consistent lookup": func() error { _, _, err := n.LookupConsistent(ctx, "t", []byte("k")); return err },
		"snapshot":          func() error { return n.SaveSnapshot(ctx, io.Discard) },
		"delete":            func() error { _, err := n.Table("t").Delete(ctx, []byte("other")); return err },
		"put":               func() error { return n.TryPut("t", "k", "w", clustertest.Patience) },
	} {
		if err := ask(); !errors.Is(err, dict.ErrRetry) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

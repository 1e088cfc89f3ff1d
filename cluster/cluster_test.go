package cluster_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"postraft/cluster"
	"postraft/cluster/clustertest"
	"postraft/cluster/trust"
	"postraft/dict"
)

// TestNode_ReadYourWrites ensures that a write on any node is visible to the next lookup there, and soon on
// the others.
func TestNode_ReadYourWrites(t *testing.T) {
	c := clustertest.New(t, 3)
	c.Nodes[1].Create("virtual")
	for i := range 30 {
		n := c.Nodes[i%3]
		key, value := fmt.Sprint("k", i), fmt.Sprint("v", i)
		n.Put("virtual", key, value)
		n.Want("virtual", key, value)
		for _, other := range c.Nodes {
			c.Eventually("the others see it", func() error {
				v, _, err := other.Table("virtual").Lookup([]byte(key))
				if err != nil || string(v) != value {
					return fmt.Errorf("%q %v", v, err)
				}
				return nil
			})
		}
	}
	ctx := context.Background()
	if found, err := c.Nodes[2].Table("virtual").Delete(ctx, []byte("k1")); !found || err != nil {
		t.Fatalf("delete: %v %v", found, err)
	}
	c.Nodes[2].Want("virtual", "k1", "")
	if found, err := c.Nodes[1].Table("virtual").Delete(ctx, []byte("k1")); found || err != nil {
		t.Fatalf("second delete: %v %v", found, err)
	}
	if err := c.Nodes[0].TryPut("missing", "k", "v", time.Second); !errors.Is(err, dict.ErrNoTable) {
		t.Fatalf("put into a missing table: %v", err)
	}
	if _, _, err := c.Nodes[0].Table("missing").Lookup([]byte("k")); !errors.Is(err, dict.ErrRetry) {
		t.Fatalf("lookup in a missing table: %v", err)
	}
	c.Agree()
}

// TestNode_LeaderKilled ensures that a leader whose process ends costs writes less time than the heartbeat timeout, no
// lookup and no acknowledged write, and that all nodes agree when it is back.
func TestNode_LeaderKilled(t *testing.T) {
	const timeout = 2 * time.Second
	c := clustertest.NewWith(t, 3, func(cfg *cluster.Config) { cfg.HeartbeatTimeout = timeout })
	c.Leader().Create("t")
	c.Agree()
	followers := c.Followers()
	followers[0].Put("t", "constant", "1")
	c.Agree()

	stop := make(chan struct{})
	var tasks sync.WaitGroup
	var acked sync.Map
	var longest atomic.Int64
	for i, n := range followers {
		tasks.Go(func() {
			last := time.Now()
			for j := 0; ; j++ {
				select {
				case <-stop:
					return
				default:
				}
				key := fmt.Sprintf("%d-%d", i, j)
				if err := n.TryPut("t", key, key, 5*time.Second); err != nil {
					t.Errorf("put: %v", err)
				} else {
					acked.Store(key, true)
				}
				if gap := int64(time.Since(last)); gap > longest.Load() {
					longest.Store(gap)
				}
				last = time.Now()
			}
		})
		tasks.Go(func() {
			for tick := time.Tick(200 * time.Microsecond); ; {
				select {
				case <-stop:
					return
				case <-tick: // not in a busy loop, which would starve the election on two cores
				}
				if v, _, err := n.Table("t").Lookup([]byte("constant")); err != nil || string(v) != "1" {
					t.Errorf("lookup: %q %v", v, err)
					return
				}
			}
		})
	}
	leader := c.Leader()
	leader.Kill()
	c.Leader()
	for _, n := range followers {
		n.Put("t", "after"+n.Config.Name, "x")
	}
	close(stop)
	tasks.Wait()
	if gap := time.Duration(longest.Load()); gap > timeout {
		t.Errorf("writes stood still for %v", gap)
	} else {
		t.Logf("writes stood still for %v", gap)
	}
	leader.Start()
	c.Agree()
	acked.Range(func(key, _ any) bool {
		leader.Want("t", key.(string), key.(string))
		return true
	})
}

// TestNode_LoneRestart ensures that a node that restarts while the others are down serves all it had
// served, says RETRY for what it cannot know, and refuses writes in time.
func TestNode_LoneRestart(t *testing.T) {
	c := clustertest.New(t, 3)
	c.Leader().Create("t")
	for i := range 200 {
		c.Nodes[i%3].Put("t", fmt.Sprint("k", i), "v")
	}
	c.Agree()
	lone := c.Followers()[0]
	for _, n := range c.Nodes {
		n.Kill()
	}
	lone.Start()
	for i := range 200 {
		lone.Want("t", fmt.Sprint("k", i), "v")
	}
	if _, _, err := lone.Table("missing").Lookup([]byte("k")); !errors.Is(err, dict.ErrRetry) {
		t.Errorf("missing table: %v", err)
	}
	began := time.Now()
	if err := lone.TryPut("t", "k", "v", time.Second); !errors.Is(err, dict.ErrRetry) || errors.Is(err, dict.ErrUnknownOutcome) {
		t.Errorf("put without a leader: %v", err)
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("refused after %v", took)
	}
	for _, n := range c.Nodes {
		if n != lone {
			n.Start()
		}
	}
	lone.Put("t", "again", "v")
	c.Agree()
}

// TestNode_DoubtfulTail ensures that an entry that a lone node holds without knowing whether it is
// committed is RETRY there, and settled when the others are back.
func TestNode_DoubtfulTail(t *testing.T) {
	c := clustertest.New(t, 3)
	c.Leader().Create("t")
	c.Leader().Put("t", "known", "1")
	c.Agree()
	leader, followers := c.Leader(), c.Followers()
	for _, f := range followers {
		f.Kill()
	}
	err := leader.TryPut("t", "doubtful", "1", 700*time.Millisecond)
	if !errors.Is(err, dict.ErrUnknownOutcome) {
		t.Fatalf("put without a quorum: %v", err)
	}
	leader.Kill()
	leader.Start()
	leader.Want("t", "known", "1")
	leader.Want("t", "absent", "")
	if _, _, err := leader.Table("t").Lookup([]byte("doubtful")); !errors.Is(err, dict.ErrRetry) {
		t.Fatalf("doubtful key: %v", err)
	}
	for _, f := range followers {
		f.Start()
	}
	c.Eventually("the doubt is settled", func() error {
		_, _, err := leader.Table("t").Lookup([]byte("doubtful"))
		return err
	})
	c.Agree()
}

// TestNode_JoinAndLeave ensures that a node joins a running cluster, answers RETRY until it has caught up,
// becomes a voter, takes part, and leaves; that a rebuilt host replaces the server of its name; and that a node that has
// left does not start with what it had.
func TestNode_JoinAndLeave(t *testing.T) {
	c := clustertest.New(t, 3)
	c.Leader().Create("t")
	c.Leader().Put("t", "k", "v")
	n4 := c.Add(nil)
	for !n4.Status().Ready {
		if _, found, err := n4.Table("t").Lookup([]byte("k")); !found && !errors.Is(err, dict.ErrRetry) {
			t.Fatalf("a node that has not caught up says: %v %v", found, err)
		}
	}
	n4.Want("t", "k", "v")
	voters := func(want int) func() error {
		return func() error {
			if got := c.Leader().Status().Voters; len(got) != want {
				return fmt.Errorf("voters %v", got)
			}
			return nil
		}
	}
	c.Eventually("the new node votes", voters(4))
	n4.Put("t", "k4", "v")

	old := n4.Status().ID
	n4.Kill()
	n4.Config.DataDir = t.TempDir()
	n4.Start()
	n4.WaitReady()
	c.Eventually("the rebuilt node has replaced the old one", func() error {
		members, err := c.Leader().Members(context.Background())
		if err != nil {
			return err
		}
		for _, m := range members {
			if m.ID == old || m.Role != cluster.RoleVoter {
				return fmt.Errorf("%+v", m)
			}
		}
		return voters(4)()
	})
	n4.Want("t", "k4", "v")

	leader := c.Leader()
	if err := leader.Leave(context.Background()); err != nil {
		t.Fatal(err)
	}
	<-leader.Done()
	if err := leader.Err(); err != nil {
		t.Fatalf("after leave: %v", err)
	}
	c.Eventually("the former leader is no server", voters(3))
	n4.Put("t", "k5", "v")
	leader.Kill()
	if err := leader.TryStart(); err == nil || !errors.Is(err, cluster.ErrRefused) || !strings.Contains(err.Error(), "--reset") {
		t.Fatalf("a node that has left starts with its old tables: %v", err)
	}
	if err := cluster.Discard(leader.Config.DataDir, "to join again"); err != nil {
		t.Fatal(err)
	}
	leader.Config.Join = []string{n4.Config.Gossip}
	leader.Start()
	leader.WaitReady()
	leader.Want("t", "k5", "v")
	c.Agree()
}

// TestNode_WrongSecret ensures that a node with another secret gets nowhere.
func TestNode_WrongSecret(t *testing.T) {
	c := clustertest.New(t, 1)
	stranger := c.Add(func(cfg *cluster.Config) { cfg.Secret = trust.NewSecret() })
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	if err := stranger.Join(ctx, []string{c.Nodes[0].Config.Gossip}); err == nil {
		t.Error("joined with another secret")
	}
	if members, _ := c.Nodes[0].Members(ctx); len(members) != 1 {
		t.Errorf("members: %+v", members)
	}
}

// TestNode_NewNodeAlone ensures that a node that knows nothing never says "not found".
func TestNode_NewNodeAlone(t *testing.T) {
	c := clustertest.New(t, 1)
	lost := c.Add(func(cfg *cluster.Config) { cfg.Join = nil })
	if _, _, err := lost.Table("t").Lookup([]byte("k")); !errors.Is(err, dict.ErrRetry) {
		t.Fatalf("lookup: %v", err)
	}
}

// TestNode_Snapshot ensures that a saved snapshot brings back the tables, whole or one at a time, and that
// a damaged one changes nothing.
func TestNode_Snapshot(t *testing.T) {
	c := clustertest.New(t, 3)
	ctx := context.Background()
	n := c.Nodes[0]
	n.Create("a")
	n.Create("b")
	n.Put("a", "k", "old")
	n.Put("b", "k", "old")
	var snap bytes.Buffer
	if err := c.Nodes[1].SaveSnapshot(ctx, &snap); err != nil {
		t.Fatal(err)
	}
	n.Put("a", "k", "new")
	n.Put("b", "k", "new")
	n.Create("c")
	bad := bytes.Clone(snap.Bytes())
	bad[len(bad)/2] ^= 1
	if _, err := n.RestoreSnapshot(ctx, bytes.NewReader(bad), nil); err == nil {
		t.Fatal("a damaged snapshot was restored")
	}
	n.Want("a", "k", "new")
	if _, err := n.RestoreSnapshot(ctx, bytes.NewReader(snap.Bytes()), []string{"a"}); err != nil {
		t.Fatal(err)
	}
	n.Want("a", "k", "old")
	n.Want("b", "k", "new")
	if _, err := n.RestoreSnapshot(ctx, bytes.NewReader(snap.Bytes()), nil); err != nil {
		t.Fatal(err)
	}
	n.Want("b", "k", "old")
	if infos := n.Status().Tables; len(infos) != 2 {
		t.Fatalf("tables after the restore: %+v", infos)
	}
	c.Agree()
}

// TestNode_SnapshotOfManyTables ensures that there are not more tables than a restore can put in place.
func TestNode_SnapshotOfManyTables(t *testing.T) {
	c := clustertest.New(t, 1)
	n := c.Nodes[0]
	for i := range 100 {
		n.Create(fmt.Sprint("t", i))
	}
	var snap bytes.Buffer
	if err := n.SaveSnapshot(t.Context(), &snap); err != nil {
		t.Fatal(err)
	}
	if names, err := n.RestoreSnapshot(t.Context(), &snap, nil); err != nil || len(names) != 100 {
		t.Fatalf("%d tables: %v", len(names), err)
	}
}

// TestNode_Consistent ensures that a consistent lookup on any node sees a write that was answered elsewhere.
func TestNode_Consistent(t *testing.T) {
	c := clustertest.New(t, 3)
	c.Nodes[0].Create("t")
	for i := range 20 {
		c.Nodes[i%3].Put("t", "k", fmt.Sprint(i))
		v, _, err := c.Nodes[(i+1)%3].LookupConsistent(context.Background(), "t", []byte("k"))
		if err != nil || string(v) != fmt.Sprint(i) {
			t.Fatalf("%q %v, want %d", v, err, i)
		}
	}
}

// BenchmarkUpdate measures acknowledged writes on a follower of a three-node cluster, by number of writers.
func BenchmarkUpdate(b *testing.B) {
	c := clustertest.New(b, 3)
	c.Leader().Create("t")
	n := c.Followers()[0]
	for _, writers := range []int{1, 16, 64, 256} {
		b.Run(fmt.Sprint(writers), func(b *testing.B) {
			var next atomic.Int64
			var tasks sync.WaitGroup
			b.ResetTimer()
			for range writers {
				tasks.Go(func() {
					for i := next.Add(1); i <= int64(b.N); i = next.Add(1) {
						key := fmt.Sprintf("user%d@example.com", i%100000)
						if err := n.TryPut("t", key, "mailbox@host.example.net", 10*time.Second); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			tasks.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "writes/s")
		})
	}
}

// meanwhile has do called again and again, until it returns false or stop is called, which waits for its end.
func meanwhile(do func(i int) bool) (stop func()) {
	stopped := make(chan struct{})
	var tasks sync.WaitGroup
	tasks.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stopped:
				return
			default:
			}
			if !do(i) {
				return
			}
		}
	})
	return func() {
		close(stopped)
		tasks.Wait()
	}
}

// TestNode_TransferLeader ensures that leadership goes where it is sent, asked from any node, and that writes
// wait for it rather than fail.
func TestNode_TransferLeader(t *testing.T) {
	c := clustertest.New(t, 3)
	c.Leader().Create("t")
	ctx := context.Background()
	stop := meanwhile(func(i int) bool {
		err := c.Nodes[0].TryPut("t", fmt.Sprint(i), "v", 5*time.Second)
		if err != nil {
			t.Errorf("put: %v", err)
		}
		return err == nil
	})
	for i := range 6 {
		to := c.Nodes[i%3].Config.Name
		if err := c.Nodes[(i+i/3)%3].TransferLeader(ctx, to); err != nil {
			t.Fatalf("transfer %d to %s: %v", i, to, err)
		}
		if got := c.Leader().Config.Name; got != to {
			t.Errorf("%s leads, not %s", got, to)
		}
	}
	if err := c.Nodes[1].TransferLeader(ctx, ""); err != nil {
		t.Error(err)
	}
	if err := c.Nodes[1].TransferLeader(ctx, "nobody"); !errors.Is(err, cluster.ErrNoMember) {
		t.Errorf("transfer to nobody: %v", err)
	}
	stop()
	c.Agree()
}

// TestNode_FindsAgain ensures that a node that joined by command finds its cluster after a restart without
// being told again, and that it serves meanwhile.
func TestNode_FindsAgain(t *testing.T) {
	c := clustertest.New(t, 1)
	c.Nodes[0].Create("t")
	c.Nodes[0].Put("t", "k", "v")
	n2 := c.Add(func(cfg *cluster.Config) { cfg.Join, cfg.Nonvoter = nil, true })
	if err := n2.Join(context.Background(), []string{c.Nodes[0].Config.Gossip}); err != nil {
		t.Fatal(err)
	}
	n2.WaitReady()
	known := filepath.Join(n2.Config.DataDir, "peers")
	c.Eventually("the members are kept on disk", func() error {
		_, err := os.Stat(known)
		return err
	})
	n2.Kill()
	n2.Start()
	n2.Want("t", "k", "v")
	c.Eventually("gossip sees both", func() error {
		members, err := n2.Members(context.Background())
		if err != nil {
			return err
		}
		for _, m := range members {
			if m.Alive != cluster.Alive || m.Version == "" {
				return fmt.Errorf("%+v", m)
			}
		}
		return nil
	})
	n2.Put("t", "k", "w")
	if members, err := n2.Members(context.Background()); err != nil || len(members) != 2 || members[1].Role != cluster.RoleNonvoter {
		t.Errorf("%+v %v", members, err)
	}
}

// TestNode_JoinRefused ensures that a node that is a cluster of its own is told so when it is to join another one, which does not
// take it in, and that a new node in the same gossip still joins.
func TestNode_JoinRefused(t *testing.T) {
	c := clustertest.New(t, 1)
	alone := c.Add(func(cfg *cluster.Config) { cfg.Join, cfg.BootstrapExpect = nil, 1 })
	alone.WaitReady()
	ctx, cancel := context.WithTimeout(t.Context(), clustertest.Patience)
	defer cancel()
	if err := alone.Join(ctx, []string{c.Nodes[0].Config.Gossip}); !errors.Is(err, cluster.ErrRefused) || !strings.Contains(err.Error(), "--reset") {
		t.Errorf("a node with a cluster of its own: %v", err)
	}
	fresh := c.Add(func(cfg *cluster.Config) { cfg.Join = nil })
	if err := fresh.Join(ctx, []string{c.Nodes[0].Config.Gossip}); err != nil {
		t.Errorf("a new node: %v", err)
	}
	fresh.WaitReady()
}

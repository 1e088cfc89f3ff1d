package cluster_test

import (
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
)

// wantVoters returns a check that the leader has these voters, or so many when names is empty.
func wantVoters(c *clustertest.Cluster, n int, names ...string) func() error {
	return func() error {
		got := c.Leader().Status().Voters
		slices.Sort(got)
		if len(got) != n || len(names) > 0 && !slices.Equal(got, names) {
			return fmt.Errorf("voters %v", got)
		}
		return nil
	}
}

// TestNode_DeadVoterReplaced ensures that a stand-by votes in place of a voter that stays silent, that the
// dead one stands by when it is back, and that a node that never votes is passed over.
func TestNode_DeadVoterReplaced(t *testing.T) {
	c := clustertest.NewWith(t, 3, func(cfg *cluster.Config) { cfg.Voters, cfg.DeadAfter = 3, time.Second })
	c.Leader().Create("t")
	never := c.Add(func(cfg *cluster.Config) { cfg.Voters, cfg.DeadAfter, cfg.Nonvoter = 3, time.Second, true })
	standBy := c.Add(func(cfg *cluster.Config) { cfg.Voters, cfg.DeadAfter = 3, time.Second })
	never.WaitReady()
	standBy.WaitReady()
	if err := wantVoters(c, 3, "n1", "n2", "n3")(); err != nil {
		t.Fatal(err)
	}
	dead := c.Followers()[0]
	if dead == never || dead == standBy {
		t.Fatal("a stand-by votes")
	}
	dead.Kill()
	c.Eventually("the stand-by votes in its place", func() error {
		got := c.Leader().Status().Voters
		if len(got) != 3 || slices.Contains(got, dead.Config.Name) || !slices.Contains(got, standBy.Config.Name) {
			return fmt.Errorf("voters %v", got)
		}
		return nil
	})
	dead.Start()
	dead.WaitReady()
	dead.Put("t", "k", "v")
	c.Agree()
	if got := c.Leader().Status().Voters; len(got) != 3 || slices.Contains(got, dead.Config.Name) {
		t.Errorf("voters %v", got)
	}
}

// TestNode_NotBelowQuorum ensures that silence costs no vote where there is nobody to take it.
func TestNode_NotBelowQuorum(t *testing.T) {
	c := clustertest.NewWith(t, 3, func(cfg *cluster.Config) { cfg.DeadAfter = 300 * time.Millisecond })
	c.Leader().Create("t")
	c.Followers()[0].Kill()
	for i := range 100 {
		c.Leader().Put("t", fmt.Sprint(i), "v")
		time.Sleep(10 * time.Millisecond)
	}
	if err := wantVoters(c, 3)(); err != nil {
		t.Error(err)
	}
}

// TestNode_Announce ensures that a node may have something to say from several goroutines at once.
func TestNode_Announce(t *testing.T) {
	c := clustertest.New(t, 1)
	var pending sync.WaitGroup
	for range 4 {
		pending.Go(func() {
			for range 50 {
				c.Nodes[0].Announce()
			}
		})
	}
	pending.Wait()
}

// TestNode_SevenAgents ensures that of seven nodes that form a cluster five vote.
func TestNode_SevenAgents(t *testing.T) {
	c := clustertest.NewWith(t, 7, nil)
	c.Eventually("five vote", wantVoters(c, 5))
	members, err := c.Leader().Members(context.Background())
	if err != nil || len(members) != 7 {
		t.Fatalf("%d members, %v", len(members), err)
	}
	c.Nodes[6].Create("t")
	c.Agree()
}

// TestNode_TooManyVoters ensures that a vote is taken away when the cluster shall keep fewer, or a voter shall
// not vote any more, even where that is the leader.
func TestNode_TooManyVoters(t *testing.T) {
	c := clustertest.New(t, 4)
	c.Leader().Create("t")
	leader := c.Leader()
	leader.Kill()
	leader.Config.Nonvoter = true
	leader.Start()
	c.Eventually("the former leader does not vote", func() error {
		if got := c.Leader().Status().Voters; slices.Contains(got, leader.Config.Name) {
			return fmt.Errorf("voters %v", got)
		}
		return nil
	})
	leader.Put("t", "k", "v")
	c.Agree()
}

// TestNode_KilledEarly ensures that a node which has nobody to join, and is killed as soon as its cluster has formed, finds
// the others again.
func TestNode_KilledEarly(t *testing.T) {
	c := clustertest.New(t, 3)
	first := c.Nodes[0]
	first.Kill()
	first.Start()
	c.Eventually("it sees all", func() error {
		members, err := first.Members(t.Context())
		if err != nil {
			return err
		}
		for _, m := range members {
			if m.Alive != cluster.Alive {
				return fmt.Errorf("%s is %v", m.Name, m.Alive)
			}
		}
		return nil
	})
}

// TestNode_SameName ensures that a second agent with the name of a live one ends with a clear message, and
// the first one notices nothing.
func TestNode_SameName(t *testing.T) {
	c := clustertest.New(t, 3)
	second := c.Add(func(cfg *cluster.Config) { cfg.Name = "n2" })
	select {
	case <-second.Done():
	case <-time.After(clustertest.Patience):
		t.Fatal("it goes on")
	}
	if err := second.Err(); !errors.Is(err, cluster.ErrRefused) || !strings.Contains(err.Error(), "--name") {
		t.Errorf("it ended because: %v", err)
	}
	if err := wantVoters(c, 3, "n1", "n2", "n3")(); err != nil {
		t.Error(err)
	}
}

// TestNode_SameDataDirectory ensures that of two agents with copies of one data directory the younger ends.
func TestNode_SameDataDirectory(t *testing.T) {
	c := clustertest.New(t, 3)
	original := c.Followers()[0]
	original.Kill()
	copied := t.TempDir()
	clustertest.CopyDir(t, original.Config.DataDir, copied)
	original.Start()
	original.WaitReady()
	second := c.Add(func(cfg *cluster.Config) { cfg.Name, cfg.DataDir = original.Config.Name, copied })
	select {
	case <-second.Done():
	case <-time.After(clustertest.Patience):
		t.Fatal("it goes on")
	}
	if err := second.Err(); !errors.Is(err, cluster.ErrRefused) {
		t.Errorf("it ended because: %v", err)
	}
	c.Leader().Create("t")
	c.Agree()
}

// TestNode_ForeignNamesake ensures that a member that is down keeps its place when an agent of its name turns up
// that belongs to another cluster and is refused.
func TestNode_ForeignNamesake(t *testing.T) {
	c := clustertest.New(t, 3)
	foreign := c.Add(func(cfg *cluster.Config) { cfg.Name, cfg.Join, cfg.BootstrapExpect = "n2", nil, 1 })
	foreign.WaitReady()
	foreign.Kill()
	down := c.Nodes[1]
	down.Kill()
	foreign.Config.Join, foreign.Config.BootstrapExpect = []string{c.Nodes[0].Config.Gossip, c.Nodes[2].Config.Gossip}, 0
	foreign.Start()
	for until := time.Now().Add(2 * time.Second); time.Now().Before(until); time.Sleep(50 * time.Millisecond) {
		if got := c.Nodes[0].Status().Voters; len(got) != 3 {
			t.Fatalf("voters %v", got)
		}
	}
	foreign.Kill()
	down.Start()
	down.Create("t")
}

// TestNode_TwentyAgents ensures that twenty nodes in one process work, and settle on five voters.
func TestNode_TwentyAgents(t *testing.T) {
	c := clustertest.New(t, 1)
	for range 19 {
		c.Add(nil)
	}
	c.Eventually("twenty members, five vote", func() error {
		members, err := c.Nodes[0].Members(context.Background())
		if err != nil || len(members) != 20 {
			return fmt.Errorf("%d members, %w", len(members), err)
		}
		return wantVoters(c, 5)()
	})
	c.Leader().Create("t")
	for i, n := range c.Nodes {
		n.WaitReady()
		n.Put("t", fmt.Sprint(i), "v")
	}
	c.Agree()
	if err := wantVoters(c, 5)(); err != nil {
		t.Error(err)
	}
}

// TestNode_RemoveKilled ensures that a node that was killed is known to be gone, and can be removed, at once, and that
// it ends for good should it come back.
func TestNode_RemoveKilled(t *testing.T) {
	c := clustertest.New(t, 4)
	killed := c.Followers()[0]
	killed.Kill()
	began := time.Now()
	members, err := c.Leader().Members(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range members {
		if want := m.Name != killed.Config.Name; (m.Alive == cluster.Alive) != want {
			t.Errorf("%s is %s", m.Name, m.Alive)
		}
	}
	if err := c.Leader().Remove(context.Background(), killed.Config.Name); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("it took %v", took)
	}
	if members, err = c.Leader().Members(context.Background()); err != nil || len(members) != 3 {
		t.Errorf("%d members, %v: %v", len(members), err, members)
	}
	if err := c.Leader().Remove(context.Background(), c.Followers()[0].Config.Name); !errors.Is(err, cluster.ErrRefused) {
		t.Errorf("a live node: %v", err)
	}
	killed.Config.Join = []string{c.Leader().Config.Gossip}
	killed.Start() // it knows nothing of that yet
	select {
	case <-killed.Done():
		if err := killed.Err(); !errors.Is(err, cluster.ErrRefused) || !strings.Contains(err.Error(), "was removed") {
			t.Errorf("a node that was removed ends with %v", err)
		}
	case <-time.After(clustertest.Patience):
		t.Fatal("a node that was removed goes on with its old tables")
	}
	killed.Kill()
	if err := killed.TryStart(); !errors.Is(err, cluster.ErrRefused) {
		t.Errorf("it starts again: %v", err)
	}
	c.Agree()
}

package cluster_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"postraft/cluster"
	"postraft/cluster/clustertest"
)

// TestNode_SparesFollowers ensures that a leader which has nothing to tell sends little, that its followers hear of it all
// the same, and that they learn of a write as soon as ever, also one that was started again meanwhile.
func TestNode_SparesFollowers(t *testing.T) {
	var links clustertest.Links
	patient := func(cfg *cluster.Config) {
		links.Join(cfg)
		cfg.HeartbeatTimeout = 2 * time.Second // a busy machine elects no other leader
	}
	c := clustertest.NewWith(t, 3, patient)
	reader := c.Add(func(cfg *cluster.Config) {
		patient(cfg)
		cfg.Nonvoter = true
	})
	reader.WaitReady()
	leader := c.Leader()
	leader.Create("t")
	c.Agree()
	followers := c.Followers()
	term := leader.Status().Term

	const span = 2 * time.Second
	before := map[*clustertest.Node]int{}
	for _, n := range followers {
		before[n] = links.Sent(leader, n)
	}
	silence := map[*clustertest.Node]time.Duration{}
	began := time.Now()
	for time.Since(began) < span {
		for _, n := range followers {
			silence[n] = max(silence[n], n.Status().LastContact)
		}
		time.Sleep(time.Millisecond)
	}
	took := time.Since(began)
	for _, n := range followers {
		each := float64(links.Sent(leader, n)-before[n]) / took.Seconds()
		t.Logf("%s was sent %.1f messages a second, and heard nothing for %v at most", n.Config.Name, each, silence[n])
		if n == reader && each > 12 { // raft alone sends 17 with this timeout
			t.Errorf("%s was sent %.1f messages a second", n.Config.Name, each)
		}
		if silence[n] > time.Second {
			t.Errorf("%s heard nothing for %v", n.Config.Name, silence[n])
		}
	}
	if s := reader.Status(); s.Term != term || s.Leader != leader.Config.Name {
		t.Errorf("there was an election: %+v", s)
	}

	var delays []time.Duration
	for i := range 9 {
		if i == 5 {
			reader.Kill()
			reader.Start()
		}
		key := fmt.Sprint(i)
		leader.Put("t", key, "v")
		written := time.Now()
		c.Eventually("all see it", func() error {
			for _, n := range followers {
				if _, found, err := n.Table("t").Lookup([]byte(key)); !found {
					return fmt.Errorf("%s: %v", n.Config.Name, err)
				}
			}
			return nil
		})
		delays = append(delays, time.Since(written).Round(time.Millisecond))
	}
	t.Logf("followers saw writes after %v", delays)
	if soonest := slices.Min(delays); soonest > 120*time.Millisecond { // raft lets pass 50 to 100 ms
		t.Errorf("followers saw no write within %v", soonest)
	}
}

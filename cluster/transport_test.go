package cluster_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"postraft/cluster"
	"postraft/cluster/clustertest"
)

// withReader starts three voters and a nonvoter, with a table.
func withReader(t *testing.T) (c *clustertest.Cluster, links *clustertest.Links, leader, reader *clustertest.Node) {
	t.Helper()
	links = new(clustertest.Links)
	patient := func(cfg *cluster.Config) {
		links.Join(cfg)
		cfg.HeartbeatTimeout = 2 * time.Second // a busy machine elects no other leader
	}
	c = clustertest.NewWith(t, 3, patient)
	reader = c.Add(func(cfg *cluster.Config) {
		patient(cfg)
		cfg.Nonvoter = true
	})
	reader.WaitReady()
	leader = c.Leader()
	leader.Create("t")
	c.Agree()
	return c, links, leader, reader
}

// TestNode_BackSoon ensures that a node that was away for a while sees what is written, and may write, as soon as it is
// back. Raft alone lets it wait for up to as long as it was away, here for 2.4 s.
func TestNode_BackSoon(t *testing.T) {
	c, links, leader, reader := withReader(t)
	links.Part(reader)
	leader.Put("t", "meanwhile", "1")
	time.Sleep(3500 * time.Millisecond) // how long it was away
	links.Heal()
	began := time.Now()
	c.Eventually("it sees what was written meanwhile", func() error {
		if v, found, err := reader.Table("t").Lookup([]byte("meanwhile")); !found {
			return fmt.Errorf("%q %v", v, err)
		}
		return nil
	})
	reader.Put("t", "back", "1")
	if took := time.Since(began); took > 1500*time.Millisecond {
		t.Errorf("it took %v", took)
	}
	c.Agree()
}

// TestNode_SparesFollowers ensures that a leader which has nothing to tell sends little, that its followers hear of it all
// the same, and that they learn of a write as soon as ever, also one that was started again meanwhile.
func TestNode_SparesFollowers(t *testing.T) {
	c, links, leader, reader := withReader(t)
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

// TestNode_GathersForNonvoters ensures that a nonvoter is sent many writes at a time, and its own ones at once.
func TestNode_GathersForNonvoters(t *testing.T) {
	c, links, leader, reader := withReader(t)
	voter := c.Nodes[0]
	if voter == leader {
		voter = c.Nodes[1]
	}
	stop := meanwhile(func(i int) bool {
		leader.Put("t", fmt.Sprint("other", i%10), fmt.Sprint(i))
		return true
	})
	defer stop()

	begin, began, sent := leader.Status().CommitIndex, time.Now(), links.Sent(leader, reader)
	var written uint64
	c.Eventually("much is written", func() error {
		if written = leader.Status().CommitIndex - begin; written < 1000 {
			return fmt.Errorf("%d entries", written)
		}
		return nil
	})
	took := time.Since(began)
	sent = links.Sent(leader, reader) - sent
	t.Logf("%d entries in %d messages within %v", written, sent, took)
	if most := 20 + int(took/(30*time.Millisecond)); sent > most {
		t.Errorf("%d entries were sent in %d messages", written, sent)
	}

	usual := func(n *clustertest.Node) time.Duration {
		var times []time.Duration
		for i := range 21 {
			key, began := fmt.Sprint(n.Config.Name, i), time.Now()
			n.Put("t", key, "v")
			n.Want("t", key, "v")
			times = append(times, time.Since(began))
		}
		slices.Sort(times)
		return times[len(times)/2]
	}
	there, here := usual(voter), usual(reader)
	t.Logf("an update takes %v at a voter, %v at the nonvoter", there, here)
	if here > there+15*time.Millisecond {
		t.Errorf("an update takes %v at a voter, %v at the nonvoter", there, here)
	}
}

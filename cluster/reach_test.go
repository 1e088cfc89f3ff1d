package cluster_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"postraft/cluster"
	"postraft/cluster/clustertest"
)

func reachText(list []cluster.Reached) string {
	var words []string
	for _, r := range list {
		words = append(words, fmt.Sprintf("%s %s %v", r.Name, r.Alive, r.Reached))
	}
	return strings.Join(words, ", ")
}

// TestReach_AllMembers ensures that a node knows when all members show a write, raft's own entries included, who
// does not, and that one that is away is not waited for.
func TestReach_AllMembers(t *testing.T) {
	c := clustertest.New(t, 3)
	c.Leader().Create("t")
	asked := c.Followers()[0]
	asked.Put("t", "k", "v")
	index := asked.TablesIndex()
	ctx, cancel := context.WithTimeout(context.Background(), clustertest.Patience)
	defer cancel()
	if got := reachText(asked.Reach(ctx, index, true)); got != "n1 alive true, n2 alive true, n3 alive true" {
		t.Errorf("all: %s", got)
	}
	if got := reachText(asked.Reach(ctx, asked.Status().CommitIndex, true)); strings.Contains(got, "false") {
		t.Errorf("commit index: %s", got)
	}
	if got := asked.Reach(ctx, index, false); len(got) != 1 || !got[0].Reached || got[0].Name != asked.Config.Name || got[0].AppliedIndex < index {
		t.Errorf("this node: %+v", got)
	}
	short, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	if got := reachText(asked.Reach(short, index+1000, true)); got != "n1 alive false, n2 alive false, n3 alive false" {
		t.Errorf("an index of the future: %s", got)
	}

	away := c.Followers()[1]
	away.Kill()
	clustertest.Eventually(t, "the member that is away is called failed", func() error {
		s := asked.Status()
		if len(s.Failed) != 1 || s.Failed[0] != away.Config.Name || !strings.Contains(strings.Join(s.Warnings, "\n"), "members that do not answer: "+away.Config.Name) {
			return fmt.Errorf("failed %v, warnings %q", s.Failed, s.Warnings)
		}
		return nil
	})
	asked.Put("t", "k", "w")
	got := reachText(asked.Reach(ctx, asked.TablesIndex(), true))
	if strings.Count(got, "alive true") != 2 || !strings.Contains(got, away.Config.Name+" failed false") {
		t.Errorf("with one away: %s", got)
	}
}

// TestStatus_Vitals ensures that a cluster that is well has nothing to warn of, and what a node measures of itself.
func TestStatus_Vitals(t *testing.T) {
	c := clustertest.New(t, 3)
	for _, n := range c.Nodes {
		clustertest.Eventually(t, "no warnings", func() error {
			s := n.Status()
			if len(s.Warnings) > 0 || len(s.Alive) != 3 || len(s.Failed) > 0 || s.Role != cluster.RoleVoter || s.VotersWanted != 3 || s.Behind > 0 || s.Disk != nil {
				return fmt.Errorf("%q %+v", s.Warnings, s.Vitals)
			}
			if leads := s.State == "leader"; leads != (s.Staleness == 0) || s.Staleness > 5*time.Second {
				return fmt.Errorf("%s, stale for %v", s.State, s.Staleness)
			}
			return nil
		})
	}
	rest := c.Leader()
	for _, n := range c.Followers() {
		n.Kill()
	}
	clustertest.Eventually(t, "warnings and staleness", func() error {
		s := rest.Status()
		if !strings.Contains(strings.Join(s.Warnings, "\n"), "no leader") || len(s.Failed) != 2 || s.Staleness == 0 {
			return fmt.Errorf("%q, failed %v, stale for %v", s.Warnings, s.Failed, s.Staleness)
		}
		return nil
	})
}

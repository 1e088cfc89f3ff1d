package cluster_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"postraft/cluster"
	"postraft/cluster/clustertest"
	"postraft/dict"
)

// TestNode_ConsistentReadAsksVoters ensures that a leader which is cut off from the other voters, and does not know it yet,
// answers no consistent read although a nonvoter still listens to it: the others have a leader of their own, and newer data.
func TestNode_ConsistentReadAsksVoters(t *testing.T) {
	var links clustertest.Links
	c := clustertest.NewWith(t, 3, func(cfg *cluster.Config) {
		links.Join(cfg)
		if cfg.Name == "n3" {
			cfg.HeartbeatTimeout = time.Hour // it does not depose itself
		}
	})
	listener := c.Add(func(cfg *cluster.Config) {
		links.Join(cfg)
		cfg.Nonvoter = true
	})
	listener.WaitReady()
	old := c.Nodes[2]
	ctx, cancel := context.WithTimeout(t.Context(), clustertest.Patience)
	defer cancel()
	if err := c.Leader().TransferLeader(ctx, old.Config.Name); err != nil {
		t.Fatal(err)
	}
	old.Create("t")
	old.Put("t", "k", "old")
	c.Agree()
	read := func(patience time.Duration) (string, error) {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		value, _, err := old.LookupConsistent(ctx, "t", []byte("k"))
		return string(value), err
	}
	if v, err := read(clustertest.Patience); err != nil || v != "old" {
		t.Fatalf("before: %q %v", v, err)
	}
	links.Part(old, listener)
	for _, n := range c.Nodes[:2] {
		n.Put("t", "k", "new")
	}
	if s := old.Status(); s.State != "leader" {
		t.Fatalf("the case did not come about: %+v", s)
	}
	if v, err := read(time.Second); !errors.Is(err, dict.ErrRetry) {
		t.Errorf("cut off: %q %v", v, err)
	}
	links.Heal()
	if v, err := read(clustertest.Patience); err != nil || v != "new" {
		t.Errorf("healed: %q %v", v, err)
	}
}

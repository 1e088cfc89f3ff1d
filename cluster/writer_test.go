package cluster_test

import (
	"errors"
	"testing"
	"time"

	"postraft/cluster/clustertest"
	"postraft/dict"
)

// TestNode_GivenUp ensures that a write whose caller gave up without a leader, and was told that it did not
// happen, does not happen later with the writes that it would have gone together with.
func TestNode_GivenUp(t *testing.T) {
	c := clustertest.New(t, 3)
	c.Leader().Create("t")
	c.Agree()
	n := c.Leader()
	others := c.Followers()
	for _, o := range others {
		o.Kill()
	}
	c.Eventually("nobody leads", func() error {
		if s := n.Status(); s.Leader != "" {
			return errors.New(s.Leader)
		}
		return nil
	})
	put := func(key string, patience time.Duration) <-chan error {
		result := make(chan error, 1)
		go func() { result <- n.TryPut("t", key, "v", patience) }()
		return result
	}
	first := put("first", 500*time.Millisecond)
	time.Sleep(100 * time.Millisecond) // it is under way alone, so that the next two wait, and then go together
	gaveUp, waits := put("gave up", 900*time.Millisecond), put("waits", clustertest.Patience)
	<-first
	if err := <-gaveUp; err == nil || errors.Is(err, dict.ErrUnknownOutcome) {
		t.Fatalf("a write without a leader: %v", err)
	}
	for _, o := range others {
		o.Start()
	}
	if err := <-waits; err != nil {
		t.Fatal(err)
	}
	n.Want("t", "waits", "v")
	n.Want("t", "gave up", "")
}

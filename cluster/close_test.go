package cluster_test

import (
	"context"
	"sync"
	"syscall"
	"testing"
	"time"

	"postraft/cluster"
	"postraft/cluster/clustertest"
	"postraft/cluster/store/storetest"
)

// ends fails the test when the node does not end in time.
func ends(t *testing.T, n *clustertest.Node) {
	t.Helper()
	go n.Kill()
	select {
	case <-n.Done():
	case <-time.After(clustertest.Patience):
		t.Fatal("the node does not end")
	}
}

// TestNode_EndsWithRequests ensures that a node ends though its raft was too busy to take the requests that wait
// for it, and never answers them.
func TestNode_EndsWithRequests(t *testing.T) {
	disk := storetest.New()
	c := clustertest.NewWith(t, 1, func(cfg *cluster.Config) { cfg.LogFS = disk })
	n := c.Nodes[0]
	n.Create("t")
	disk.Fail(syscall.EIO, 0)
	ctx, cancel := context.WithTimeout(t.Context(), clustertest.Patience)
	defer cancel()
	var asking sync.WaitGroup
	defer asking.Wait()
	asking.Go(func() { n.TryPut("t", "k", "v", clustertest.Patience) })
	for range 3 {
		asking.Go(func() { n.LookupConsistent(ctx, "t", []byte("k")) })
	}
	time.Sleep(50 * time.Millisecond) // shorter than it takes the node to see that its disk fails
	ends(t, n)
}

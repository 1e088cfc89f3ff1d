package cluster_test

import (
	"context"
	"syscall"
	"testing"
	"time"

	"postraft/cluster"
	"postraft/cluster/clustertest"
	"postraft/cluster/store/storetest"
)

// TestNode_LeadsOnceItCanWrite ensures that a leader whose disk was full when it was elected does a leader's work
// when there is room again, though it was never deposed: it answers consistent reads and takes nodes in.
func TestNode_LeadsOnceItCanWrite(t *testing.T) {
	disk := storetest.New()
	c := clustertest.NewWith(t, 1, func(cfg *cluster.Config) { cfg.LogFS = disk })
	n := c.Nodes[0]
	n.Create("t")
	n.Put("t", "k", "v")
	n.Kill()
	disk.Fail(syscall.ENOSPC, 0)
	n.Start()
	c.Leader()
	time.Sleep(2500 * time.Millisecond) // longer than raft is given to take an entry
	disk.Heal()
	c.Eventually("a consistent read is answered", func() error {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, _, err := n.LookupConsistent(ctx, "t", []byte("k"))
		return err
	})
	c.Add(nil).WaitReady()
}

package cluster_test

import (
	"context"
	"net"
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

// TestNode_EndsBesideFrozenPeer ensures that a node ends in time while a peer takes its requests and answers none, as
// one does that was stopped.
func TestNode_EndsBesideFrozenPeer(t *testing.T) {
	c := clustertest.New(t, 3)
	n, frozen := c.Leader(), c.Followers()[0]
	played := identity(t, c.Secret, frozen.Status().ID, "postraft-raft/1")
	frozen.Kill()
	ln, err := net.Listen("tcp", frozen.Config.Bind)
	if err != nil {
		t.Fatal(err)
	}
	var conns sync.WaitGroup
	defer conns.Wait()
	defer ln.Close()
	asked := make(chan struct{})
	var once sync.Once
	conns.Go(func() {
		for {
			raw, err := ln.Accept()
			if err != nil {
				return
			}
			conns.Go(func() {
				defer raw.Close()
				conn, err := played.Server(t.Context(), raw)
				if err != nil {
					return
				}
				for buf := make([]byte, 4096); ; once.Do(func() { close(asked) }) {
					if _, err := conn.Read(buf); err != nil {
						return
					}
				}
			})
		}
	})
	select {
	case <-asked:
	case <-time.After(clustertest.Patience):
		t.Fatal("the frozen peer was not asked")
	}
	began := time.Now()
	if err := n.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > 4*time.Second {
		t.Errorf("it took %v", took)
	}
}

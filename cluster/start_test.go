package cluster_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"postraft/cluster"
	"postraft/cluster/clustertest"
	"postraft/dict"
)

// TestTable_Start ensures that updates nobody waits for end as those do that somebody waits for, on any node, and are
// told of once.
func TestTable_Start(t *testing.T) {
	c := clustertest.New(t, 3)
	c.Nodes[0].Create("t")
	c.Agree()
	for _, n := range c.Nodes {
		var under sync.WaitGroup
		for i := range 100 {
			key := []byte(fmt.Sprintf("%s-%d", n.Status().Name, i))
			done := make(chan struct{})
			change, err := n.Table("t").Start(key, []byte("1"), clustertest.Patience, func() { close(done) }) // twice would panic
			if err != nil {
				t.Fatal(err)
			}
			copy(key, "xx") // the memory is ours again
			under.Go(func() {
				<-done
				if err := change.Outcome(); err != nil {
					t.Error(err)
				}
			})
		}
		under.Wait()
		for i := range 100 {
			n.Want("t", fmt.Sprintf("%s-%d", n.Status().Name, i), "1")
		}
	}
	c.Agree()

	n, never := c.Nodes[1], func() { t.Error("told of an update that was refused") }
	if _, err := n.Table("t").Start([]byte(strings.Repeat("k", dict.MaxKeyLen+1)), nil, time.Second, never); !errors.Is(err, dict.ErrBadSource) {
		t.Errorf("a key that is too long: %v", err)
	}
	done := make(chan struct{})
	missing, err := n.Table("missing").Start([]byte("k"), nil, clustertest.Patience, func() { close(done) })
	if err != nil {
		t.Fatal(err)
	}
	<-done
	if err := missing.Outcome(); !errors.Is(err, dict.ErrNoTable) {
		t.Errorf("a table that is not there: %v", err)
	}
	n.Kill()
	if _, err := n.Table("t").Start([]byte("k"), nil, time.Second, never); !errors.Is(err, cluster.ErrClosed) {
		t.Errorf("a node that was closed: %v", err)
	}
}

// TestTable_StartGivenUp ensures that an update that is given up is not told of afterwards, does not happen where the
// answer was that it did not, and keeps no other from being made; and that a node that ends tells of what waits.
func TestTable_StartGivenUp(t *testing.T) {
	c := clustertest.New(t, 1)
	n := c.Nodes[0]
	n.Create("t")
	release := n.HoldProposals()
	never := func() { t.Error("told of an update that was given up") }
	var outcomes []error
	for i := range 3 { // the first may be under way, those behind it wait
		change, err := n.Table("t").Start(fmt.Append(nil, "k", i), []byte("v"), clustertest.Patience, never)
		if err != nil {
			t.Fatal(err)
		}
		err = change.Outcome()
		if !errors.Is(err, dict.ErrRetry) && !errors.Is(err, dict.ErrUnknownOutcome) {
			t.Fatalf("given up: %v", err)
		}
		outcomes = append(outcomes, err)
	}
	release()
	n.Put("t", "other", "v")
	for i, err := range outcomes {
		if v, found, _ := n.Table("t").Lookup(fmt.Append(nil, "k", i)); found && !errors.Is(err, dict.ErrUnknownOutcome) {
			t.Errorf("update %d: %v, and there is %q", i, err, v)
		}
	}

	defer n.HoldProposals()()
	told := make(chan struct{})
	change, err := n.Table("t").Start([]byte("last"), []byte("v"), clustertest.Patience, func() { close(told) })
	if err != nil {
		t.Fatal(err)
	}
	ends(t, n)
	select {
	case <-told:
		if change.Outcome() == nil {
			t.Error("the update was made by a node that could not")
		}
	case <-time.After(clustertest.Patience):
		t.Fatal("the node did not tell of what waited when it ended")
	}
}

package cluster

import (
	"context"
	"sync/atomic"
	"testing"
	"time"
)

// TestGathering ensures that who comes alone is not kept waiting, that those who were served together are awaited, and that
// this ends when not all of them come back.
func TestGathering(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	g := newGathering()
	var there atomic.Int64
	waiting := func() int { return int(there.Load()) }
	began := make(chan bool, 1)
	wait := func() { began <- g.wait(ctx, waiting) }
	come := func() {
		there.Add(1)
		g.came()
	}
	not := func(what string) {
		t.Helper()
		select {
		case <-began:
			t.Fatalf("a round begins %s", what)
		case <-time.After(20 * time.Millisecond): // nothing is to happen
		}
	}
	go wait()
	not("with nobody")
	come()
	<-began
	g.begin()
	g.began = time.Now().Add(-time.Hour) // a long round, so that there is patience behind it
	g.end(3)
	there.Store(0)
	go wait()
	come()
	not("with one of three")
	come()
	not("with two of three")
	come()
	<-began
	g.begin()
	g.end(3) // a short one
	there.Store(0)
	go wait()
	come()
	<-began // though two are missing
	g.end(1000)
	if g.want != gatherMost {
		t.Errorf("%d are awaited, want %d at most", g.want, gatherMost)
	}
	there.Store(0)
	go wait()
	cancel()
	if <-began {
		t.Error("a round begins at the end")
	}
}

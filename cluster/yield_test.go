package cluster

import (
	"testing"
	"time"
)

// TestYielder ensures that others are let run when their time has come, and not before.
func TestYielder(t *testing.T) {
	var y yielder
	began := time.Now()
	y.yield()
	if y.next.Before(began) {
		t.Error("others were not let run")
	}
	later := time.Now().Add(time.Hour) // they ran for twenty minutes
	y.next = later
	if y.yield(); y.next != later {
		t.Error("others were let run again at once")
	}
}

package main

import "testing"

// TestPercentFor ensures that the garbage collector has much room beside small tables, less beside large ones, and little
// while a table is there twice.
func TestPercentFor(t *testing.T) {
	for _, c := range []struct {
		live, room uint64 // MiB
		replacing  bool
	}{
		{1, 8, false}, // of a heap of 4 at least
		{10, 32, false},
		{60, 32, false},
		{75, 21, false},
		{100, 16, false},
		{1000, 120, false},
		{60, 32, true},
		{85, 11, true},
		{100, 4, true},
		{1000, 30, true},
	} {
		if room := c.live * uint64(percentFor(c.live<<20, c.replacing)) / 100; room < c.room-1 || room > c.room {
			t.Errorf("%d MiB in use, replacing %v: room for %d MiB, want %d", c.live, c.replacing, room, c.room)
		}
	}
}

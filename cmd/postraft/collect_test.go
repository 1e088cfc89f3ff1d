package main

import "testing"

// TestPercentFor ensures that the garbage collector has much room beside small tables and less beside large ones.
func TestPercentFor(t *testing.T) {
	for _, c := range []struct{ live, room uint64 }{ // MiB
		{1, 8}, // of a heap of 4 at least
		{10, 32},
		{60, 32},
		{75, 21},
		{100, 16},
		{1000, 120},
	} {
		if room := c.live * uint64(percentFor(c.live<<20)) / 100; room < c.room-1 || room > c.room {
			t.Errorf("%d MiB in use: room for %d MiB, want %d", c.live, room, c.room)
		}
	}
}

package main

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// How many bytes may be allocated between two collections, at least. Tables are large blocks that the collector need not
// look into, so a collection takes a few milliseconds whatever is in them, and collecting often keeps the process near the
// size of its tables. With small tables a collection is mostly its fixed cost, and there is room.
const (
	collectRoom    = 32 << 20
	collectLeast   = 16 << 20
	collectUpTo    = 96 << 20 // in use and room together, as long as there is more than collectLeast
	collectPercent = 12       // of what is in use: what a collection costs grows with that
)

// A collector sets how much the heap may grow until the next collection, after each one.
type collector struct{ percent int }

// keep begins. It goes on for as long as the process lives; the finalizers that it makes are called once for each
// collection.
func (c *collector) keep() {
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(live)
	if percent := percentFor(live[0].Value.Uint64()); percent > c.percent*9/8 || percent < c.percent*7/8 {
		c.percent = percent
		debug.SetGCPercent(percent)
	}
	type sentinel struct{ c *collector }
	runtime.SetFinalizer(&sentinel{c}, func(s *sentinel) { s.c.keep() })
}

// percentFor returns the growth for a heap in which so many bytes are in use.
func percentFor(live uint64) int {
	room := max(min(collectRoom, collectUpTo-int64(live)), collectLeast)
	return int(max(collectPercent, room*100/max(int64(live), 4<<20)))
}

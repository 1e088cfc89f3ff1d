package main

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

const (
	// Tables are large blocks that the collector need not look into, so collecting often costs little and keeps the
	// process near the size of its tables.
	collectPercent = 40

	// collectRoom is how many bytes may be allocated between two collections at least: with small tables each of them
	// is mostly its fixed cost.
	collectRoom = 32 << 20
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
	return int(max(collectPercent, collectRoom*100/max(live, 4<<20)))
}

package main

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync/atomic"

	"postraft/cluster"
)

// How many bytes may be allocated between two collections, at least. Tables are large blocks that the collector need not
// look into, so a collection takes a few milliseconds whatever is in them, and collecting often keeps the process near the
// size of its tables. With small tables a collection is mostly its fixed cost, and there is room; a host that has room for
// a large table once need not have it for much more than the two versions that live side by side while it is replaced: then
// collections are so frequent that they cost the import of a million entries a twentieth, and that of ten million much
// more. A table that comes to an empty place needs no more than it will at the end, so with large heaps that is left out; with
// small ones any load counts, for the next one may replace it, and the first collection of that would be late.
const (
	collectRoom    = 32 << 20
	collectLeast   = 16 << 20
	collectUpTo    = 96 << 20 // in use and room together, as long as there is more than collectLeast
	collectPercent = 12       // of what is in use: what a collection costs grows with that

	loadingLeast   = 4 << 20 // while tables are loaded; with more than loadingUpTo, while they are replaced
	loadingPercent = 3
	loadingUpTo    = 256 << 20 // in use: up to here it costs little
	loadingAfter   = 32        // collections: some hold on to the version before for a moment
)

// A collector sets how much the heap may grow until the next collection, after each one.
type collector struct {
	percent int
	loading int                          // collections, from the last one that saw a table being loaded, for which it counts
	twice   bool                         // one of them replaces a table
	node    atomic.Pointer[cluster.Node] // nil where there is none
}

// keep begins. It goes on for as long as the process lives; the finalizers that it makes are called once for each
// collection.
func (c *collector) keep() {
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(live)
	used := live[0].Value.Uint64()
	c.twice = c.twice && c.loading > 0
	if node := c.node.Load(); node != nil && node.Stages() > 0 {
		replacing := node.Replacing() > 0
		if replacing || used < loadingUpTo {
			c.loading = loadingAfter
		}
		c.twice = c.twice || replacing
	}
	c.loading = max(0, c.loading-1)
	if percent := percentFor(used, c.loading > 0 && (c.twice || used < loadingUpTo)); percent > c.percent*9/8 || percent < c.percent*7/8 {
		c.percent = percent
		debug.SetGCPercent(percent)
	}
	type sentinel struct{ c *collector }
	runtime.SetFinalizer(&sentinel{c}, func(s *sentinel) { s.c.keep() })
}

// percentFor returns the growth for a heap in which so many bytes are in use.
func percentFor(live uint64, loading bool) int {
	least, percent := int64(collectLeast), int64(collectPercent)
	if loading {
		least, percent = loadingLeast, loadingPercent
	}
	room := max(min(collectRoom, collectUpTo-int64(live)), least)
	return int(max(percent, room*100/max(int64(live), 4<<20)))
}

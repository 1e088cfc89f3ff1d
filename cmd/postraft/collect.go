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
// more. A table that comes to an empty place needs no more than it will at the end, so that is left out: frequent collections
// cost the import of ten million entries a tenth, and saved nothing when it was replaced later.
const (
	collectRoom    = 32 << 20
	collectLeast   = 16 << 20
	collectUpTo    = 96 << 20 // in use and room together, as long as there is more than collectLeast
	collectPercent = 12       // of what is in use: what a collection costs grows with that

	replacingLeast   = 4 << 20 // while tables are replaced
	replacingPercent = 3
	replacingAfter   = 32 // collections: some hold on to the version before for a moment
)

// A collector sets how much the heap may grow until the next collection, after each one.
type collector struct {
	percent   int
	replacing int                          // collections, from the last one that saw a table being replaced, for which it counts
	node      atomic.Pointer[cluster.Node] // nil where there is none
}

// keep begins. It goes on for as long as the process lives; the finalizers that it makes are called once for each
// collection.
func (c *collector) keep() {
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(live)
	used := live[0].Value.Uint64()
	c.replacing = max(0, c.replacing-1)
	if node := c.node.Load(); node != nil && node.Replacing() > 0 {
		c.replacing = replacingAfter
	}
	if percent := percentFor(used, c.replacing > 0); percent > c.percent*9/8 || percent < c.percent*7/8 {
		c.percent = percent
		debug.SetGCPercent(percent)
	}
	type sentinel struct{ c *collector }
	runtime.SetFinalizer(&sentinel{c}, func(s *sentinel) { s.c.keep() })
}

// percentFor returns the growth for a heap in which so many bytes are in use.
func percentFor(live uint64, replacing bool) int {
	least, percent := int64(collectLeast), int64(collectPercent)
	if replacing {
		least, percent = replacingLeast, replacingPercent
	}
	room := max(min(collectRoom, collectUpTo-int64(live)), least)
	return int(max(percent, room*100/max(int64(live), 4<<20)))
}

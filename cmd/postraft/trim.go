package main

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	trimInterval = 3 * time.Second
	trimAfter    = 32 << 20 // bytes allocated since the last time that make it worth while
	trimQuiet    = 4 << 20  // bytes allocated in one interval up to which the agent counts as quiet
)

// trim gives memory back to the system once a burst, such as an import, is over. The runtime by itself keeps what the
// burst took for minutes, and an agent shares its host with the mail it serves.
func trim(ctx context.Context) {
	tick := time.NewTicker(trimInterval)
	defer tick.Stop()
	var at trimmer
	for {
		select {
		case <-tick.C:
			if at.due(allocated()) {
				debug.FreeOSMemory()
			}
		case <-ctx.Done():
			return
		}
	}
}

// A trimmer decides when memory is given back.
type trimmer struct{ trimmed, last uint64 } // bytes allocated at the last time, and at the last look

// due reports whether a burst is over, given all bytes allocated so far.
func (t *trimmer) due(total uint64) bool {
	quiet := total-t.last <= trimQuiet
	t.last = total
	if !quiet || total-t.trimmed < trimAfter {
		return false
	}
	t.trimmed = total
	return true
}

func allocated() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

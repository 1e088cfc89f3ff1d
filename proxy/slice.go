package proxy

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// loopSlice is how long a turn of a loop's thread on a processor is, in nanoseconds: the least that Linux takes.
const loopSlice = 100_000

// takeShortTurns keeps the calling goroutine on a thread of its own that asks the scheduler for short turns, which it gets
// sooner: with turns of the same length for all, who answers a lookup waits for the end of the turn, 4 ms with some kernels,
// of whoever has the processor, which may be another thread of this process that applies an import. No thread gets more
// of the processor by that, so it takes no privilege. Before Linux 6.12 it changes nothing.
//
// The thread ends with the goroutine.
func takeShortTurns() {
	runtime.LockOSThread()
	attr, err := unix.SchedGetAttr(0, 0)
	if err != nil || attr.Policy != unix.SCHED_NORMAL && attr.Policy != unix.SCHED_BATCH {
		return // it is what the operator made it
	}
	attr.Runtime = loopSlice
	_ = unix.SchedSetAttr(0, attr, 0) // it is as it was then
}

// yieldFrom is how many connections a loop serves at once before it lets others run. With fewer it costs up to a fifth of the rate.
const yieldFrom = 8

// yield lets other threads run that wait for this processor. With many clients the next requests are there when all have their
// replies, so that a loop never waits, and how short its turns are counts for nothing: the kernel ends them at its next
// tick, 4 ms with some, while those wait who shall read the replies.
func yield() { unix.Syscall(unix.SYS_SCHED_YIELD, 0, 0, 0) }

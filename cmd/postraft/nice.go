package main

import (
	"path/filepath"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

// bulkNice is the niceness of commands that keep processors busy for a while: beside the agents and Postfix they take what
// is left over, and a tenth at least.
const bulkNice = 10

// leaveProcessor has one processor less run this process, if there are several. Niceness does not help who has waited
// for something and finds all processors busy: that takes until the kernel's next tick, with or without.
func leaveProcessor() { runtime.GOMAXPROCS(max(1, runtime.GOMAXPROCS(0)-1)) }

// lowerPriority makes this process as nice as bulkNice, if it is not nicer yet. Linux keeps a niceness for each thread, and
// new ones have that of the thread that makes them, so all of them get it. A failure only leaves a thread as it was.
func lowerPriority() {
	for range 2 { // a thread may make another one meanwhile
		tasks, _ := filepath.Glob("/proc/self/task/*")
		for _, task := range tasks {
			id, err := strconv.Atoi(filepath.Base(task))
			if err != nil {
				continue
			}
			// The system call returns 20 - niceness.
			if now, err := unix.Getpriority(unix.PRIO_PROCESS, id); err == nil && 20-now < bulkNice {
				unix.Setpriority(unix.PRIO_PROCESS, id, bulkNice)
			}
		}
	}
}

// gentle is called by commands that are to leave the processors to others.
func (a *app) gentle() {
	if a.lowerPriority != nil {
		a.lowerPriority()
		if _, ok := a.lookup("GOMAXPROCS"); !ok {
			leaveProcessor()
		}
	}
}

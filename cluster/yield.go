package cluster

import (
	"io"
	"iter"
	"time"

	"golang.org/x/sys/unix"
)

// A yielder lets other threads run between pieces of work that has much to do at once: the kernel ends a turn at its next tick,
// 4 ms with some, and who answers a lookup would wait for that. It belongs to one goroutine, which calls yield every
// fraction of a millisecond.
type yielder struct{ next time.Time }

// yieldShare is how many times as long as the others have run the work goes on before they may again. On a machine that is
// busy with something else they run for milliseconds each time.
const yieldShare = 3

// yield gives this processor away, if there is somebody for it.
func (y *yielder) yield() {
	began := time.Now()
	if began.Before(y.next) {
		return
	}
	unix.Syscall(unix.SYS_SCHED_YIELD, 0, 0, 0)
	ended := time.Now()
	y.next = ended.Add(yieldShare * ended.Sub(began))
}

// yieldEntries is after how many entries of an import others may run.
const yieldEntries = 1024

// yielding returns the same entries.
func yielding(entries iter.Seq2[[]byte, []byte]) iter.Seq2[[]byte, []byte] {
	return func(take func(key, value []byte) bool) {
		var y yielder
		n := 0
		for key, value := range entries {
			if n++; n%yieldEntries == 0 {
				y.yield()
			}
			if !take(key, value) {
				return
			}
		}
	}
}

// yieldingReader lets others run before each Read.
type yieldingReader struct {
	io.ReadCloser
	yielder
}

// Read implements io.Reader.
func (r *yieldingReader) Read(b []byte) (int, error) {
	r.yield()
	return r.ReadCloser.Read(b)
}

package handoff

import (
	"fmt"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// spareFDs is the number of descriptors that connections leave to the rest of the agent: without one for its log or for
// another node it could not go on.
const spareFDs = 256

// room counts the connections of all links.
type room struct {
	most  int64
	taken atomic.Int64
}

// mostConns returns how many connections the limit of descriptors allows, half of them where it is very low.
func mostConns() (int64, error) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 0, fmt.Errorf("ask for the limit of open files: %w", err)
	}
	files := int64(min(limit.Cur, 1<<30))
	return max(files-spareFDs, files/2), nil
}

// take reserves the place of one connection, until give.
func (r *room) take() error {
	if n := r.taken.Add(1); n > r.most {
		r.taken.Add(-1)
		return fmt.Errorf("%d connections are all that the limit of open files allows: raise it (LimitNOFILE= in the unit, ulimit -n)", r.most)
	}
	return nil
}

func (r *room) give() { r.taken.Add(-1) }

package handoff

import (
	"errors"
	"fmt"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A page is memory that a front end and an agent share: a mark for each connection of a link, which says who
// may read it now. The agent moves a mark with one atomic operation before it reads and one after it has
// answered; the front end takes connections back by it when the agent is dead, or cannot be asked.
type page struct {
	mem []byte
}

// What a mark says.
const (
	markFresh uint32 = iota // the agent has neither read nor written anything
	markIdle                // all that the agent has read is answered
	markBusy                // the agent may be anywhere in a request or a reply
	markTaken               // the front end has taken the connection back: the agent leaves it alone
)

const (
	markSpace = 64 // a cache line each: connections are served by different processors
	pageSize  = maxLinkConns * markSpace
	pageSeals = unix.F_SEAL_SHRINK | unix.F_SEAL_GROW
)

// newPage makes a page and returns the descriptor by which an agent maps it too.
func newPage() (p *page, fd int, err error) {
	fd, err = unix.MemfdCreate("postraft-handoff", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING|unix.MFD_NOEXEC_SEAL)
	if err == unix.EINVAL { // before Linux 6.3
		fd, err = unix.MemfdCreate("postraft-handoff", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	}
	if err != nil {
		return nil, -1, fmt.Errorf("make shared memory: %w", err)
	}
	if err = unix.Ftruncate(fd, pageSize); err == nil {
		// Nobody can take the memory from under the agent.
		_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, pageSeals|unix.F_SEAL_SEAL)
	}
	if err == nil {
		p, err = mapPage(fd)
	}
	if err != nil {
		unix.Close(fd)
		return nil, -1, fmt.Errorf("make shared memory: %w", err)
	}
	return p, fd, nil
}

// openPage maps a page that a front end has made. It does not consume fd.
func openPage(fd int) (*page, error) {
	seals, err := unix.FcntlInt(uintptr(fd), unix.F_GET_SEALS, 0)
	if err != nil {
		return nil, fmt.Errorf("shared memory: ask for its seals: %w", err)
	}
	var info unix.Stat_t
	if err := unix.Fstat(fd, &info); err != nil {
		return nil, fmt.Errorf("shared memory: ask for its size: %w", err)
	}
	if seals&pageSeals != pageSeals || info.Size < pageSize {
		return nil, errors.New("shared memory: too small, or not sealed against shrinking")
	}
	return mapPage(fd)
}

func mapPage(fd int) (*page, error) {
	mem, err := unix.Mmap(fd, 0, pageSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map shared memory: %w", err)
	}
	return &page{mem}, nil
}

// close unmaps the memory. No mark may be used after it.
func (p *page) close() {
	if p != nil {
		unix.Munmap(p.mem)
	}
}

func (p *page) mark(slot int) *mark {
	return (*mark)(unsafe.Pointer(&p.mem[slot*markSpace]))
}

// A mark is one connection's place in a page.
type mark struct{ state atomic.Uint32 }

// Enter implements proxy.Gate, for the agent.
func (m *mark) Enter() bool {
	return m.state.CompareAndSwap(markIdle, markBusy) || m.state.CompareAndSwap(markFresh, markBusy)
}

// Leave implements proxy.Gate. The front end takes no busy connection, so nothing is overwritten.
func (m *mark) Leave() { m.state.Store(markIdle) }

// begin is for the front end, before it hands a connection over.
func (m *mark) begin() { m.state.Store(markFresh) }

// take is for the front end: it takes the connection back unless the agent is in a request. fresh says that the
// agent has not even begun, so that all is as it was when the connection was handed over.
func (m *mark) take() (fresh, ok bool) {
	if m.state.CompareAndSwap(markFresh, markTaken) {
		return true, true
	}
	return false, m.state.CompareAndSwap(markIdle, markTaken)
}

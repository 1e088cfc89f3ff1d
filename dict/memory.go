package dict

import (
	"sync"
	"unsafe"
)

// A memory hands out what a Source is made of, to any goroutine.
type memory struct {
	onSlab func([]byte) // nil: there are no slabs
	text   sync.Pool

	mu   sync.Mutex
	rest []byte // of the slab that was made last
	made int    // bytes of all slabs
}

// slabBytes is how large a slab gets.
const slabBytes = 8 << 20

// bytes returns an empty slice with a capacity of n.
func (m *memory) bytes(n int) []byte {
	if m.onSlab == nil {
		return make([]byte, 0, n)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.rest) < n {
		m.rest = make([]byte, max(n, min(m.made, slabBytes)))
		m.made += len(m.rest)
		m.onSlab(m.rest)
	}
	b := m.rest[:0:n]
	m.rest = m.rest[n:]
	return b
}

// refs returns n refs.
func (m *memory) refs(n int) []sourceRef {
	refs := make([]sourceRef, n)
	if m.onSlab != nil && n > 0 {
		m.onSlab(unsafe.Slice((*byte)(unsafe.Pointer(&refs[0])), n*int(unsafe.Sizeof(refs[0]))))
	}
	return refs
}

// A rough is text and its lines, as they are read.
type rough struct {
	text  []byte
	lines []LogicalLine // their Texts are in text
}

// rough returns an empty one with room for so much text, or more.
func (m *memory) rough(size int) rough {
	if r, ok := m.text.Get().(*rough); ok && cap(r.text) >= size {
		return *r
	}
	return rough{make([]byte, 0, size), make([]LogicalLine, 0, size/64)}
}

// done takes a rough back that is not looked at any more.
func (m *memory) done(r rough) {
	if cap(r.text) <= partText { // larger ones make larger parts
		m.text.Put(&rough{r.text[:0], r.lines[:0]})
	}
}

package proxy

import (
	"bytes"
	"container/list"
	"sync"
)

// maxCursors bounds how many scans are remembered; the one that was idle for longest goes. A client whose
// cursor is gone goes on from the beginning of the table, which a cache cleaner takes well.
const maxCursors = 1024

// cursors remembers how far each client has come in each table: the key that it was given last. A cursor
// belongs to a process and a table, not to a connection, because Postfix's cache cleaner drops idle
// connections in the middle of a scan. Going on by key, a scan neither skips nor repeats entries that were
// there all the time, whatever is deleted and inserted meanwhile.
type cursors struct {
	mu    sync.Mutex
	byKey map[cursorKey]*list.Element
	lru   list.List // of *cursor, the newest in front
}

type cursorKey struct {
	service string
	pid     int
	table   string
}

type cursor struct {
	cursorKey
	last []byte // nil before the first entry
	end  bool   // the scan has come to the end of the table

	// The entries that the client was given last. When it deletes one of them, it does so because of the value that
	// it has seen: Postfix's cache cleaner deletes behind itself, after it was given the next entry, or the one behind
	// that where the next is its own note of when it has cleaned last. What another host has written meanwhile stays.
	read [3]entry
}

type entry struct {
	key, value []byte
	there      bool
}

// get returns a copy of the cursor.
func (c *cursors) get(k cursorKey) (last []byte, end bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.byKey[k]
	if !ok {
		return nil, false
	}
	c.lru.MoveToFront(e)
	cur := e.Value.(*cursor)
	return cur.last, cur.end
}

// given returns the value of a key as the client was given it by one of its last three steps, unless it has written
// the key since.
func (c *cursors) given(k cursorKey, key []byte) (value []byte, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.byKey[k]; ok {
		for _, r := range e.Value.(*cursor).read {
			if r.there && bytes.Equal(r.key, key) {
				return r.value, true
			}
		}
	}
	return nil, false
}

// forget is called when the client writes a key.
func (c *cursors) forget(k cursorKey, key []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.byKey[k]; ok {
		cur := e.Value.(*cursor)
		for i, r := range cur.read {
			if r.there && bytes.Equal(r.key, key) {
				cur.read[i] = entry{}
			}
		}
	}
}

// set moves the cursor behind the entry last, which it copies, or to the end of the table.
func (c *cursors) set(k cursorKey, last, value []byte, end bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	next := &cursor{cursorKey: k, last: bytes.Clone(last), end: end}
	if e, ok := c.byKey[k]; ok {
		copy(next.read[1:], e.Value.(*cursor).read[:])
	}
	if !end {
		next.read[0] = entry{next.last, bytes.Clone(value), true}
	}
	if next.last == nil && last != nil {
		next.last = []byte{}
	}
	if e, ok := c.byKey[k]; ok {
		e.Value = next
		c.lru.MoveToFront(e)
		return
	}
	if c.byKey == nil {
		c.byKey = map[cursorKey]*list.Element{}
	}
	c.byKey[k] = c.lru.PushFront(next)
	if c.lru.Len() > maxCursors {
		oldest := c.lru.Back()
		c.lru.Remove(oldest)
		delete(c.byKey, oldest.Value.(*cursor).cursorKey)
	}
}

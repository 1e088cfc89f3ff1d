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

// set moves the cursor behind last, which it copies, or to the end of the table.
func (c *cursors) set(k cursorKey, last []byte, end bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	next := &cursor{k, bytes.Clone(last), end}
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

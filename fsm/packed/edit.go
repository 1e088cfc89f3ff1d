package packed

import (
	"encoding/binary"
	"fmt"

	"github.com/zeebo/xxh3"
)

var errOrder = fmt.Errorf("%w: keys do not ascend", ErrCorrupt)

func uint128(d Digest) xxh3.Uint128 {
	return xxh3.Uint128{Lo: binary.LittleEndian.Uint64(d[:8]), Hi: binary.LittleEndian.Uint64(d[8:])}
}

// An Editor makes the next version of a table. It belongs to one goroutine; the table that it began with
// does not change.
type Editor struct {
	t       Table
	encoded []byte
	old     []byte // encoded entry that the one that is put replaces
	entries [][]byte
}

// Edit returns an Editor that begins with t.
func (t *Table) Edit() *Editor { return &Editor{t: *t} }

// Table returns the edited table and ends the Editor.
func (e *Editor) Table() *Table {
	if e.t.root != nil {
		e.t.root.publish(e)
	}
	t := e.t
	return &t
}

// publish takes the right to change in place from the nodes that belong to e.
func (n *node) publish(e *Editor) {
	if n.owner != e {
		return
	}
	n.owner = nil
	n.seps.setHeads()
	for _, kid := range n.kids {
		kid.publish(e)
	}
}

// Get returns the value of key as it is now. The value is valid until the next change.
func (e *Editor) Get(key []byte) (value []byte, ok bool) { return e.t.Get(key) }

// Len returns the number of entries as it is now.
func (e *Editor) Len() int { return e.t.Len() }

// First returns the entry with the smallest key as it is now. The slices are valid until the next change.
func (e *Editor) First() (key, value []byte, ok bool) { return e.t.Next(nil) }

// Put adds an entry or replaces the value of its key. It copies both, and returns the value before, if there was one.
func (e *Editor) Put(key, value []byte) (old []byte, had bool) {
	e.encoded = appendEntry(e.encoded[:0], key, value)
	e.t.bytes += int64(len(key) + len(value))
	e.t.count++
	e.t.digest.add(xxh3.Hash128(e.encoded))
	e.old = nil
	if e.t.root == nil {
		n := &node{owner: e, blocks: []block{makeBlock([][]byte{e.encoded}, len(e.encoded))}}
		n.seps.push(key)
		e.t.root = n
		return nil, false
	}
	root, right := e.put(e.t.root, key)
	if right != nil {
		up := &node{owner: e, kids: []*node{root, right}}
		up.seps.push(root.seps.at(0))
		up.seps.push(right.seps.at(0))
		root = up
	}
	e.t.root = root
	if e.old == nil {
		return nil, false
	}
	_, old = decodeEntry(e.old)
	return old, true
}

// put puts e.encoded below n and returns what replaces n: one node or two.
func (e *Editor) put(n *node, key []byte) (left, right *node) {
	n = e.own(n)
	i := n.seps.child(key)
	if n.kids != nil {
		kid, extra := e.put(n.kids[i], key)
		n.kids[i] = kid
		if extra != nil {
			n.kids = insert(n.kids, i+1, extra)
			n.seps.insert(i+1, extra.seps.at(0))
		}
		return e.split(n)
	}
	b := n.blocks[i]
	at, found := b.lookup(key)
	if found {
		e.old = b.raw(at)
		e.forget(e.old)
	} else {
		at, _ = b.find(key)
	}
	if next, ok := b.splice(at, e.old, e.encoded); ok {
		n.blocks[i] = next
		return n, nil
	}
	e.entries = e.entries[:0]
	body := 0
	for j := range b.count() {
		if j == at {
			e.entries = append(e.entries, e.encoded)
			body += len(e.encoded)
			if found {
				continue
			}
		}
		raw := b.raw(j)
		e.entries = append(e.entries, raw)
		body += len(raw)
	}
	if at == b.count() {
		e.entries = append(e.entries, e.encoded)
		body += len(e.encoded)
	}
	parts := e.cut(body, at == b.count() && i == n.len()-1)
	n.blocks[i] = parts[0]
	for j, part := range parts[1:] {
		n.blocks = insert(n.blocks, i+1+j, part)
		n.seps.insert(i+1+j, part.key(0))
	}
	return e.split(n)
}

// forget takes an encoded entry out of the sums.
func (e *Editor) forget(raw []byte) {
	key, value := decodeEntry(raw)
	e.t.count--
	e.t.bytes -= int64(len(key) + len(value))
	e.t.digest.sub(xxh3.Hash128(raw))
}

// cut makes one block of e.entries, or two or three where they do not fit. With ascending set the new
// entry is the last of the table and the others stay together, so that ascending keys fill their blocks.
func (e *Editor) cut(body int, ascending bool) []block {
	if len(e.entries) == 1 || taggedSize(len(e.entries), body) <= blockSize {
		return []block{makeBlock(e.entries, body)}
	}
	var parts []block
	from, size := 0, 0
	half := body / 2
	if ascending {
		half = body - len(e.entries[len(e.entries)-1])
	}
	for i, raw := range e.entries {
		// Cut before this entry when the part is full, or when this entry would overfill it.
		if i > from && (size >= half || taggedSize(i+1-from, size+len(raw)) > blockSize) {
			parts = append(parts, makeBlock(e.entries[from:i], size))
			from, size = i, 0
		}
		size += len(raw)
	}
	return append(parts, makeBlock(e.entries[from:], size))
}

// Delete removes an entry and reports whether there was one.
func (e *Editor) Delete(key []byte) bool {
	if _, ok := e.t.Get(key); !ok {
		return false
	}
	root := e.delete(e.t.root, key)
	for root != nil && root.kids != nil && len(root.kids) == 1 {
		root = root.kids[0]
	}
	e.t.root = root
	return true
}

// delete removes key, which is there, below n and returns what replaces n, nil when nothing is left.
func (e *Editor) delete(n *node, key []byte) *node {
	n = e.own(n)
	i := n.seps.child(key)
	if n.kids != nil {
		if kid := e.delete(n.kids[i], key); kid != nil {
			n.kids[i] = kid
			e.joinKids(n, i)
		} else {
			n.kids = remove(n.kids, i)
			n.seps.remove(i)
		}
	} else {
		b := n.blocks[i]
		at, _ := b.lookup(key)
		e.forget(b.raw(at))
		e.entries = e.entries[:0]
		body := 0
		for j := range b.count() {
			if j != at {
				raw := b.raw(j)
				e.entries = append(e.entries, raw)
				body += len(raw)
			}
		}
		if len(e.entries) == 0 {
			n.blocks = remove(n.blocks, i)
			n.seps.remove(i)
		} else {
			n.blocks[i] = makeBlock(e.entries, body)
			e.joinBlocks(n, i)
		}
	}
	if n.len() == 0 {
		return nil
	}
	return n
}

// joinBlocks puts block i together with a neighbour when both are small.
func (e *Editor) joinBlocks(n *node, i int) {
	if len(n.blocks[i]) >= blockSize/4 {
		return
	}
	for _, left := range []int{i - 1, i} {
		if left < 0 || left+1 >= len(n.blocks) || len(n.blocks[left])+len(n.blocks[left+1]) > blockSize*3/4 {
			continue
		}
		e.entries = e.entries[:0]
		body := 0
		for _, b := range n.blocks[left : left+2] {
			for j := range b.count() {
				raw := b.raw(j)
				e.entries = append(e.entries, raw)
				body += len(raw)
			}
		}
		n.blocks[left] = makeBlock(e.entries, body)
		n.blocks = remove(n.blocks, left+1)
		n.seps.remove(left + 1)
		return
	}
}

// joinKids puts child i together with a neighbour when both are small.
func (e *Editor) joinKids(n *node, i int) {
	if n.kids[i].len() >= fanout/4 {
		return
	}
	for _, at := range []int{i - 1, i} {
		if at < 0 || at+1 >= len(n.kids) || n.kids[at].len()+n.kids[at+1].len() > fanout*3/4 {
			continue
		}
		left, right := e.own(n.kids[at]), n.kids[at+1]
		left.kids = append(left.kids, right.kids...)
		left.blocks = append(left.blocks, right.blocks...)
		left.seps.push(n.seps.at(at + 1))
		for j := 1; j < right.len(); j++ {
			left.seps.push(right.seps.at(j))
		}
		n.kids[at] = left
		n.kids = remove(n.kids, at+1)
		n.seps.remove(at + 1)
		return
	}
}

// own returns n if e may change it, else a copy that e may change.
func (e *Editor) own(n *node) *node {
	if n.owner == e {
		return n
	}
	c := &node{owner: e, seps: n.seps.share()}
	if n.kids != nil {
		c.kids = append([]*node(nil), n.kids...)
	} else {
		c.blocks = append([]block(nil), n.blocks...)
	}
	return c
}

// split parts n, which e owns, when it has too many children.
func (e *Editor) split(n *node) (left, right *node) {
	if n.len() <= fanout {
		return n, nil
	}
	half := n.len() / 2
	right = &node{owner: e}
	for i := half; i < n.len(); i++ {
		right.seps.push(n.seps.at(i))
	}
	n.seps.cut(half)
	if n.kids != nil {
		right.kids = append(right.kids, n.kids[half:]...)
		clear(n.kids[half:])
		n.kids = n.kids[:half]
	} else {
		right.blocks = append(right.blocks, n.blocks[half:]...)
		clear(n.blocks[half:])
		n.blocks = n.blocks[:half]
	}
	return n, right
}

func insert[T any](s []T, i int, v T) []T {
	var zero T
	s = append(s, zero)
	copy(s[i+1:], s[i:])
	s[i] = v
	return s
}

func remove[T any](s []T, i int) []T {
	var zero T
	copy(s[i:], s[i+1:])
	s[len(s)-1] = zero
	return s[:len(s)-1]
}

package packed

import (
	"bytes"
	"iter"
)

// fanout bounds the children of a node.
const fanout = 64

// A Table is an immutable table. The zero value is empty. Keys and values that it returns stay valid for ever and
// must not be changed.
type Table struct {
	root   *node // nil when empty
	count  int
	bytes  int64
	digest Digest
}

// A node is an inner node of the tree. Nodes at the lowest level hold leaves, the others hold nodes.
// Child i holds the keys from separator i up to, not including, separator i+1; child 0 has no lower end
// and its separator is not looked at.
type node struct {
	kids   []*node // these two and what comes first of seps are all that a lookup looks at
	leaves []leaf
	seps   separators
	owner  *Editor // who may still change it in place; nil once it is published
}

func (n *node) len() int { return len(n.seps.ends) }

// Len returns the number of entries.
func (t *Table) Len() int { return t.count }

// Bytes returns the size of all keys and values.
func (t *Table) Bytes() int64 { return t.bytes }

// Digest returns the digest of all entries: equal for equal tables, whatever their history.
func (t *Table) Digest() Digest { return t.digest }

// Get returns the value of key. It does not allocate.
func (t *Table) Get(key []byte) (value []byte, ok bool) {
	n := t.root
	if n == nil {
		return nil, false
	}
	i := n.seps.child(key)
	for n.kids != nil {
		n = n.kids[i]
		i = n.seps.child(key)
	}
	_, value, ok = n.leaves[i].lookup(key)
	return value, ok
}

// Next returns the entry with the smallest key greater than after, or the first when after is nil.
func (t *Table) Next(after []byte) (key, value []byte, ok bool) {
	for l, at := range t.from(after, after != nil) {
		_, value = l.entry(at)
		return l.appendKey([]byte{}, at), value, true // an empty key is not nil: that is in front of the first one
	}
	return nil, nil, false
}

// All returns the entries in the order of their keys.
func (t *Table) All() iter.Seq2[[]byte, []byte] { return t.Prefix(nil) }

// Prefix returns the entries whose keys begin with prefix, in order.
func (t *Table) Prefix(prefix []byte) iter.Seq2[[]byte, []byte] {
	return func(yield func(key, value []byte) bool) {
		for l, at := range t.from(prefix, false) {
			keys := make([]byte, 0, l.keyBytes(at))
			for ; at < l.count(); at++ {
				from := len(keys)
				keys = l.appendKey(keys, at)
				key := keys[from:len(keys):len(keys)]
				_, value := l.entry(at)
				if !bytes.HasPrefix(key, prefix) || !yield(key, value) {
					return
				}
			}
		}
	}
}

// from returns the leaves that have keys not less than key, or greater than key when beyond is set, each with the place of the
// first such key.
func (t *Table) from(key []byte, beyond bool) iter.Seq2[leaf, int] {
	return func(yield func(leaf, int) bool) {
		if t.root != nil {
			t.root.walk(key, beyond, yield)
		}
	}
}

func (n *node) walk(key []byte, beyond bool, yield func(leaf, int) bool) bool {
	for i := n.seps.child(key); i < n.len(); i++ {
		if n.kids != nil {
			if !n.kids[i].walk(key, beyond, yield) {
				return false
			}
			continue
		}
		l := n.leaves[i]
		at, found := l.find(key)
		if found && beyond {
			at++
		}
		if at < l.count() && !yield(l, at) {
			return false
		}
	}
	return true
}

// Blocks returns the table as encoded blocks in order: what an Assembler takes. A block is valid until the next one.
func (t *Table) Blocks() iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		var w blockWriter
		for l := range t.from(nil, false) {
			if !yield(l.encode(&w)) {
				return
			}
		}
	}
}

// Drain is Blocks for a table that the caller lets go of: what was yielded can be collected while the rest goes on. What it
// returns can be used once.
func (t *Table) Drain() iter.Seq[[]byte] {
	var leaves []leaf
	for l := range t.from(nil, false) {
		leaves = append(leaves, l)
	}
	return func(yield func([]byte) bool) {
		var w blockWriter
		for i, l := range leaves {
			leaves[i] = nil
			if !yield(l.encode(&w)) {
				return
			}
		}
	}
}

// An Assembler makes a table of blocks that come in the order of their keys.
type Assembler struct {
	leaves  []leaf
	info    Table
	entries []entry // of the block that is being appended
}

// Append verifies a block and copies it. After an ErrCorrupt the Assembler is as it was.
func (a *Assembler) Append(encoded []byte) error {
	entries, info, err := readBlock(a.entries[:0], encoded)
	defer clear(entries) // which refer to encoded
	if a.entries = entries; cap(entries) > 8*leafEntries {
		a.entries = nil
	}
	if err != nil {
		return err
	}
	if n := len(a.leaves); n > 0 {
		last := a.leaves[n-1]
		if bytes.Compare(last.appendKey(nil, last.count()-1), entries[0].key) >= 0 {
			return errOrder
		}
	}
	a.leaves = append(a.leaves, makeLeaf(entries))
	a.info.count += len(entries)
	a.info.bytes += info.bytes
	a.info.digest.merge(info.digest)
	return nil
}

// Fork returns an Assembler that begins with the blocks so far. Only the newest fork may go on to Append;
// the older ones stay what they were, for readers.
func (a *Assembler) Fork() *Assembler {
	next := *a
	return &next
}

// Len returns the number of entries so far.
func (a *Assembler) Len() int { return a.info.count }

// Bytes returns the size of all keys and values so far.
func (a *Assembler) Bytes() int64 { return a.info.bytes }

// Blocks returns the blocks so far. A block is valid until the next one.
func (a *Assembler) Blocks() iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		var w blockWriter
		for _, l := range a.leaves {
			if !yield(l.encode(&w)) {
				return
			}
		}
	}
}

// Table returns a table of all blocks. It takes time for the blocks, not for the entries.
func (a *Assembler) Table() *Table {
	t := a.info
	if len(a.leaves) == 0 {
		return &t
	}
	var level []*node
	var key []byte
	for from := 0; from < len(a.leaves); from += fanout {
		n := &node{leaves: append([]leaf(nil), a.leaves[from:min(from+fanout, len(a.leaves))]...)}
		for _, l := range n.leaves {
			key = l.appendKey(key[:0], 0)
			n.seps.push(key)
		}
		n.seps.setHeads()
		level = append(level, n)
	}
	for len(level) > 1 {
		var up []*node
		for from := 0; from < len(level); from += fanout {
			n := &node{kids: append([]*node(nil), level[from:min(from+fanout, len(level))]...)}
			for _, kid := range n.kids {
				n.seps.push(kid.seps.at(0))
			}
			n.seps.setHeads()
			up = append(up, n)
		}
		level = up
	}
	t.root = level[0]
	return &t
}

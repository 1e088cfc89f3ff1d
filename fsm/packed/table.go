package packed

import (
	"bytes"
	"encoding/binary"
	"iter"
)

// fanout bounds the children of a node.
const fanout = 64

// A Table is an immutable table. The zero value is empty. Slices that it returns stay valid for ever and
// must not be changed.
type Table struct {
	root   *node // nil when empty
	count  int
	bytes  int64
	digest Digest
}

// A node is an inner node of the tree. Nodes at the lowest level hold blocks, the others hold nodes.
// Child i holds the keys from separator i up to, not including, separator i+1; child 0 has no lower end
// and its separator is not looked at.
type node struct {
	kids   []*node // these two and what comes first of seps are all that a lookup looks at
	blocks []block
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
	b := n.blocks[i]
	at, ok := b.lookup(key)
	if !ok {
		return nil, false
	}
	_, value = b.entry(at)
	return value, true
}

// Next returns the entry with the smallest key greater than after, or the first when after is nil.
func (t *Table) Next(after []byte) (key, value []byte, ok bool) {
	for key, value = range t.from(after, after != nil) {
		return key, value, true
	}
	return nil, nil, false
}

// All returns the entries in the order of their keys.
func (t *Table) All() iter.Seq2[[]byte, []byte] { return t.from(nil, false) }

// Prefix returns the entries whose keys begin with prefix, in order.
func (t *Table) Prefix(prefix []byte) iter.Seq2[[]byte, []byte] {
	return func(yield func(key, value []byte) bool) {
		for key, value := range t.from(prefix, false) {
			if !bytes.HasPrefix(key, prefix) || !yield(key, value) {
				return
			}
		}
	}
}

// from returns the entries with keys not less than key, or greater than key when beyond is set.
func (t *Table) from(key []byte, beyond bool) iter.Seq2[[]byte, []byte] {
	return func(yield func(key, value []byte) bool) {
		if t.root != nil {
			t.root.walk(key, beyond, yield)
		}
	}
}

func (n *node) walk(key []byte, beyond bool, yield func(key, value []byte) bool) bool {
	for i := n.seps.child(key); i < n.len(); i++ {
		if n.kids != nil {
			if !n.kids[i].walk(key, beyond, yield) {
				return false
			}
			continue
		}
		b := n.blocks[i]
		at, found := b.find(key)
		if found && beyond {
			at++
		}
		for ; at < b.count(); at++ {
			if !yield(b.entry(at)) {
				return false
			}
		}
	}
	return true
}

// Blocks returns the encoded blocks in order: what an Assembler takes.
func (t *Table) Blocks() iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		if t.root != nil {
			t.root.eachBlock(yield)
		}
	}
}

func (n *node) eachBlock(yield func([]byte) bool) bool {
	for _, kid := range n.kids {
		if !kid.eachBlock(yield) {
			return false
		}
	}
	for _, b := range n.blocks {
		if !yield(b[:len(b):len(b)]) {
			return false
		}
	}
	return true
}

// An Assembler makes a table of blocks that come in the order of their keys.
type Assembler struct {
	blocks []block
	info   Table
}

// Append verifies a block and copies it. After an ErrCorrupt the Assembler is as it was.
func (a *Assembler) Append(encoded []byte) error { return a.add(encoded, false) }

// Take is Append for a block of a Builder, which it takes over instead of copying it, with what is behind it in the slice's
// capacity. The caller must not use either any more.
func (a *Assembler) Take(encoded []byte) error { return a.add(encoded, true) }

func (a *Assembler) add(encoded block, given bool) error {
	info, err := encoded.check()
	if err != nil {
		return err
	}
	b := encoded
	if !given || cap(b) != capOf(len(b), info.count) {
		b = newBlock(len(encoded), info.count)
		copy(b, encoded)
	}
	b.setTags()
	if n := len(a.blocks); n > 0 {
		last := a.blocks[n-1]
		if bytes.Compare(last.key(last.count()-1), b.key(0)) >= 0 {
			return errOrder
		}
	}
	a.blocks = append(a.blocks, b)
	a.info.count += info.count
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

// Blocks returns the blocks so far.
func (a *Assembler) Blocks() iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for _, b := range a.blocks {
			if !yield(b[:len(b):len(b)]) {
				return
			}
		}
	}
}

// Table returns a table of all blocks. It takes time for the blocks, not for the entries.
func (a *Assembler) Table() *Table {
	t := a.info
	if len(a.blocks) == 0 {
		return &t
	}
	var level []*node
	for from := 0; from < len(a.blocks); from += fanout {
		n := &node{blocks: append([]block(nil), a.blocks[from:min(from+fanout, len(a.blocks))]...)}
		for _, b := range n.blocks {
			n.seps.push(b.key(0))
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

func (d *Digest) merge(o Digest) {
	d.add(uint128(o))
}

// A Builder packs entries into blocks.
type Builder struct {
	emit func(block []byte) error
	buf  []byte // encoded entries of the next block
	ends []int
	last []byte
	any  bool
}

// NewBuilder returns a Builder that hands each full block over to emit.
func NewBuilder(emit func(block []byte) error) *Builder { return &Builder{emit: emit} }

// Add adds an entry; keys must ascend strictly. It copies both.
func (b *Builder) Add(key, value []byte) error {
	if b.any && bytes.Compare(b.last, key) >= 0 {
		return errOrder
	}
	b.any = true
	b.last = append(b.last[:0], key...)
	if n := len(b.ends); n > 0 && taggedSize(n+1, len(b.buf)+entrySize(key, value)) > blockSize {
		if err := b.Flush(); err != nil {
			return err
		}
	}
	b.buf = appendEntry(b.buf, key, value)
	b.ends = append(b.ends, len(b.buf))
	return nil
}

// Flush hands out the block that is being filled, if there is one.
func (b *Builder) Flush() error {
	if len(b.ends) == 0 {
		return nil
	}
	width := 2
	size := 2 + width*len(b.ends) + len(b.buf)
	if size > 0xffff {
		width = 4
		size = 2 + width*len(b.ends) + len(b.buf)
	}
	out := newBlock(size, len(b.ends))[:2]
	binary.LittleEndian.PutUint16(out, uint16(len(b.ends)))
	at := 2 + width*len(b.ends)
	head, from := at, 0
	for _, end := range b.ends {
		if width == 2 {
			out = binary.LittleEndian.AppendUint16(out, uint16(head+from))
		} else {
			out = binary.LittleEndian.AppendUint32(out, uint32(head+from))
		}
		from = end
	}
	out = append(out, b.buf...)
	b.buf, b.ends = b.buf[:0], b.ends[:0]
	return b.emit(out)
}

// Pack packs entries in strictly ascending order and hands each block to emit. It returns how many there are.
func Pack(entries iter.Seq2[[]byte, []byte], emit func(block []byte) error) (count int, err error) {
	b := NewBuilder(emit)
	for key, value := range entries {
		if err := b.Add(key, value); err != nil {
			return count, err
		}
		count++
	}
	return count, b.Flush()
}

// Build returns a table of entries in strictly ascending order.
func Build(entries iter.Seq2[[]byte, []byte]) (*Table, error) {
	var a Assembler
	if _, err := Pack(entries, a.Take); err != nil {
		return nil, err
	}
	return a.Table(), nil
}

// Merge returns a table of the entries of both; where both have a key, over's value counts. It takes time for
// all entries of both, which is less than to Put over's one by one when they are many.
func Merge(base, over *Table) (*Table, error) {
	return Build(Patched(base, over, &Table{}))
}

// Patched yields the entries of base with those of over, whose values count where both have a key, and without the keys of
// gone, which are all in base and none in over.
func Patched(base, over, gone *Table) iter.Seq2[[]byte, []byte] {
	return func(yield func(key, value []byte) bool) {
		next, nextGone := over.Cursor().Next, gone.Cursor().Next
		k, v, more := next()
		goneKey, _, moreGone := nextGone()
		for key, value := range base.All() {
			for more && bytes.Compare(k, key) < 0 {
				if !yield(k, v) {
					return
				}
				k, v, more = next()
			}
			switch {
			case moreGone && bytes.Equal(goneKey, key):
				goneKey, _, moreGone = nextGone()
				continue
			case more && bytes.Equal(k, key):
				value = v
				k, v, more = next()
			}
			if !yield(key, value) {
				return
			}
		}
		for more && yield(k, v) {
			k, v, more = next()
		}
	}
}

package packed

import (
	"bytes"
	"iter"
)

// A Builder packs entries into blocks, each of which becomes a full leaf.
type Builder struct {
	emit func(block []byte) error
	w    blockWriter
	any  bool
	last []byte // key

	first          []byte // key of the block that is being filled
	prefix, suffix int    // that all its keys have, from the second one on; the suffix may be longer
	longest        int    // of its keys
	keys, values   int    // bytes
}

// NewBuilder returns a Builder that hands each full block over to emit. The block is valid until emit returns.
func NewBuilder(emit func(block []byte) error) *Builder { return &Builder{emit: emit} }

// Add adds an entry; keys must ascend strictly. It copies both.
func (b *Builder) Add(key, value []byte) error {
	if b.any && bytes.Compare(b.last, key) >= 0 {
		return errOrder
	}
	b.any = true
	b.last = append(b.last[:0], key...)
	if len(b.w.ends) > 0 && !b.take(key, value) {
		if err := b.Flush(); err != nil {
			return err
		}
	}
	if len(b.w.ends) == 0 {
		b.first = append(b.first[:0], key...)
		b.prefix = min(len(key), maxShared)
		b.suffix = maxShared
		b.longest, b.keys, b.values = len(key), len(key), len(value)
	}
	b.w.body = appendEntry(b.w.body, key, value)
	b.w.entryAdded()
	return nil
}

// take counts an entry in if it has room in the leaf that is being filled.
func (b *Builder) take(key, value []byte) bool {
	entries := len(b.w.ends) + 1
	prefix := min(sharedPrefix(b.first, key), b.prefix)
	suffix := sharedSuffix(b.first, key, min(b.suffix, len(b.first)-prefix, len(key)-prefix))
	longest, keys, values := max(b.longest, len(key)), b.keys+len(key), b.values+len(value)
	shared := prefix + suffix
	size := leafHead + shared + entries*(perEntry+uvarintLen(longest-shared)-shared) + keys + values
	if !(layout{size: size}).fits(entries) {
		return false
	}
	b.prefix, b.suffix, b.longest, b.keys, b.values = prefix, suffix, longest, keys, values
	return true
}

// Flush hands out the block that is being filled, if there is one.
func (b *Builder) Flush() error {
	if len(b.w.ends) == 0 {
		return nil
	}
	return b.emit(b.w.block())
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
	if _, err := Pack(entries, a.Append); err != nil {
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
// gone, which are all in base and none in over. A key is valid until the next one.
func Patched(base, over, gone *Table) iter.Seq2[[]byte, []byte] {
	return func(yield func(key, value []byte) bool) {
		nextBase, next, nextGone := base.Cursor().Next, over.Cursor().Next, gone.Cursor().Next
		k, v, more := next()
		goneKey, _, moreGone := nextGone()
		for key, value, ok := nextBase(); ok; key, value, ok = nextBase() {
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

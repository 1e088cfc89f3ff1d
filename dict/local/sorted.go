package local

import (
	"bytes"
	"cmp"
	"fmt"
	"math"
	"slices"

	"postraft/dict"
)

// sorted are entries by key, in one block. It is immutable.
type sorted struct {
	block []byte
	refs  []ref
}

// A ref is the place of an entry: the key, and behind it the value.
type ref struct {
	at, klen, vlen uint32
	line           int32
}

func (t sorted) key(r ref) []byte { return t.block[r.at : r.at+r.klen : r.at+r.klen] }
func (t sorted) value(r ref) []byte {
	at, end := r.at+r.klen, r.at+r.klen+r.vlen
	return t.block[at:end:end]
}

func (t sorted) search(key []byte) (int, bool) {
	return slices.BinarySearchFunc(t.refs, key, func(r ref, key []byte) int { return bytes.Compare(t.key(r), key) })
}

// Lookup implements Lookuper.
func (t sorted) Lookup(key []byte) ([]byte, bool, error) {
	if i, ok := t.search(key); ok {
		return t.value(t.refs[i]), true, nil
	}
	return nil, false, nil
}

// Next is that of dict.Reader.
func (t sorted) Next(after []byte) (key, value []byte, found bool, err error) {
	i, ok := 0, false
	if after != nil {
		if i, ok = t.search(after); ok {
			i++
		}
	}
	if i >= len(t.refs) {
		return nil, nil, false, nil
	}
	return t.key(t.refs[i]), t.value(t.refs[i]), true, nil
}

// A builder collects entries, with folded keys.
type builder struct{ sorted }

func (b *builder) add(line int, key, value []byte) error {
	key = dict.Fold(key)
	at := len(b.block)
	if at+len(key)+len(value) > math.MaxUint32 {
		return fmt.Errorf("more than %d bytes: %w", uint32(math.MaxUint32), dict.ErrBadSource)
	}
	b.block = append(append(b.block, key...), value...)
	b.refs = append(b.refs, ref{uint32(at), uint32(len(key)), uint32(len(value)), int32(line)})
	return nil
}

// build sorts the entries and returns the table, in which the last of the entries of a key counts, and an entry
// that came again, if any: the first one in the order of the text.
func (b *builder) build() (t sorted, again *ref) {
	slices.SortStableFunc(b.refs, func(x, y ref) int { return bytes.Compare(b.key(x), b.key(y)) })
	kept := b.refs[:0]
	for _, r := range b.refs {
		if n := len(kept); n > 0 && bytes.Equal(b.key(kept[n-1]), b.key(r)) {
			if again == nil || cmp.Less(r.line, again.line) {
				copied := r
				again = &copied
			}
			kept[n-1] = r
			continue
		}
		kept = append(kept, r)
	}
	b.refs = slices.Clip(kept)
	return b.sorted, again
}

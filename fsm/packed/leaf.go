package packed

import (
	"bytes"
	"encoding/binary"

	"github.com/zeebo/xxh3"
)

const (
	// leafSize is how large a leaf of several entries gets, in bytes: a size class of Go's allocator, so that a full one
	// wastes nothing.
	leafSize = 2048

	// leafEntries is how many entries a leaf gets: with more, too many would have the tag that a lookup looks for.
	leafEntries = 256

	maxShared = 255 // bytes of a prefix or suffix

	leafHead = 4 // bytes in front of the prefix
	perEntry = 3 // a tag and an offset, in a leaf of less than 64 KiB
)

// A leaf is a block as it is in memory. What all its keys begin with and end with is there once, and the rest of a key is
// called its middle:
//
//	count    uint16  number of entries, little endian
//	lengths  2 × uint8, of the prefix and of the suffix
//	prefix, suffix
//	tags     count × uint8, made of the hash of the middle
//	offsets  count × uint16 or, in a leaf of more than 65535 bytes, uint32
//	entries  count × (length of the middle uvarint, middle, value)
//
// A lookup goes by the tags to the entry that it wants, or to none: to look at a few keys on the way to it is to wait for memory
// as often. A leaf never changes, and all of its methods trust it.
type leaf []byte

// A layout is how entries become a leaf.
type layout struct {
	prefix, suffix int
	size           int
}

// layoutOf returns the layout of a leaf of these entries, at least one, in order.
func layoutOf(entries []entry) (l layout) {
	first, last := entries[0].key, entries[len(entries)-1].key
	l.prefix = min(sharedPrefix(first, last), maxShared)
	l.suffix = min(len(first)-l.prefix, maxShared)
	l.size = leafHead
	for _, e := range entries {
		l.suffix = sharedSuffix(first, e.key, min(l.suffix, len(e.key)-l.prefix))
		l.size += len(e.key) + len(e.value)
	}
	shared := l.prefix + l.suffix
	l.size += shared + (perEntry+1-shared)*len(entries)
	for _, e := range entries {
		if middle := len(e.key) - shared; middle >= 0x80 {
			l.size += uvarintLen(middle) - 1
		}
	}
	if l.size > 0xffff {
		l.size += 2 * len(entries)
	}
	return l
}

// fits reports whether so many entries may be together in one leaf.
func (l layout) fits(entries int) bool {
	return entries == 1 || entries <= leafEntries && l.size <= leafSize
}

func sharedPrefix(a, b []byte) (n int) {
	for n < min(len(a), len(b)) && a[n] == b[n] {
		n++
	}
	return n
}

// sharedSuffix returns how many bytes at the end of a and b are the same, most at most. Both have so many.
func sharedSuffix(a, b []byte, most int) (n int) {
	if string(a[len(a)-most:]) == string(b[len(b)-most:]) {
		return most
	}
	for a[len(a)-1-n] == b[len(b)-1-n] {
		n++
	}
	return n
}

// makeLeaf makes a leaf of entries that are in order. It copies them.
func makeLeaf(entries []entry) leaf { return layoutOf(entries).make(entries) }

func (l layout) make(entries []entry) leaf {
	made := make(leaf, l.size)
	binary.LittleEndian.PutUint16(made, uint16(len(entries)))
	made[2], made[3] = byte(l.prefix), byte(l.suffix)
	first := entries[0].key
	at := leafHead + copy(made[leafHead:], first[:l.prefix])
	at += copy(made[at:], first[len(first)-l.suffix:])
	tags := made[at : at+len(entries)]
	offsets := made[at+len(entries):]
	width := made.width()
	at += (1 + width) * len(entries)
	for i, e := range entries {
		if width == 2 {
			binary.LittleEndian.PutUint16(offsets[2*i:], uint16(at))
		} else {
			binary.LittleEndian.PutUint32(offsets[4*i:], uint32(at))
		}
		middle := e.key[l.prefix : len(e.key)-l.suffix]
		tags[i] = tagOf(middle)
		at += binary.PutUvarint(made[at:], uint64(len(middle)))
		at += copy(made[at:], middle)
		at += copy(made[at:], e.value)
	}
	return made
}

func tagOf(middle []byte) byte { return byte(xxh3.Hash(middle)) }

func (l leaf) count() int     { return int(binary.LittleEndian.Uint16(l)) }
func (l leaf) prefix() []byte { return l[leafHead : leafHead+int(l[2])] }
func (l leaf) suffix() []byte { return l[leafHead+int(l[2]):][:l[3]] }
func (l leaf) shared() int    { return int(l[2]) + int(l[3]) }

// width returns the size of an offset.
func (l leaf) width() int {
	if len(l) <= 0xffff {
		return 2
	}
	return 4
}

// offsets returns where the offsets begin.
func (l leaf) offsets() int { return leafHead + l.shared() + l.count() }

// offset returns entry i, or the end of the leaf for the entry behind the last one. offsets is what offsets returns.
func (l leaf) offset(offsets, i, count int) int {
	switch {
	case i == count:
		return len(l)
	case len(l) <= 0xffff:
		return int(binary.LittleEndian.Uint16(l[offsets+2*i:]))
	}
	return int(binary.LittleEndian.Uint32(l[offsets+4*i:]))
}

// entry returns the middle of the key of entry i and its value.
func (l leaf) entry(i int) (middle, value []byte) {
	count, offsets := l.count(), l.offsets()
	return splitEntry(l[l.offset(offsets, i, count):l.offset(offsets, i+1, count)])
}

// splitEntry parts an entry of a leaf.
func splitEntry(e []byte) (middle, value []byte) {
	n, at := int(e[0]), 1
	if n >= 0x80 {
		long, m := binary.Uvarint(e)
		n, at = int(long), m
	}
	end := at + n
	return e[at:end:end], e[end:len(e):len(e)]
}

// appendKey appends the key of entry i to dst.
func (l leaf) appendKey(dst []byte, i int) []byte {
	middle, _ := l.entry(i)
	return append(append(append(dst, l.prefix()...), middle...), l.suffix()...)
}

// keyBytes returns the size of the keys from entry i on, or somewhat more.
func (l leaf) keyBytes(i int) (n int) {
	for j := i; j < l.count(); j++ {
		middle, _ := l.entry(j)
		n += len(middle)
	}
	return n + (l.count()-i)*l.shared()
}

// appendTo appends all entries to dst, and their keys to keys, to which the entries refer.
func (l leaf) appendTo(dst []entry, keys []byte) ([]entry, []byte) {
	for i := range l.count() {
		from := len(keys)
		keys = l.appendKey(keys, i)
		_, value := l.entry(i)
		dst = append(dst, entry{keys[from:len(keys):len(keys)], value})
	}
	return dst, keys
}

// encode returns the block of a leaf, valid until w is used again.
func (l leaf) encode(w *blockWriter) []byte {
	prefix, suffix := l.prefix(), l.suffix()
	for i := range l.count() {
		middle, value := l.entry(i)
		w.body = binary.AppendUvarint(w.body, uint64(len(prefix)+len(middle)+len(suffix)))
		w.body = binary.AppendUvarint(w.body, uint64(len(value)))
		w.body = append(append(append(w.body, prefix...), middle...), suffix...)
		w.body = append(w.body, value...)
		w.entryAdded()
	}
	return w.block()
}

// middleOf returns what is between prefix and suffix in key, and whether it has both.
func (l leaf) middleOf(key []byte) (middle []byte, ok bool) {
	prefix, end := int(l[2]), len(key)-int(l[3])
	if end < prefix || string(key[:prefix]) != string(l[leafHead:leafHead+prefix]) || string(key[end:]) != string(l[leafHead+prefix:][:l[3]]) {
		return nil, false
	}
	return key[prefix:end], true
}

// lookup returns the place of the entry with this key and its value, if there is one.
func (l leaf) lookup(key []byte) (at int, value []byte, ok bool) {
	middle, ok := l.middleOf(key)
	if !ok {
		return 0, nil, false
	}
	count, from := l.count(), leafHead+l.shared()
	tags := l[from : from+count]
	for tag := tagOf(middle); ; at++ {
		next := bytes.IndexByte(tags[at:], tag)
		if next < 0 {
			return 0, nil, false
		}
		at += next
		m, value := splitEntry(l[l.offset(from+count, at, count):l.offset(from+count, at+1, count)])
		if string(m) == string(middle) {
			return at, value, true
		}
	}
}

// find returns the index of the first entry whose key is not less than key, and whether it is key.
func (l leaf) find(key []byte) (int, bool) {
	count, prefix, suffix := l.count(), l.prefix(), l.suffix()
	if c := bytes.Compare(key[:min(len(key), len(prefix))], prefix); c < 0 {
		return 0, false
	} else if c > 0 {
		return count, false
	}
	rest := key[len(prefix):]
	lo, hi := 0, count
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		middle, _ := l.entry(mid)
		c := bytes.Compare(middle, rest[:min(len(middle), len(rest))])
		if c == 0 {
			c = bytes.Compare(suffix, rest[len(middle):])
		}
		switch {
		case c == 0:
			return mid, true
		case c < 0:
			lo = mid + 1
		default:
			hi = mid
		}
	}
	return lo, false
}

// splice returns l with an entry put in at place at, or, with replace, in place of the one that is there, which has the same
// key. It is what makeLeaf makes of all entries; ok is false where that has to do it.
func (l leaf) splice(at int, key, value []byte, replace bool) (next leaf, ok bool) {
	middle, ok := l.middleOf(key)
	count, from := l.count(), leafHead+l.shared() // from: tags
	offsets := from + count
	added := perEntry
	begin, end := l.offset(offsets, at, count), 0 // of what is replaced
	if replace {
		added, end = 0, l.offset(offsets, at+1, count)
	} else {
		end = begin
	}
	grown := uvarintLen(len(middle)) + len(middle) + len(value) - (end - begin) // entries
	size := len(l) + added + grown
	if !ok || len(l) > leafSize || size > leafSize || !replace && count == leafEntries {
		return nil, false
	}
	if replace && grown == 0 {
		next = append(leaf(nil), l...) // which, unlike make, clears nothing first
		copy(next[end-len(value):], value)
		return next, true
	}
	next = make(leaf, size)
	copy(next, l[:from+at])
	added1 := added / perEntry
	binary.LittleEndian.PutUint16(next, uint16(count+added1))
	if !replace {
		next[from+at] = tagOf(middle)
	}
	copy(next[from+at+added1:], l[from+at:offsets])
	to := offsets + added1 // offsets in next
	addOffsets(next[to:to+2*at], l[offsets:offsets+2*at], added)
	binary.LittleEndian.PutUint16(next[to+2*at:], uint16(begin+added))
	behind := at + 1 - added1 // the entry of l that is behind the new one
	addOffsets(next[to+2*at+2:], l[offsets+2*behind:offsets+2*count], added+grown)
	n := offsets + 2*count + added
	n += copy(next[n:], l[offsets+2*count:begin])
	n += binary.PutUvarint(next[n:], uint64(len(middle)))
	n += copy(next[n:], middle)
	n += copy(next[n:], value)
	copy(next[n:], l[end:])
	return next, true
}

// addOffsets writes to dst the 16-bit offsets in src, each with by added, four at a time.
func addOffsets(dst, src []byte, by int) {
	const ones, high = 0x0001_0001_0001_0001, 0x8000_8000_8000_8000
	each := uint64(uint16(by)) * ones
	for len(src) >= 8 && len(dst) >= 8 {
		x := binary.LittleEndian.Uint64(src)
		sum := (x&^high + each&^high) ^ (x^each)&high // no carry from one to the next
		binary.LittleEndian.PutUint64(dst, sum)
		src, dst = src[8:], dst[8:]
	}
	for len(src) >= 2 && len(dst) >= 2 {
		binary.LittleEndian.PutUint16(dst, binary.LittleEndian.Uint16(src)+uint16(by))
		src, dst = src[2:], dst[2:]
	}
}

package packed

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"math/bits"
	"sync"

	"github.com/zeebo/xxh3"
)

const (
	// blockSize is how large a block of several entries gets in memory, in bytes, with its tags: a size class of
	// Go's allocator, so that a full block wastes nothing.
	blockSize = 4096

	// MaxBlock bounds a block, in bytes: room for one entry of the largest size that tables accept.
	MaxBlock = 1 << 20
)

// ErrCorrupt says that bytes are not a block, or that blocks do not follow each other.
var ErrCorrupt = errors.New("damaged table block")

// A Digest is a sum of entry hashes; see the package comment.
type Digest [16]byte

// AddHash adds the hash of b to the sum.
func (d *Digest) AddHash(b []byte) { d.add(xxh3.Hash128(b)) }

func (d *Digest) add(h xxh3.Uint128) {
	lo, carry := bits.Add64(binary.LittleEndian.Uint64(d[:8]), h.Lo, 0)
	hi, _ := bits.Add64(binary.LittleEndian.Uint64(d[8:]), h.Hi, carry)
	binary.LittleEndian.PutUint64(d[:8], lo)
	binary.LittleEndian.PutUint64(d[8:], hi)
}

func (d *Digest) sub(h xxh3.Uint128) {
	lo, borrow := bits.Sub64(binary.LittleEndian.Uint64(d[:8]), h.Lo, 0)
	hi, _ := bits.Sub64(binary.LittleEndian.Uint64(d[8:]), h.Hi, borrow)
	binary.LittleEndian.PutUint64(d[:8], lo)
	binary.LittleEndian.PutUint64(d[8:], hi)
}

// DigestOf returns the digest of a table of the entries of all parts. Each part is read by a goroutine of its own.
func DigestOf(parts ...iter.Seq2[[]byte, []byte]) (d Digest) {
	digests := make([]Digest, len(parts))
	var pending sync.WaitGroup
	for i, entries := range parts {
		pending.Go(func() {
			var buf []byte
			for key, value := range entries {
				buf = appendEntry(buf[:0], key, value)
				digests[i].AddHash(buf)
			}
		})
	}
	pending.Wait()
	for _, part := range digests {
		d.merge(part)
	}
	return d
}

// ParseDigest reads what String has written.
func ParseDigest(text string) (d Digest, err error) {
	b, err := hex.DecodeString(text)
	if err == nil && copy(d[:], b) != len(b) || len(b) != len(d) {
		err = fmt.Errorf("digest of %d bytes, want %d", len(b), len(d))
	}
	return d, err
}

func (d Digest) String() string { return fmt.Sprintf("%x", d[:]) }

// A block is encoded as the package comment says. All methods but check trust it. Behind it, within its capacity, is a tag for
// each entry, so that a lookup goes to the entry that it wants, or to none: to look at a few keys on the way to it is to wait
// for memory as often. A block that would be larger than blockSize with its tags has none.
type block []byte

// taggedSize returns the size of a block with its tags. body is the sum of the sizes of its entries. It fits, and has tags, if
// that is not more than blockSize.
func taggedSize(entries, body int) int { return 2 + 3*entries + body }

// newBlock returns a block with room for its tags, if it is to have some, which setTags has to fill.
func newBlock(size, entries int) block { return make(block, size, capOf(size, entries)) }

// capOf returns the capacity of a block of that size.
func capOf(size, entries int) int {
	if size+entries > blockSize {
		return size
	}
	return size + entries
}

// tags returns the tags of all entries, nil if there are none.
func (b block) tags() []byte {
	if cap(b)-len(b) != b.count() {
		return nil
	}
	return b[len(b):cap(b)]
}

func (b block) setTags() {
	tags := b.tags()
	for i := range tags {
		tags[i] = tagOf(b.key(i))
	}
}

func tagOf(key []byte) byte { return byte(xxh3.Hash(key)) }

// lookup returns the place of the entry with this key, and whether there is one. It is find, but that it tells no place for a
// key that is not there.
func (b block) lookup(key []byte) (at int, ok bool) {
	tags := b[len(b):cap(b)]
	for tag := tagOf(key); ; at++ {
		next := bytes.IndexByte(tags[at:], tag)
		if next < 0 {
			break
		}
		if at += next; bytes.Equal(b.key(at), key) {
			return at, true
		}
	}
	if len(tags) != b.count() { // it has none
		return b.find(key)
	}
	return 0, false
}

func (b block) count() int { return int(binary.LittleEndian.Uint16(b)) }

func (b block) offset(i int) int {
	if len(b) <= 0xffff {
		return int(binary.LittleEndian.Uint16(b[2+2*i:]))
	}
	return int(binary.LittleEndian.Uint32(b[2+4*i:]))
}

// raw returns the encoded entry i.
func (b block) raw(i int) []byte {
	from, to := b.offset(i), len(b)
	if i+1 < b.count() {
		to = b.offset(i + 1)
	}
	return b[from:to:to]
}

// entry returns key and value of entry i.
func (b block) entry(i int) (key, value []byte) { return decodeEntry(b[b.offset(i):]) }

func (b block) key(i int) []byte {
	at := b[b.offset(i):]
	// Both lengths below 128 is nearly every entry.
	if at[0] < 0x80 && at[1] < 0x80 {
		end := 2 + int(at[0])
		return at[2:end:end]
	}
	key, _ := decodeEntry(at)
	return key
}

func decodeEntry(at []byte) (key, value []byte) {
	klen, n := binary.Uvarint(at)
	vlen, m := binary.Uvarint(at[n:])
	from := n + m
	mid := from + int(klen)
	end := mid + int(vlen)
	return at[from:mid:mid], at[mid:end:end]
}

func appendEntry(dst, key, value []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(key)))
	dst = binary.AppendUvarint(dst, uint64(len(value)))
	return append(append(dst, key...), value...)
}

func entrySize(key, value []byte) int {
	return uvarintLen(len(key)) + uvarintLen(len(value)) + len(key) + len(value)
}

func uvarintLen(n int) int { return (bits.Len64(uint64(n)|1) + 6) / 7 }

// find returns the index of the first entry whose key is not less than key, and whether it is key.
func (b block) find(key []byte) (int, bool) {
	lo, hi := 0, b.count()
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		switch c := bytes.Compare(b.key(mid), key); {
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

// makeBlock encodes entries that are encoded already, in order. body is their sum of sizes.
func makeBlock(entries [][]byte, body int) block {
	head := 2 + 2*len(entries)
	if head+body > 0xffff {
		head = 2 + 4*len(entries)
	}
	made := newBlock(head+body, len(entries))
	b := made[:2]
	binary.LittleEndian.PutUint16(b, uint16(len(entries)))
	at := head
	for _, e := range entries {
		if head+body > 0xffff {
			b = binary.LittleEndian.AppendUint32(b, uint32(at))
		} else {
			b = binary.LittleEndian.AppendUint16(b, uint16(at))
		}
		at += len(e)
	}
	for _, e := range entries {
		b = append(b, e...)
	}
	made.setTags()
	return made
}

// splice returns b with an encoded entry at place at, in place of old where that is not nil, which is entry at. ok is false
// where one of the two blocks is too large for tags.
func (b block) splice(at int, old, entry []byte) (next block, ok bool) {
	count, added := b.count(), 2
	if old != nil {
		added = 0
	}
	size := len(b) + added + len(entry) - len(old)
	tags := b.tags()
	if tags == nil || size+count+added/2 > blockSize {
		return nil, false
	}
	from := len(b) // where the entry goes
	if at < count {
		from = b.offset(at)
	}
	if len(entry) == len(old) {
		next = append(block(nil), b[:cap(b)]...)[:size:cap(b)] // which, unlike make, clears nothing first
		copy(next[from:], entry)
		return next, true
	}
	next = newBlock(size, count+added/2)
	binary.LittleEndian.PutUint16(next, uint16(count+added/2))
	head, body := 2+2*at, 2+2*count
	addOffsets(next[2:head], b[2:head], added)
	binary.LittleEndian.PutUint16(next[head:], uint16(from+added))
	addOffsets(next[head+2:body+added], b[head+2-added:body], size-len(b))
	n := body + added
	n += copy(next[n:], b[body:from])
	n += copy(next[n:], entry)
	copy(next[n:], b[from+len(old):])
	nextTags := next.tags()
	copy(nextTags, tags[:at])
	copy(nextTags[at+added/2:], tags[at:])
	if old == nil {
		nextTags[at] = tagOf(next.key(at))
	}
	return next, true
}

// addOffsets writes to dst the 16-bit offsets in src, of the same length, each with by added, four at a time.
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

// blockInfo is what check learns of a block.
type blockInfo struct {
	count  int
	bytes  int64 // keys and values
	digest Digest
}

// check verifies that b is a block, trusting nothing.
func (b block) check() (info blockInfo, err error) {
	if len(b) < 2 || len(b) > MaxBlock {
		return info, fmt.Errorf("%w: size %d", ErrCorrupt, len(b))
	}
	info.count = b.count()
	width := 2
	if len(b) > 0xffff {
		width = 4
	}
	at := 2 + width*info.count
	if info.count == 0 || at > len(b) {
		return info, fmt.Errorf("%w: %d entries in %d bytes", ErrCorrupt, info.count, len(b))
	}
	var last []byte
	for i := range info.count {
		if b.offset(i) != at {
			return info, fmt.Errorf("%w: entry %d at %d, expected at %d", ErrCorrupt, i, b.offset(i), at)
		}
		klen, n := binary.Uvarint(b[at:])
		if n <= 0 || n != uvarintLen(int(klen)) || klen > MaxBlock {
			return info, fmt.Errorf("%w: entry %d: bad key length", ErrCorrupt, i)
		}
		vlen, m := binary.Uvarint(b[at+n:])
		if m <= 0 || m != uvarintLen(int(vlen)) || vlen > MaxBlock {
			return info, fmt.Errorf("%w: entry %d: bad value length", ErrCorrupt, i)
		}
		end := at + n + m + int(klen) + int(vlen)
		if end > len(b) {
			return info, fmt.Errorf("%w: entry %d ends at %d of %d", ErrCorrupt, i, end, len(b))
		}
		key := b[at+n+m : at+n+m+int(klen)]
		if i > 0 && bytes.Compare(last, key) >= 0 {
			return info, fmt.Errorf("%w: entry %d is not in order", ErrCorrupt, i)
		}
		info.digest.add(xxh3.Hash128(b[at:end]))
		info.bytes += int64(klen + vlen)
		last, at = key, end
	}
	if at != len(b) {
		return info, fmt.Errorf("%w: %d bytes behind the last entry", ErrCorrupt, len(b)-at)
	}
	return info, nil
}

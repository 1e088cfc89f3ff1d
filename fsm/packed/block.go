package packed

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"

	"github.com/zeebo/xxh3"
)

// MaxBlock bounds a block, in bytes: room for one entry of the largest size that tables accept.
const MaxBlock = 1 << 20

// ErrCorrupt says that bytes are not a block, or that blocks do not follow each other.
var ErrCorrupt = errors.New("damaged table block")

var errOrder = fmt.Errorf("%w: keys do not ascend", ErrCorrupt)

// An entry is a key with its value.
type entry struct{ key, value []byte }

func appendEntry(dst, key, value []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(key)))
	dst = binary.AppendUvarint(dst, uint64(len(value)))
	return append(append(dst, key...), value...)
}

func uvarintLen(n int) int { return (bits.Len64(uint64(n)|1) + 6) / 7 }

// A blockWriter encodes blocks as the package comment says.
type blockWriter struct {
	body []byte // encoded entries
	ends []int  // of each in body
	out  []byte
}

// entryAdded ends an entry that was appended to body.
func (w *blockWriter) entryAdded() { w.ends = append(w.ends, len(w.body)) }

// block returns the block of all entries that were added and begins the next one. It is valid until the next call.
func (w *blockWriter) block() []byte {
	head, wide := 2+2*len(w.ends), false
	if head+len(w.body) > 0xffff {
		head, wide = 2+4*len(w.ends), true
	}
	out := binary.LittleEndian.AppendUint16(w.out[:0], uint16(len(w.ends)))
	from := head
	for _, end := range w.ends {
		if wide {
			out = binary.LittleEndian.AppendUint32(out, uint32(from))
		} else {
			out = binary.LittleEndian.AppendUint16(out, uint16(from))
		}
		from = head + end
	}
	w.out = append(out, w.body...)
	w.body, w.ends = w.body[:0], w.ends[:0]
	return w.out
}

// blockInfo is what readBlock learns of a block.
type blockInfo struct {
	bytes  int64 // keys and values
	digest Digest
}

// readBlock appends the entries of a block, which share memory with it, to dst. It trusts nothing.
func readBlock(dst []entry, b []byte) (entries []entry, info blockInfo, err error) {
	if len(b) < 2 || len(b) > MaxBlock {
		return dst, info, fmt.Errorf("%w: size %d", ErrCorrupt, len(b))
	}
	count, width := int(binary.LittleEndian.Uint16(b)), 2
	if len(b) > 0xffff {
		width = 4
	}
	at := 2 + width*count
	if count == 0 || at > len(b) {
		return dst, info, fmt.Errorf("%w: %d entries in %d bytes", ErrCorrupt, count, len(b))
	}
	var last []byte
	for i := range count {
		offset := int(binary.LittleEndian.Uint16(b[2+width*i:]))
		if width == 4 {
			offset = int(binary.LittleEndian.Uint32(b[2+width*i:]))
		}
		if offset != at {
			return dst, info, fmt.Errorf("%w: entry %d at %d, expected at %d", ErrCorrupt, i, offset, at)
		}
		klen, n := binary.Uvarint(b[at:])
		if n <= 0 || n != uvarintLen(int(klen)) || klen > MaxBlock {
			return dst, info, fmt.Errorf("%w: entry %d: bad key length", ErrCorrupt, i)
		}
		vlen, m := binary.Uvarint(b[at+n:])
		if m <= 0 || m != uvarintLen(int(vlen)) || vlen > MaxBlock {
			return dst, info, fmt.Errorf("%w: entry %d: bad value length", ErrCorrupt, i)
		}
		from := at + n + m
		mid := from + int(klen)
		end := mid + int(vlen)
		if end > len(b) {
			return dst, info, fmt.Errorf("%w: entry %d ends at %d of %d", ErrCorrupt, i, end, len(b))
		}
		key := b[from:mid]
		if i > 0 && bytes.Compare(last, key) >= 0 {
			return dst, info, fmt.Errorf("%w: entry %d is not in order", ErrCorrupt, i)
		}
		info.digest.add(xxh3.Hash128(b[at:end]))
		info.bytes += int64(klen + vlen)
		dst = append(dst, entry{key, b[mid:end]})
		last, at = key, end
	}
	if at != len(b) {
		return dst, info, fmt.Errorf("%w: %d bytes behind the last entry", ErrCorrupt, len(b)-at)
	}
	return dst, info, nil
}

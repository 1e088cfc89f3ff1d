package packed

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"iter"
	"math/bits"
	"sync"

	"github.com/zeebo/xxh3"
)

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

func (d *Digest) merge(o Digest) {
	d.add(xxh3.Uint128{Lo: binary.LittleEndian.Uint64(o[:8]), Hi: binary.LittleEndian.Uint64(o[8:])})
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

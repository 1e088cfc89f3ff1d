package dict

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"io"
	"iter"
	"slices"
)

// A Source is source text in memory: its entries with folded keys, sorted by key, no key twice. It is
// immutable and may be read from any goroutine.
//
// The entries lie back to back in blocks, each as
//
//	line, key length, value length (uvarints), key, value
//
// and refs point to them. So an entry costs its bytes and about 21 more, and a block once filled is never
// copied again.
type Source struct {
	blocks [][]byte
	refs   []sourceRef
	bytes  int64
}

// sourceRef points to an entry: at holds the block's number and, in the lower blockBits, the place in the
// block. The head is eight bytes of the key as a big-endian number; sort compares it instead of the key.
type sourceRef struct {
	head uint64
	at   uint64
}

// A block has room for the largest entry; the first ones are smaller, for the sake of short texts.
const (
	blockBits     = 20
	firstBlockLen = 4 << 10
)

// add stores an entry. Its ref is made by index, when the number of entries is known.
func (s *Source) add(e SourceEntry) {
	need := 3*binary.MaxVarintLen32 + len(e.Key) + len(e.Value)
	last := len(s.blocks) - 1
	if last < 0 || cap(s.blocks[last])-len(s.blocks[last]) < need {
		size := firstBlockLen
		if last >= 0 {
			size = min(2*cap(s.blocks[last]), 1<<blockBits)
		}
		s.blocks = append(s.blocks, make([]byte, 0, max(size, need)))
		last++
	}
	b := s.blocks[last]
	b = binary.AppendUvarint(b, uint64(e.Line))
	b = binary.AppendUvarint(b, uint64(len(e.Key)))
	b = binary.AppendUvarint(b, uint64(len(e.Value)))
	b = append(b, e.Key...)
	s.blocks[last] = append(b, e.Value...)
}

// entry returns the entry at a place, and the place behind it in the same block.
func (s *Source) entry(at uint64) (e SourceEntry, next uint64) {
	block := s.blocks[at>>blockBits]
	pos := int(at & (1<<blockBits - 1))
	line, n := binary.Uvarint(block[pos:])
	pos += n
	klen, n := binary.Uvarint(block[pos:])
	pos += n
	vlen, n := binary.Uvarint(block[pos:])
	pos += n
	key, value := pos, pos+int(klen)
	end := value + int(vlen)
	return SourceEntry{int(line), block[key:value:value], block[value:end:end]}, at - at&(1<<blockBits-1) + uint64(end)
}

func (s *Source) key(r sourceRef) []byte {
	e, _ := s.entry(r.at)
	return e.Key
}

// LoadSource reads all of r. Keys that come twice with different values, after folding, are a
// *SourceError that names both lines, beside the bad lines of ReadSource; the same entry twice is taken as
// one. With Lenient the first one wins, as in postmap, with a warning.
func LoadSource(r io.Reader, opts SourceOptions) (source *Source, warnings []Problem, err error) {
	s, n := &Source{}, 0
	read, err := readSource(r, opts, func(e SourceEntry) error {
		s.add(e)
		n++
		return nil
	})
	if err != nil {
		warnings, _ = read.result()
		return nil, warnings, err
	}
	s.index(n)
	s.sort(s.refs, 0)
	read.join(s.dedupe(opts.Lenient))
	if warnings, err = read.result(); err != nil {
		return nil, warnings, err
	}
	return s, warnings, nil
}

// index makes the refs of all n entries, in the order of the text.
func (s *Source) index(n int) {
	s.refs = make([]sourceRef, 0, n)
	for i, block := range s.blocks {
		for at, end := uint64(i)<<blockBits, uint64(i)<<blockBits+uint64(len(block)); at < end; {
			s.refs = append(s.refs, sourceRef{at: at})
			_, at = s.entry(at)
		}
	}
}

// sort sorts refs, whose keys agree in their first depth bytes, by key and then in the order of the text:
// by the eight bytes behind what all of them have in common, and deeper only where these agree. A key that
// has ended counts as zero bytes, which no key holds.
func (s *Source) sort(refs []sourceRef, depth int) {
	if len(refs) < 2 {
		return
	}
	depth = s.common(refs, depth)
	for i := range refs {
		var head [8]byte
		if key := s.key(refs[i]); len(key) > depth {
			copy(head[:], key[depth:])
		}
		refs[i].head = binary.BigEndian.Uint64(head[:])
	}
	slices.SortFunc(refs, func(a, b sourceRef) int {
		switch {
		case a.head < b.head:
			return -1
		case a.head > b.head:
			return 1
		default:
			return cmp.Compare(a.at, b.at)
		}
	})
	for from := 0; from < len(refs); {
		to := from + 1
		for to < len(refs) && refs[to].head == refs[from].head {
			to++
		}
		if ended := refs[from].head&0xff == 0; !ended {
			s.sort(refs[from:to], depth+8)
		}
		from = to
	}
}

// common returns how many bytes the keys of refs have in common; they are known to agree in depth bytes.
func (s *Source) common(refs []sourceRef, depth int) int {
	first := s.key(refs[0])
	most := len(first)
	for _, r := range refs[1:] {
		key := s.key(r)
		n := depth
		for n < most && n < len(key) && key[n] == first[n] {
			n++
		}
		if most = n; most <= depth {
			break
		}
	}
	return most
}

// dedupe leaves the first of the entries of each key, and notes the others: the same entry again only if
// lenient, as postmap does.
func (s *Source) dedupe(lenient bool) notes {
	type repeat struct {
		line, first int
		at          uint64
	}
	var repeats []repeat
	kept := s.refs[:0]
	var last SourceEntry
	for _, r := range s.refs {
		e, _ := s.entry(r.at)
		if len(kept) == 0 || !bytes.Equal(last.Key, e.Key) {
			kept, last = append(kept, r), e
			s.bytes += int64(len(e.Key)) + int64(len(e.Value))
			continue
		}
		if lenient || !bytes.Equal(last.Value, e.Value) {
			repeats = append(repeats, repeat{e.Line, last.Line, r.at})
		}
	}
	s.refs = kept
	slices.SortFunc(repeats, func(a, b repeat) int { return cmp.Compare(a.line, b.line) })
	found := notes{lenient: lenient}
	text := "key %s has another value on line %d"
	if lenient {
		text = "duplicate key %s: the entry of line %d stays"
	}
	for _, p := range repeats {
		found.breach(p.line, text, quoteKey(s.key(sourceRef{at: p.at})), p.first)
	}
	return found
}

// Len returns the number of entries.
func (s *Source) Len() int { return len(s.refs) }

// Bytes returns the size of all keys and values.
func (s *Source) Bytes() int64 { return s.bytes }

// All returns the entries in the order of their keys. The caller must not change them.
func (s *Source) All() iter.Seq2[[]byte, []byte] {
	return func(yield func(key, value []byte) bool) {
		for _, r := range s.refs {
			if e, _ := s.entry(r.at); !yield(e.Key, e.Value) {
				return
			}
		}
	}
}

package dict

import (
	"bytes"
	"encoding/binary"
	"io"
	"iter"
	"slices"
)

// A Source is source text in memory: its entries with folded keys, sorted by key, no key twice. It is
// immutable and may be read from any goroutine.
type Source struct {
	arena []byte
	refs  []sourceRef
	bytes int64
}

// sourceRef points to an entry in the arena. The head is eight bytes of the key, as a big-endian number, and
// lets sort compare without a look at the arena.
type sourceRef struct {
	head uint64
	off  int64
	klen uint32
	vlen uint32
	line uint32
}

func (s *Source) key(r sourceRef) []byte { return s.arena[r.off : r.off+int64(r.klen)] }
func (s *Source) value(r sourceRef) []byte {
	from := r.off + int64(r.klen)
	return s.arena[from : from+int64(r.vlen)]
}

// LoadSource reads all of r. Keys that come twice with different values, after folding, are a
// *SourceError that names both lines; the same entry twice is taken as one. With Lenient the first one
// wins, as in postmap, with a warning.
func LoadSource(r io.Reader, opts SourceOptions) (*Source, []Problem, error) {
	s := &Source{}
	warnings, err := ReadSource(r, opts, func(e SourceEntry) error {
		s.refs = append(s.refs, sourceRef{
			off: int64(len(s.arena)), klen: uint32(len(e.Key)), vlen: uint32(len(e.Value)), line: uint32(e.Line),
		})
		s.arena = append(append(s.arena, e.Key...), e.Value...)
		return nil
	})
	if err != nil {
		return nil, warnings, err
	}
	s.sort(s.refs, 0)
	warnings, err = s.dedupe(opts, warnings)
	if err != nil {
		return nil, warnings, err
	}
	for _, r := range s.refs {
		s.bytes += int64(r.klen) + int64(r.vlen)
	}
	return s, warnings, nil
}

// sort sorts refs, whose keys agree in their first depth bytes, by key and then by line: eight bytes at a
// time, going deeper only where these agree. A key that has ended counts as zero bytes, which no key holds.
func (s *Source) sort(refs []sourceRef, depth int) {
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
			return int(a.line) - int(b.line)
		}
	})
	for from := 0; from < len(refs); {
		to := from + 1
		for to < len(refs) && refs[to].head == refs[from].head {
			to++
		}
		if ended := refs[from].head&0xff == 0; to-from > 1 && !ended {
			s.sort(refs[from:to], depth+8)
		}
		from = to
	}
}

// dedupe leaves the first of the entries of each key.
func (s *Source) dedupe(opts SourceOptions, warnings []Problem) ([]Problem, error) {
	var bad SourceError
	kept := s.refs[:0]
	for _, r := range s.refs {
		if n := len(kept); n > 0 && bytes.Equal(s.key(kept[n-1]), s.key(r)) {
			switch first := kept[n-1]; {
			case bytes.Equal(s.value(first), s.value(r)):
			case opts.Lenient:
				warnings = append(warnings, Problem{int(r.line), "duplicate key " + quoteKey(s.key(r)) + ": the entry of the earlier line stays"})
			default:
				bad.add(int(r.line), "key %s has another value on line %d", quoteKey(s.key(r)), first.line)
			}
			continue
		}
		kept = append(kept, r)
	}
	s.refs = kept
	slices.SortFunc(bad.Problems, func(a, b Problem) int { return a.Line - b.Line })
	slices.SortStableFunc(warnings, func(a, b Problem) int { return a.Line - b.Line })
	return warnings, bad.err()
}

// Len returns the number of entries.
func (s *Source) Len() int { return len(s.refs) }

// Bytes returns the size of all keys and values.
func (s *Source) Bytes() int64 { return s.bytes }

// All returns the entries in the order of their keys. The caller must not change them.
func (s *Source) All() iter.Seq2[[]byte, []byte] {
	return func(yield func(key, value []byte) bool) {
		for _, r := range s.refs {
			if !yield(s.key(r), s.value(r)) {
				return
			}
		}
	}
}

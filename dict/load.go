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

// A block has room for the largest entry, and so many bits count the places in it.
const blockBits = 20

// LoadSource reads all of r. Keys that come twice with different values, after folding, are a
// *SourceError that names both lines, beside the bad lines of ReadSource; the same entry twice is taken as
// one. With Lenient the first one wins, as in postmap, with a warning.
func LoadSource(r io.Reader, opts SourceOptions) (source *Source, warnings []Problem, err error) {
	memory := &memory{onSlab: opts.OnSlab}
	read, s, parts, err := loadParts(r, opts, memory)
	if err != nil {
		warnings, _ = read.result()
		return nil, warnings, err
	}
	read.join(s.arrange(parts, opts, memory))
	if warnings, err = read.result(); err != nil {
		return nil, warnings, err
	}
	return s, warnings, nil
}

// loadParts reads the entries of all of r. One goroutine finds the lines, and opts.Workers read them. The notes are what
// there was to say of the lines; err is what ended the reading early.
func loadParts(r io.Reader, opts SourceOptions, memory *memory) (read notes, s *Source, parts []*part, err error) {
	read.lenient = opts.Lenient
	var readAll crew
	current := &part{memory: memory}
	for line, lineErr := range LogicalLines(r) {
		if err = lineErr; err != nil {
			break
		}
		if !current.add(line) {
			parts = append(parts, current)
			readAll.do(opts.Workers, func(p *part) func() { return func() { p.read(opts) } }(current))
			current = &part{memory: memory}
			current.add(line)
		}
	}
	parts = append(parts, current)
	current.read(opts)
	readAll.wait()
	s = &Source{}
	for _, p := range parts {
		read.join(p.found)
		p.block = len(s.blocks)
		s.blocks = append(s.blocks, p.blocks...)
		s.bytes += p.bytes
	}
	return read, s, parts, err
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

// arrange makes the refs of all entries in the order of the keys, without those of keys that were there before, of which
// it returns the notes. Heaps of refs, each with the keys between two others, are sorted at the same time.
func (s *Source) arrange(parts []*part, opts SourceOptions, memory *memory) notes {
	n, depth := 0, commonOf(parts)
	for _, p := range parts {
		p.from = n
		n += p.count
	}
	refs := memory.refs(n)
	var crew crew
	for _, p := range parts {
		crew.do(opts.Workers, func() { s.refer(refs[p.from:p.from+p.count], p, depth) })
	}
	crew.wait()
	heaps := heapsOf(memory, refs, opts.Workers)
	repeats := make([][]repeat, len(heaps))
	for i := range heaps {
		crew.do(opts.Workers, func() {
			s.sort(heaps[i], depth)
			heaps[i], repeats[i] = s.dedupe(heaps[i], opts.Lenient)
		})
	}
	crew.wait()
	s.refs = heaps[0] // they follow each other in memory
	for _, heap := range heaps[1:] {
		s.refs = append(s.refs, heap...)
	}
	if len(s.refs) < n { // the size is that of all lines
		s.bytes = 0
		for k, v := range s.All() {
			s.bytes += int64(len(k)) + int64(len(v))
		}
	}
	return s.notesOf(slices.Concat(repeats...), opts.Lenient)
}

// refer makes the refs of a part, in the order of the text, with the heads behind depth bytes.
func (s *Source) refer(refs []sourceRef, p *part, depth int) {
	i := 0
	for block := p.block; block < p.block+len(p.blocks); block++ {
		for at, end := uint64(block)<<blockBits, uint64(block)<<blockBits+uint64(len(s.blocks[block])); at < end; i++ {
			e, next := s.entry(at)
			refs[i] = sourceRef{head: headOf(e.Key, depth), at: at}
			at = next
		}
	}
}

// headOf returns the eight bytes of a key behind the first depth. A key that has ended counts as zero bytes, which no key
// holds.
func headOf(key []byte, depth int) uint64 {
	var head [8]byte
	if len(key) >= depth+8 {
		return binary.BigEndian.Uint64(key[depth:])
	}
	if len(key) > depth {
		copy(head[:], key[depth:])
	}
	return binary.BigEndian.Uint64(head[:])
}

// sort sorts refs, whose keys agree in their first depth bytes and whose heads are those behind, by key and then in the
// order of the text. It looks deeper only where heads agree.
func (s *Source) sort(refs []sourceRef, depth int) {
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
		if ended := refs[from].head&0xff == 0; !ended && to-from > 1 {
			same := refs[from:to]
			deeper := s.common(same, depth+8)
			for i := range same {
				same[i].head = headOf(s.key(same[i]), deeper)
			}
			s.sort(same, deeper)
		}
		from = to
	}
}

// common returns how many bytes the keys of refs have in common; they are known to agree in depth bytes.
func (s *Source) common(refs []sourceRef, depth int) int {
	first := s.key(refs[0])
	most := len(first)
	for _, r := range refs[1:] {
		if most = agreement(first[:most], s.key(r)); most <= depth {
			break
		}
	}
	return most
}

// agreement returns how many bytes a and b have in common at their start.
func agreement(a, b []byte) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}

// A repeat is an entry whose key was there before.
type repeat struct {
	line, first int
	at          uint64
}

// dedupe leaves the first of the entries of each key, and returns the others: the same entry again only if lenient, as
// postmap does.
func (s *Source) dedupe(refs []sourceRef, lenient bool) (kept []sourceRef, repeats []repeat) {
	kept = refs[:0]
	for i, r := range refs {
		// Equal keys have equal heads, whatever they were compared by last.
		if i > 0 && r.head == refs[i-1].head {
			last, _ := s.entry(kept[len(kept)-1].at)
			if e, _ := s.entry(r.at); bytes.Equal(last.Key, e.Key) {
				if lenient || !bytes.Equal(last.Value, e.Value) {
					repeats = append(repeats, repeat{e.Line, last.Line, r.at})
				}
				continue
			}
		}
		kept = append(kept, r)
	}
	return kept, repeats
}

func (s *Source) notesOf(repeats []repeat, lenient bool) notes {
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
func (s *Source) All() iter.Seq2[[]byte, []byte] { return s.slice(s.refs) }

func (s *Source) slice(refs []sourceRef) iter.Seq2[[]byte, []byte] {
	return func(yield func(key, value []byte) bool) {
		for rest := refs; len(rest) > 0; {
			n := min(ahead, len(rest))
			s.fetch(rest[:n])
			for _, r := range rest[:n] {
				if e, _ := s.entry(r.at); !yield(e.Key, e.Value) {
					return
				}
			}
			rest = rest[n:]
		}
	}
}

// ahead is how many entries are fetched together, and cacheLine what the memory brings at once, in bytes: most entries lie in
// two of them.
const (
	ahead     = 64
	cacheLine = 64
)

// fetch brings entries near. In the order of the keys each is a wait for memory, or for several, as the text is in any other
// order; nothing of them hangs on another here, so the processor waits for many at a time. What it returns says nothing.
//
//go:noinline
func (s *Source) fetch(refs []sourceRef) (some byte) {
	for _, r := range refs {
		block := s.blocks[r.at>>blockBits][r.at&(1<<blockBits-1):]
		some |= block[0] | block[min(cacheLine, len(block)-1)]
	}
	return some
}

// Split returns n sequences, which one after the other are All, for as many goroutines.
func (s *Source) Split(n int) []iter.Seq2[[]byte, []byte] {
	all := make([]iter.Seq2[[]byte, []byte], n)
	for i := range all {
		all[i] = s.slice(s.refs[len(s.refs)*i/n : len(s.refs)*(i+1)/n])
	}
	return all
}

package dict

import (
	"encoding/binary"
	"slices"
	"sync"
)

// A part is some lines of source text that follow each other, and then their entries.
type part struct {
	memory *memory
	rough

	found  notes
	blocks [][]byte
	count  int    // of the entries
	bytes  int64  // of their keys and values
	first  []byte // the key of the first one
	common int    // how many bytes all keys have in common

	block int // the number of the first of its blocks in the Source
	from  int // how many entries are in the parts before
}

// partText is how much text makes a part, in bytes: so much that a goroutine has something to do, and so little that its
// entries fit into a block, however short they are.
const partText = 256 << 10

// add takes a copy of a line. It returns false where the part is full.
func (p *part) add(line LogicalLine) bool {
	if line.Comment && !isDirective(line.Text) {
		return true
	}
	if p.lines != nil && len(p.text)+len(line.Text) > cap(p.text) {
		return false
	}
	if p.lines == nil {
		p.rough = p.memory.rough(max(partText, len(line.Text)))
	}
	from := len(p.text)
	p.text = append(p.text, line.Text...)
	line.Text = p.text[from:len(p.text):len(p.text)]
	p.lines = append(p.lines, line)
	return true
}

// read reads the lines and lets go of them.
func (p *part) read(opts SourceOptions) {
	in := newLineReader(opts)
	for _, line := range p.lines {
		if key, value, ok := in.entry(line); ok {
			p.keep(SourceEntry{line.Line, key, value})
		}
	}
	p.found = in.found
	p.memory.done(p.rough)
	p.rough = rough{}
}

// keep stores an entry.
func (p *part) keep(e SourceEntry) {
	need := 3*binary.MaxVarintLen32 + len(e.Key) + len(e.Value)
	last := len(p.blocks) - 1
	if last < 0 || cap(p.blocks[last])-len(p.blocks[last]) < need {
		size := len(p.text) + 6*len(p.lines) // which is all, if folding makes no key longer
		p.blocks = append(p.blocks, p.memory.bytes(max(min(size, 1<<blockBits), need)))
		last++
	}
	b := p.blocks[last]
	b = binary.AppendUvarint(b, uint64(e.Line))
	b = binary.AppendUvarint(b, uint64(len(e.Key)))
	b = binary.AppendUvarint(b, uint64(len(e.Value)))
	from := len(b)
	b = append(b, e.Key...)
	key := b[from:]
	p.blocks[last] = append(b, e.Value...)
	if p.count == 0 {
		p.first, p.common = key, len(key)
	}
	p.common = agreement(p.first[:p.common], key)
	p.count++
	p.bytes += int64(len(e.Key)) + int64(len(e.Value))
}

// commonOf returns how many bytes the keys of all parts have in common.
func commonOf(parts []*part) int {
	var first *part
	common := 0
	for _, p := range parts {
		switch {
		case p.count == 0:
		case first == nil:
			first, common = p, p.common
		default:
			common = min(agreement(first.first[:common], p.first), p.common)
		}
	}
	return common
}

// heapRefs is about how many refs are in a heap: few enough to be sorted in the processor's cache.
const heapRefs = 4 << 10

// heapsOf moves refs into heaps by their heads: those of each heap are less than those of the next, and equal heads are in
// one heap. The heaps follow each other in memory.
func heapsOf(memory *memory, refs []sourceRef, workers int) [][]sourceRef {
	count := len(refs) / heapRefs
	if count < 2 {
		return [][]sourceRef{refs}
	}
	const each = 16 // heads are looked at for each heap, to part them about evenly
	sample := make([]uint64, count*each)
	for i := range sample {
		sample[i] = refs[len(refs)*i/len(sample)].head
	}
	slices.Sort(sample)
	bounds := make([]uint64, 0, count) // the least heads of all heaps but the first
	for i := each; i < len(sample); i += each {
		if len(bounds) == 0 || sample[i] > bounds[len(bounds)-1] {
			bounds = append(bounds, sample[i])
		}
	}
	heaps := len(bounds) + 1
	shares := max(workers, 1)
	share := func(i int) (from, to int) { return len(refs) * i / shares, len(refs) * (i + 1) / shares }
	heapOf := make([]uint32, len(refs))
	places := make([][]int, shares) // of the next ref of each share in each heap
	var crew crew
	for i := range shares {
		crew.do(workers, func() {
			places[i] = make([]int, heaps)
			from, to := share(i)
			for j := from; j < to; j++ {
				lo, hi := 0, len(bounds)
				for lo < hi {
					if mid := int(uint(lo+hi) >> 1); bounds[mid] <= refs[j].head {
						lo = mid + 1
					} else {
						hi = mid
					}
				}
				heapOf[j] = uint32(lo)
				places[i][lo]++
			}
		})
	}
	crew.wait()
	moved := memory.refs(len(refs))
	parted := make([][]sourceRef, heaps)
	at := 0
	for h := range heaps {
		from := at
		for i := range shares {
			n := places[i][h]
			places[i][h] = at
			at += n
		}
		parted[h] = moved[from:at]
	}
	for i := range shares {
		crew.do(workers, func() {
			from, to := share(i)
			for j := from; j < to; j++ {
				place := &places[i][heapOf[j]]
				moved[*place] = refs[j]
				*place++
			}
		})
	}
	crew.wait()
	return parted
}

// A crew does pieces of work on several goroutines. The zero value is ready.
type crew struct {
	slots   chan struct{}
	pending sync.WaitGroup
}

// do does a piece on a goroutine of its own, and waits while as many as there are workers are at work. One worker, or none,
// is the caller itself.
func (c *crew) do(workers int, piece func()) {
	if workers < 2 {
		piece()
		return
	}
	if c.slots == nil {
		c.slots = make(chan struct{}, workers)
	}
	c.slots <- struct{}{}
	c.pending.Go(func() {
		defer func() { <-c.slots }()
		piece()
	})
}

// wait returns when all pieces are done.
func (c *crew) wait() { c.pending.Wait() }

package packed

import (
	"bytes"
	"encoding/binary"
	"slices"
)

// separators are keys back to back, in order. The first one is not looked at.
type separators struct {
	// What a search looks at, in few cache lines: the bytes that all but the first begin with, and the eight behind them of
	// each. nil until setHeads makes them.
	common []byte
	heads  []uint64

	text   []byte
	ends   []uint32
	shared bool // with another node: to be copied before they change
}

func (s *separators) at(i int) []byte {
	from := uint32(0)
	if i > 0 {
		from = s.ends[i-1]
	}
	return s.text[from:s.ends[i]]
}

// child returns the index of the last separator that is not greater than key, 0 if there is none.
func (s *separators) child(key []byte) int {
	if s.heads == nil {
		return s.childByText(key)
	}
	lo, hi := 1, len(s.heads)
	switch rest, ok := bytes.CutPrefix(key, s.common); {
	case ok:
		for head := headOf(rest); lo < hi; {
			mid := int(uint(lo+hi) >> 1)
			if h := s.heads[mid]; h < head || h == head && bytes.Compare(s.at(mid), key) <= 0 {
				lo = mid + 1
			} else {
				hi = mid
			}
		}
		return lo - 1
	case bytes.Compare(key, s.common) < 0:
		return 0
	default:
		return hi - 1
	}
}

func (s *separators) childByText(key []byte) int {
	lo, hi := 1, len(s.ends)
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		if bytes.Compare(s.at(mid), key) <= 0 {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo - 1
}

// headOf returns a number that is not greater than that of any greater key.
func headOf(key []byte) uint64 {
	if len(key) < 8 {
		var padded [8]byte
		copy(padded[:], key)
		key = padded[:]
	}
	return binary.BigEndian.Uint64(key)
}

// setHeads makes what child looks at, where it is not there.
func (s *separators) setHeads() {
	if s.heads != nil || len(s.ends) < 2 {
		return
	}
	first, last := s.at(1), s.at(len(s.ends)-1)
	n := 0
	for n < min(len(first), len(last)) && first[n] == last[n] {
		n++
	}
	s.common = first[:n]
	s.heads = make([]uint64, len(s.ends))
	for i := 1; i < len(s.ends); i++ {
		s.heads[i] = headOf(s.at(i)[n:])
	}
}

// share returns the same separators for another node.
func (s *separators) share() separators {
	c := *s
	c.shared = true
	return c
}

// own makes s one that may change. It has no heads then.
func (s *separators) own() {
	s.common, s.heads = nil, nil
	if s.shared {
		*s = separators{text: bytes.Clone(s.text), ends: slices.Clone(s.ends)}
	}
}

func (s *separators) push(key []byte) {
	s.own()
	s.text = append(s.text, key...)
	s.ends = append(s.ends, uint32(len(s.text)))
}

// cut leaves the first n.
func (s *separators) cut(n int) {
	s.common, s.heads = nil, nil
	s.text, s.ends = s.text[:s.ends[n-1]], s.ends[:n]
}

func (s *separators) insert(i int, key []byte) {
	s.own()
	from := uint32(0)
	if i > 0 {
		from = s.ends[i-1]
	}
	s.text = append(s.text[:from:from], append(append([]byte(nil), key...), s.text[from:]...)...)
	s.ends = insert(s.ends, i, from)
	for j := i; j < len(s.ends); j++ {
		s.ends[j] += uint32(len(key))
	}
}

func (s *separators) remove(i int) {
	s.own()
	from := uint32(0)
	if i > 0 {
		from = s.ends[i-1]
	}
	n := s.ends[i] - from
	s.text = append(s.text[:from], s.text[from+n:]...)
	s.ends = remove(s.ends, i)
	for j := i; j < len(s.ends); j++ {
		s.ends[j] -= n
	}
}

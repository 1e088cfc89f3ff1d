package regex

// An op says what a node is.
type op uint8

const (
	opEmpty   op = iota
	opFail       // never matches
	opSet        // one byte of set
	opCat        // subs in turn
	opAlt        // the first of subs that leads to a match
	opRepeat     // subs[0], min to max times; max -1 is no bound
	opCapture    // subs[0], remembered as group n
	opAssert     // assert
	opBackref    // what one of the groups refs matched
	opAtomic     // subs[0], never gone back into
	opLook       // subs[0] matches ahead, or behind; neg: does not
	opCond       // cond: subs[0], else subs[1]; opLook as condition is subs[2]
	opCall       // group n again
	opKeep       // \K
)

// An assert is a condition on a place in the key.
type assert uint8

const (
	atBegin        assert = iota // \A
	atEnd                        // \z
	atEndNL                      // \Z: the end, or before a newline at the end
	atLineStart                  // ^ of PCRE2 with m: not behind a newline at the end
	atLineStartAny               // ^ of POSIX with m
	atLineEnd                    // $ with m
	atWord                       // \b
	atNotWord                    // \B
	atWordStart                  // \<
	atWordEnd                    // \>
)

// How a repetition chooses.
type greed uint8

const (
	greedy greed = iota
	lazy
	possessive
)

// What a condition asks.
type condition uint8

const (
	condGroup     condition = iota // one of the groups refs is set
	condRecursion                  // inside a call of group n; -1: of any
	condLook                       // subs[2]
	condDefine                     // never
)

// A node is a part of a pattern.
type node struct {
	op     op
	set    set
	subs   []*node
	min    int
	max    int
	greed  greed
	n      int
	refs   []int
	fold   bool
	assert assert
	behind bool
	neg    bool
	cond   condition
}

func cat(subs ...*node) *node {
	if len(subs) == 1 {
		return subs[0]
	}
	if len(subs) == 0 {
		return &node{op: opEmpty}
	}
	return &node{op: opCat, subs: subs}
}

func alt(subs ...*node) *node {
	if len(subs) == 1 {
		return subs[0]
	}
	return &node{op: opAlt, subs: subs}
}

func setNode(s set) *node { return &node{op: opSet, set: s} }

func byteNode(b byte, fold bool) *node {
	var s set
	s.add(b)
	if fold {
		s = s.fold()
	}
	return setNode(s)
}

func assertNode(a assert) *node { return &node{op: opAssert, assert: a} }

// any reports whether f holds for n or a part of it.
func (n *node) any(f func(*node) bool) bool {
	if f(n) {
		return true
	}
	for _, sub := range n.subs {
		if sub.any(f) {
			return true
		}
	}
	return false
}

// nullable reports whether n may match without taking a byte. It may say so wrongly of a call.
func (n *node) nullable() bool {
	switch n.op {
	case opSet, opFail:
		return false
	case opCat:
		for _, sub := range n.subs {
			if !sub.nullable() {
				return false
			}
		}
		return true
	case opAlt:
		for _, sub := range n.subs {
			if sub.nullable() {
				return true
			}
		}
		return false
	case opRepeat:
		return n.min == 0 || n.subs[0].nullable()
	case opCapture, opAtomic:
		return n.subs[0].nullable()
	case opCond:
		return n.subs[0].nullable() || n.subs[1].nullable()
	default:
		return true
	}
}

// width returns how many bytes n takes, if that is always the same. groups are the captures, for calls.
func (n *node) width(groups map[int]*node) (w int, ok bool) {
	budget := maxWidth
	return n.widthWithin(groups, &budget)
}

// widthWithin is width, for as many parts as the budget allows: calls may lead back to themselves.
func (n *node) widthWithin(groups map[int]*node, budget *int) (w int, ok bool) {
	if *budget--; *budget < 0 {
		return 0, false
	}
	switch n.op {
	case opSet:
		return 1, true
	case opEmpty, opAssert, opLook, opKeep, opFail:
		return 0, true
	case opCat:
		for _, sub := range n.subs {
			sw, ok := sub.widthWithin(groups, budget)
			if !ok {
				return 0, false
			}
			w += sw
		}
		return w, true
	case opAlt, opCond:
		subs := n.subs
		if n.op == opCond {
			subs = subs[:2]
			if n.cond == condDefine {
				return 0, true
			}
		}
		for i, sub := range subs {
			sw, ok := sub.widthWithin(groups, budget)
			if !ok || i > 0 && sw != w {
				return 0, false
			}
			w = sw
		}
		return w, true
	case opRepeat:
		w, ok := n.subs[0].widthWithin(groups, budget)
		return w * n.min, ok && w < maxProgram && (n.min == n.max || w == 0)
	case opCapture, opAtomic:
		return n.subs[0].widthWithin(groups, budget)
	case opCall:
		if g := groups[n.n]; g != nil {
			return g.widthWithin(groups, budget)
		}
	}
	return 0, false
}

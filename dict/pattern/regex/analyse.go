package regex

import "bytes"

// analyse notes what can be told of a match before it is tried.
func (re *Regex) analyse(root *node, groups map[int]*node) {
	re.anchored = anchored(root) || re.pure && dotStar(root)
	if s, ok := first(root); ok {
		re.firstSet, re.useFirst = s, true
	}
	re.least = leastOf(root, groups)
	if found := required(root); len(found.any) > 0 {
		re.literals = found.any
	}
}

// anchored reports whether n only matches at the start of the key.
func anchored(n *node) bool {
	switch n.op {
	case opAssert:
		return n.assert == atBegin
	case opCapture, opAtomic:
		return anchored(n.subs[0])
	case opCat:
		for _, sub := range n.subs {
			if anchored(sub) {
				return true
			}
			if w, ok := sub.width(nil); !ok || w > 0 || sub.op == opKeep {
				return false
			}
		}
	case opAlt:
		for _, sub := range n.subs {
			if !anchored(sub) {
				return false
			}
		}
		return true
	case opRepeat:
		return n.min > 0 && anchored(n.subs[0])
	}
	return false
}

// dotStar reports whether n begins with any number of any bytes: where it does not match at the start, it
// matches nowhere.
func dotStar(n *node) bool {
	switch n.op {
	case opCapture:
		return dotStar(n.subs[0])
	case opCat:
		return dotStar(n.subs[0])
	case opRepeat:
		return n.min == 0 && n.max < 0 && n.greed == greedy && n.subs[0].op == opSet && n.subs[0].set.len() == 256
	}
	return false
}

// first returns the bytes that a match of n can begin with; ok is false when it may match without taking one.
func first(n *node) (s set, ok bool) {
	switch n.op {
	case opSet:
		return n.set, true
	case opFail:
		return s, true
	case opCat:
		for _, sub := range n.subs {
			f, ok := first(sub)
			s.addSet(f)
			if ok {
				return s, true
			}
			if !transparent(sub) {
				return s, false
			}
		}
	case opAlt:
		ok = true
		for _, sub := range n.subs {
			f, subOK := first(sub)
			s.addSet(f)
			ok = ok && subOK
		}
		return s, ok
	case opCapture, opAtomic:
		return first(n.subs[0])
	case opRepeat:
		s, ok = first(n.subs[0])
		return s, ok && n.min > 0
	}
	return s, false
}

// transparent reports whether, when n takes no byte, the part behind it begins at the same place, and all
// that n could begin with is known.
func transparent(n *node) bool {
	switch n.op {
	case opEmpty, opAssert, opLook:
		return true
	case opSet, opFail:
		return true
	case opCapture, opAtomic:
		return transparent(n.subs[0])
	case opRepeat, opCat, opAlt:
		for _, sub := range n.subs {
			if !transparent(sub) {
				return false
			}
		}
		return true
	}
	return false
}

// A need says what a key that matches must hold.
type need struct {
	exact   []byte   // the whole match, when isExact
	isExact bool     // in lower case, and either case may stand there
	any     [][]byte // one of these at least
}

// Bounds of a need.
const (
	maxNeedLen = 64
	maxNeeds   = 32
)

// weight is how much the strings of a need say: the length of the shortest.
func weight(any [][]byte) int {
	if len(any) == 0 {
		return 0
	}
	w := len(any[0])
	for _, s := range any[1:] {
		w = min(w, len(s))
	}
	return w
}

func better(a, b [][]byte) [][]byte {
	wa, wb := weight(a), weight(b)
	if wb > wa || wb == wa && len(b) < len(a) {
		return b
	}
	return a
}

func exactly(s []byte) need {
	n := need{exact: s, isExact: true}
	if len(s) > 0 {
		n.any = [][]byte{s}
	}
	return n
}

// required returns what a key must hold for n to match.
func required(n *node) need {
	switch n.op {
	case opEmpty, opAssert, opLook, opKeep:
		return exactly(nil)
	case opSet:
		switch b := lower(n.set.first()); {
		case n.set.len() == 1, n.set.len() == 2 && isLower(b) && n.set.has(b) && n.set.has(upper(b)):
			return exactly([]byte{b})
		}
	case opCapture, opAtomic:
		return required(n.subs[0])
	case opRepeat:
		if n.min == 0 {
			break
		}
		sub := required(n.subs[0])
		if sub.isExact && n.min == n.max && n.min*len(sub.exact) <= maxNeedLen {
			return exactly(bytes.Repeat(sub.exact, n.min))
		}
		return need{any: sub.any}
	case opCat:
		return requiredCat(n.subs)
	case opAlt:
		var out need
		for _, sub := range n.subs {
			s := required(sub)
			if len(s.any) == 0 || len(out.any)+len(s.any) > maxNeeds {
				return need{}
			}
			out.any = append(out.any, s.any...)
		}
		return out
	}
	return need{}
}

func requiredCat(subs []*node) need {
	out := need{isExact: true}
	var run []byte
	for _, sub := range subs {
		s := required(sub)
		if s.isExact && len(run)+len(s.exact) <= maxNeedLen {
			run = append(run, s.exact...)
			continue
		}
		out.isExact = false
		out.any = better(out.any, exactly(run).any)
		out.any = better(out.any, s.any)
		run = nil
		if s.isExact {
			run = append(run, s.exact...)
		}
	}
	if out.isExact {
		return exactly(run)
	}
	out.any = better(out.any, exactly(run).any)
	return out
}

// maxLeast is where counting how much a match takes ends.
const maxLeast = 1 << 16

// leastOf returns how many bytes a match of n takes at least, or fewer. groups are the captures, for calls.
func leastOf(n *node, groups map[int]*node) int {
	known := map[int]int{} // of the groups that were called; 0 while that is found out
	var least func(n *node) int
	least = func(n *node) int {
		switch n.op {
		case opSet:
			return 1
		case opCat:
			sum := 0
			for _, sub := range n.subs {
				sum = min(sum+least(sub), maxLeast)
			}
			return sum
		case opAlt:
			out := least(n.subs[0])
			for _, sub := range n.subs[1:] {
				out = min(out, least(sub))
			}
			return out
		case opRepeat:
			if n.min == 0 {
				return 0
			}
			return min(n.min*least(n.subs[0]), maxLeast)
		case opCapture, opAtomic:
			return least(n.subs[0])
		case opCond:
			if n.cond == condDefine {
				return 0
			}
			return min(least(n.subs[0]), least(n.subs[1]))
		case opCall:
			if _, ok := known[n.n]; !ok && groups[n.n] != nil {
				known[n.n] = 0
				known[n.n] = least(groups[n.n])
			}
			return known[n.n]
		}
		return 0
	}
	return least(n)
}

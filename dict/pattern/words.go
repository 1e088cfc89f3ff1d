package pattern

// words finds which of many strings stand in a text, in one pass, whatever the case of the letters: the
// automaton of Aho and Corasick, with its edges in one hash table.
type words struct {
	root  [256]int32 // where each byte leads from the start
	keys  []uint64   // open addressing: node<<8|byte, plus 1
	to    []int32
	shift uint
	nodes []wordNode
	rules []int32 // of all nodes, one after the other
}

// A wordNode is a state: a string that some words begin with.
type wordNode struct {
	fail     int32 // the longest other state that this one ends with
	hit      int32 // the longest such state in which a word ends, itself included; -1 for none
	from, to int32 // rules whose words end here
}

// scan calls hit for the rules of each word in text, in lower case; for some it may call more than once.
func (w *words) scan(text []byte, hit func(rule int32)) {
	if len(w.nodes) <= 1 {
		return
	}
	at := int32(0)
	for _, c := range text {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		for at != 0 {
			if next := w.edge(at, c); next >= 0 {
				at = next
				goto moved
			}
			at = w.nodes[at].fail
		}
		at = w.root[c]
	moved:
		for n := w.nodes[at].hit; n >= 0; n = w.nodes[w.nodes[n].fail].hit {
			for _, rule := range w.rules[w.nodes[n].from:w.nodes[n].to] {
				hit(rule)
			}
		}
	}
}

// edge returns the state behind one, -1 if no word goes on so.
func (w *words) edge(node int32, c byte) int32 {
	key := uint64(node)<<8 | uint64(c) + 1
	mask := uint64(len(w.keys) - 1)
	for i := hashEdge(key, w.shift); ; i = (i + 1) & mask {
		switch w.keys[i] {
		case key:
			return w.to[i]
		case 0:
			return -1
		}
	}
}

func hashEdge(key uint64, shift uint) uint64 { return key * 0x9e3779b97f4a7c15 >> shift }

// A wordsBuilder collects words.
type wordsBuilder struct {
	nodes []buildNode
}

type buildNode struct {
	children map[byte]int32
	rules    []int32
}

func newWordsBuilder() *wordsBuilder { return &wordsBuilder{nodes: make([]buildNode, 1)} }

// add notes a word, which is not empty and in lower case, of a rule.
func (b *wordsBuilder) add(word []byte, rule int32) {
	at := int32(0)
	for _, c := range word {
		next, ok := b.nodes[at].children[c]
		if !ok {
			next = int32(len(b.nodes))
			b.nodes = append(b.nodes, buildNode{})
			if b.nodes[at].children == nil {
				b.nodes[at].children = map[byte]int32{}
			}
			b.nodes[at].children[c] = next
		}
		at = next
	}
	b.nodes[at].rules = append(b.nodes[at].rules, rule)
}

// finish makes the automaton.
func (b *wordsBuilder) finish() *words {
	w := &words{nodes: make([]wordNode, len(b.nodes))}
	size, shift := 16, uint(60)
	for size < 2*len(b.nodes) {
		size, shift = size*2, shift-1
	}
	w.keys, w.to, w.shift = make([]uint64, size), make([]int32, size), shift
	for i := range b.nodes {
		for c, next := range b.nodes[i].children {
			w.addEdge(int32(i), c, next)
		}
		n := &w.nodes[i]
		n.from = int32(len(w.rules))
		w.rules = append(w.rules, b.nodes[i].rules...)
		n.to, n.hit = int32(len(w.rules)), -1
	}
	queue := []int32{0}
	for len(queue) > 0 {
		at := queue[0]
		queue = queue[1:]
		n := &w.nodes[at]
		if n.hit = w.nodes[n.fail].hit; n.to > n.from {
			n.hit = at
		}
		for c, child := range b.nodes[at].children {
			queue = append(queue, child)
			if at == 0 {
				w.root[c] = child
				continue
			}
			fail := n.fail
			for fail != 0 && w.edge(fail, c) < 0 {
				fail = w.nodes[fail].fail
			}
			if fail == 0 {
				fail = b.nodes[0].children[c] // 0, the start, if there is none
			} else {
				fail = w.edge(fail, c)
			}
			w.nodes[child].fail = fail
		}
	}
	return w
}

func (w *words) addEdge(node int32, c byte, to int32) {
	key := uint64(node)<<8 | uint64(c) + 1
	mask := uint64(len(w.keys) - 1)
	i := hashEdge(key, w.shift)
	for w.keys[i] != 0 {
		i = (i + 1) & mask
	}
	w.keys[i], w.to[i] = key, to
}

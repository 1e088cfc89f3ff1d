package packed

import "github.com/zeebo/xxh3"

// An Editor makes the next version of a table. It belongs to one goroutine; the table that it began with
// does not change. Keys and values that it returns stay valid for ever, as those of a Table.
type Editor struct {
	t       Table
	entries []entry // of the leaf that is made anew
	keys    []byte  // theirs
	encoded []byte
	old     []byte // value that the one that is put replaces
	had     bool   // there is one
}

// Edit returns an Editor that begins with t.
func (t *Table) Edit() *Editor { return &Editor{t: *t} }

// Table returns the edited table and ends the Editor.
func (e *Editor) Table() *Table {
	if e.t.root != nil {
		e.t.root.publish(e)
	}
	t := e.t
	return &t
}

// publish takes the right to change in place from the nodes that belong to e.
func (n *node) publish(e *Editor) {
	if n.owner != e {
		return
	}
	n.owner = nil
	n.seps.setHeads()
	for _, kid := range n.kids {
		kid.publish(e)
	}
}

// Get returns the value of key as it is now.
func (e *Editor) Get(key []byte) (value []byte, ok bool) { return e.t.Get(key) }

// Len returns the number of entries as it is now.
func (e *Editor) Len() int { return e.t.Len() }

// First returns the entry with the smallest key as it is now.
func (e *Editor) First() (key, value []byte, ok bool) { return e.t.Next(nil) }

// Put adds an entry or replaces the value of its key. It copies both, and returns the value before, if there was one.
func (e *Editor) Put(key, value []byte) (old []byte, had bool) {
	e.count(1, key, value)
	e.old, e.had = nil, false
	if e.t.root == nil {
		n := &node{owner: e, leaves: []leaf{makeLeaf([]entry{{key, value}})}}
		n.seps.push(key)
		e.t.root = n
		return nil, false
	}
	root, right := e.put(e.t.root, key, value)
	if right != nil {
		up := &node{owner: e, kids: []*node{root, right}}
		up.seps.push(root.seps.at(0))
		up.seps.push(right.seps.at(0))
		root = up
	}
	e.t.root = root
	if e.had {
		e.count(-1, key, e.old)
	}
	return e.old, e.had
}

// count takes an entry into the sums, or out of them with by -1.
func (e *Editor) count(by int, key, value []byte) {
	e.encoded = appendEntry(e.encoded[:0], key, value)
	e.t.count += by
	e.t.bytes += int64(by * (len(key) + len(value)))
	if hash := xxh3.Hash128(e.encoded); by > 0 {
		e.t.digest.add(hash)
	} else {
		e.t.digest.sub(hash)
	}
}

// put puts an entry below n and returns what replaces n: one node or two.
func (e *Editor) put(n *node, key, value []byte) (left, right *node) {
	n = e.own(n)
	i := n.seps.child(key)
	if n.kids != nil {
		kid, extra := e.put(n.kids[i], key, value)
		n.kids[i] = kid
		if extra != nil {
			n.kids = insert(n.kids, i+1, extra)
			n.seps.insert(i+1, extra.seps.at(0))
		}
		return e.split(n)
	}
	l := n.leaves[i]
	at, old, had := l.lookup(key)
	if !had {
		at, _ = l.find(key)
	}
	e.old, e.had = old, had
	if next, ok := l.splice(at, key, value, had); ok {
		n.leaves[i] = next
		return n, nil
	}
	e.take(l)
	if had {
		e.entries[at].value = value
	} else {
		e.entries = insert(e.entries, at, entry{key, value})
	}
	parts := cut(nil, e.entries, at == l.count() && i == n.len()-1)
	n.leaves[i] = parts[0]
	for j, part := range parts[1:] {
		n.leaves = insert(n.leaves, i+1+j, part)
		n.seps.insert(i+1+j, part.appendKey(nil, 0))
	}
	return e.split(n)
}

// take makes e.entries those of the leaves.
func (e *Editor) take(leaves ...leaf) {
	e.entries, e.keys = e.entries[:0], e.keys[:0]
	for _, l := range leaves {
		e.entries, e.keys = l.appendTo(e.entries, e.keys)
	}
}

// cut appends one leaf of the entries to dst, or several where they do not fit. With ascending set the last entry
// is new and the last of the table, and the others stay together, so that ascending keys fill their leaves.
func cut(dst []leaf, entries []entry, ascending bool) []leaf {
	layout := layoutOf(entries)
	if layout.fits(len(entries)) {
		return append(dst, layout.make(entries))
	}
	at := len(entries) - 1
	if !ascending {
		at = half(entries)
	}
	return cut(cut(dst, entries[:at], false), entries[at:], false)
}

// half returns the place of an entry, not the first one, with about as many bytes in front of it as from it on.
func half(entries []entry) int {
	size := 0
	for _, e := range entries {
		size += len(e.key) + len(e.value)
	}
	at := 0
	for sum := 0; at < len(entries)-1 && (at == 0 || sum < size/2); at++ {
		sum += len(entries[at].key) + len(entries[at].value)
	}
	return at
}

// Delete removes an entry and reports whether there was one.
func (e *Editor) Delete(key []byte) bool {
	value, ok := e.t.Get(key)
	if !ok {
		return false
	}
	e.count(-1, key, value)
	root := e.delete(e.t.root, key)
	for root != nil && root.kids != nil && len(root.kids) == 1 {
		root = root.kids[0]
	}
	e.t.root = root
	return true
}

// delete removes key, which is there, below n and returns what replaces n, nil when nothing is left.
func (e *Editor) delete(n *node, key []byte) *node {
	n = e.own(n)
	i := n.seps.child(key)
	if n.kids != nil {
		if kid := e.delete(n.kids[i], key); kid != nil {
			n.kids[i] = kid
			e.joinKids(n, i)
		} else {
			n.kids = remove(n.kids, i)
			n.seps.remove(i)
		}
	} else {
		at, _, _ := n.leaves[i].lookup(key)
		e.take(n.leaves[i])
		e.entries = remove(e.entries, at)
		if len(e.entries) == 0 {
			n.leaves = remove(n.leaves, i)
			n.seps.remove(i)
		} else {
			n.leaves[i] = makeLeaf(e.entries)
			e.joinLeaves(n, i)
		}
	}
	if n.len() == 0 {
		return nil
	}
	return n
}

// joinLeaves puts leaf i together with a neighbour when both are small.
func (e *Editor) joinLeaves(n *node, i int) {
	if len(n.leaves[i]) >= leafSize/4 {
		return
	}
	for _, left := range []int{i - 1, i} {
		if left < 0 || left+1 >= len(n.leaves) || len(n.leaves[left])+len(n.leaves[left+1]) > leafSize*3/4 {
			continue
		}
		e.take(n.leaves[left], n.leaves[left+1])
		layout := layoutOf(e.entries) // which may be larger than the two, as they share less
		if layout.size > leafSize*3/4 || !layout.fits(len(e.entries)) {
			continue
		}
		n.leaves[left] = layout.make(e.entries)
		n.leaves = remove(n.leaves, left+1)
		n.seps.remove(left + 1)
		return
	}
}

// joinKids puts child i together with a neighbour when both are small.
func (e *Editor) joinKids(n *node, i int) {
	if n.kids[i].len() >= fanout/4 {
		return
	}
	for _, at := range []int{i - 1, i} {
		if at < 0 || at+1 >= len(n.kids) || n.kids[at].len()+n.kids[at+1].len() > fanout*3/4 {
			continue
		}
		left, right := e.own(n.kids[at]), n.kids[at+1]
		left.kids = append(left.kids, right.kids...)
		left.leaves = append(left.leaves, right.leaves...)
		left.seps.push(n.seps.at(at + 1))
		for j := 1; j < right.len(); j++ {
			left.seps.push(right.seps.at(j))
		}
		n.kids[at] = left
		n.kids = remove(n.kids, at+1)
		n.seps.remove(at + 1)
		return
	}
}

// own returns n if e may change it, else a copy that e may change.
func (e *Editor) own(n *node) *node {
	if n.owner == e {
		return n
	}
	c := &node{owner: e, seps: n.seps.share()}
	if n.kids != nil {
		c.kids = append([]*node(nil), n.kids...)
	} else {
		c.leaves = append([]leaf(nil), n.leaves...)
	}
	return c
}

// split parts n, which e owns, when it has too many children.
func (e *Editor) split(n *node) (left, right *node) {
	if n.len() <= fanout {
		return n, nil
	}
	half := n.len() / 2
	right = &node{owner: e}
	for i := half; i < n.len(); i++ {
		right.seps.push(n.seps.at(i))
	}
	n.seps.cut(half)
	if n.kids != nil {
		right.kids = append(right.kids, n.kids[half:]...)
		clear(n.kids[half:])
		n.kids = n.kids[:half]
	} else {
		right.leaves = append(right.leaves, n.leaves[half:]...)
		clear(n.leaves[half:])
		n.leaves = n.leaves[:half]
	}
	return n, right
}

func insert[T any](s []T, i int, v T) []T {
	var zero T
	s = append(s, zero)
	copy(s[i+1:], s[i:])
	s[i] = v
	return s
}

func remove[T any](s []T, i int) []T {
	var zero T
	copy(s[i:], s[i+1:])
	s[len(s)-1] = zero
	return s[:len(s)-1]
}

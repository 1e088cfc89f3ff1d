package packed

// A Cursor goes through the entries of a table in the order of their keys. It belongs to one goroutine.
type Cursor struct {
	above []step // the inner nodes on the way to the leaf
	leaf  leaf
	at    int // of the next entry in the leaf
	left  int // entries of the leaf from there on
	key   []byte
}

// A step is a node and the child of it that comes next.
type step struct {
	n    *node
	next int
}

// Cursor returns a Cursor in front of the first entry.
func (t *Table) Cursor() *Cursor {
	c := &Cursor{key: []byte{}}
	if t.root != nil {
		c.above = append(c.above, step{n: t.root})
	}
	return c
}

// Next returns the next entry, and ok false behind the last one. The key is valid until the next call, the value for ever.
func (c *Cursor) Next() (key, value []byte, ok bool) {
	if c.left == 0 && !c.descend() {
		return nil, nil, false
	}
	middle, value := c.leaf.entry(c.at)
	c.key = append(append(c.key[:c.leaf[2]], middle...), c.leaf.suffix()...)
	c.at++
	c.left--
	return c.key, value, true
}

// descend goes to the next leaf.
func (c *Cursor) descend() bool {
	for len(c.above) > 0 {
		top := &c.above[len(c.above)-1]
		i := top.next
		top.next++
		switch {
		case i < len(top.n.leaves):
			c.leaf = top.n.leaves[i]
			c.at, c.left = 0, c.leaf.count()
			c.key = append(c.key[:0], c.leaf.prefix()...)
			return true
		case i < len(top.n.kids):
			c.above = append(c.above, step{n: top.n.kids[i]})
		default:
			c.above = c.above[:len(c.above)-1]
		}
	}
	return false
}

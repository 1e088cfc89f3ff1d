package packed

// A Cursor goes through the entries of a table in the order of their keys. It belongs to one goroutine.
type Cursor struct {
	above []step // the inner nodes on the way to the block
	block block
	at    int // of the next entry in the block
	left  int // entries of the block from there on
}

// A step is a node and the child of it that comes next.
type step struct {
	n    *node
	next int
}

// Cursor returns a Cursor in front of the first entry.
func (t *Table) Cursor() *Cursor {
	c := &Cursor{}
	if t.root != nil {
		c.above = append(c.above, step{n: t.root})
	}
	return c
}

// Next returns the next entry, and ok false behind the last one.
func (c *Cursor) Next() (key, value []byte, ok bool) {
	if c.left == 0 && !c.descend() {
		return nil, nil, false
	}
	key, value = c.block.entry(c.at)
	c.at++
	c.left--
	return key, value, true
}

// descend goes to the next block.
func (c *Cursor) descend() bool {
	for len(c.above) > 0 {
		top := &c.above[len(c.above)-1]
		i := top.next
		top.next++
		switch {
		case i < len(top.n.blocks):
			c.block = top.n.blocks[i]
			c.at, c.left = 0, c.block.count()
			return true
		case i < len(top.n.kids):
			c.above = append(c.above, step{n: top.n.kids[i]})
		default:
			c.above = c.above[:len(c.above)-1]
		}
	}
	return false
}

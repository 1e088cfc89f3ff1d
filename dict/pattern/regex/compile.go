package regex

import (
	"errors"
	"fmt"
)

// Bounds of one pattern.
const (
	maxProgram = 200_000 // instructions
	maxWork    = 4 * maxProgram
	maxWidth   = 10_000 // parts that are looked at for the width of one
	maxDepth   = 250    // parts within parts
	maxRepeat  = 65535
	maxGroups  = 1000
)

// A code says what an instruction does.
type code uint8

const (
	iByte     code = iota // one byte, b
	iSet                  // one byte of sets[x]
	iStar                 // any number of bytes of sets[x]; greedily, lazily or possessively by b
	iSplit                // x, or else y
	iJump                 // x
	iOpen                 // a group begins: register x is the place
	iClose                // group x, begun at register y, ends
	iAssert               // assert b
	iBackref              // refs[x], folded by y
	iMark                 // register x is the place
	iLoop                 // place is register y: go on, else x
	iProgress             // the place is not register y
	iLook                 // the program behind it, up to iEnd, then x; b is lookAhead...
	iAtomic               // the same for an atomic group
	iEnd                  // of an iLook or iAtomic
	iBack                 // x bytes back
	iCall                 // group x
	iKeep                 // the match begins here
	iCond                 // a group of refs[x] is set, else y
	iCondCall             // inside a call of group x, else y
	iFail
	iMatch
)

// What an iLook looks for.
const (
	lookFor     = 0
	lookAgainst = 1
)

type inst struct {
	code code
	b    byte
	x, y int32
}

// A Regex is a compiled pattern. It is immutable; a Matcher runs it.
type Regex struct {
	prog   []inst
	sets   []set
	refs   [][]int
	starts []int32 // of the groups, for iCall
	groups int     // without the whole
	regs   int     // bounds of the groups, their beginnings while they are open, and loops that need one

	posix    bool
	anchored bool // can only match at the start of the key
	regular  bool // what comes of an instruction depends on nothing but the place, groups left aside
	pure     bool // groups as well
	useFirst bool
	firstSet set // bytes that a match can begin with, if useFirst
	least    int // bytes that a match takes at least
	literals [][]byte
}

// Groups returns the number of groups that capture.
func (re *Regex) Groups() int { return re.groups }

// Literals returns strings in lower case of which each key that matches holds at least one, in any mix of
// cases. It is nil when nothing is known.
func (re *Regex) Literals() [][]byte { return re.literals }

// ErrUnserved says that an expression may be right, and that this package does not serve it. Any other error of a
// compilation says that it is wrong.
var ErrUnserved = errors.New("not served")

var errTooLarge = fmt.Errorf("pattern too large, so %w", ErrUnserved)

type compiler struct {
	re    *Regex
	seen  map[set]int32
	byNum map[int]*node // captures
	work  int           // parts that were emitted, those of no instruction too
	err   error
}

// build makes the program of a tree.
func build(root *node, groups int, posix bool) (*Regex, error) {
	re := &Regex{groups: groups, regs: 3 * (groups + 1), posix: posix}
	re.starts = make([]int32, groups+1)
	for i := range re.starts {
		re.starts[i] = -1
	}
	c := &compiler{re: re, seen: map[set]int32{}, byNum: map[int]*node{0: root}}
	re.regular = true
	emptyLoop := false
	root.any(func(n *node) bool {
		switch n.op {
		case opCapture:
			c.byNum[n.n] = n
		case opBackref, opLook, opAtomic, opCond, opCall:
			re.regular = false
		case opRepeat:
			re.regular = re.regular && n.greed != possessive
			emptyLoop = emptyLoop || n.max != 1 && n.subs[0].nullable()
		}
		return false
	})
	re.pure = re.regular && (posix || !emptyLoop)
	re.starts[0] = 0
	c.node(root)
	c.emit(inst{code: iMatch})
	if c.err != nil {
		return nil, c.err
	}
	for i, in := range re.prog {
		if in.code == iCall && re.starts[in.x] < 0 {
			return nil, fmt.Errorf("instruction %d calls group %d, which is not there", i, in.x)
		}
	}
	re.analyse(root, c.byNum)
	return re, nil
}

func (c *compiler) emit(in inst) int32 {
	if len(c.re.prog) >= maxProgram && c.err == nil {
		c.err = errTooLarge
	}
	if c.err != nil {
		return 0
	}
	c.re.prog = append(c.re.prog, in)
	return int32(len(c.re.prog) - 1)
}

func (c *compiler) here() int32 { return int32(len(c.re.prog)) }

// at returns an instruction to be completed; after an error it is one that nobody runs.
func (c *compiler) at(i int32) *inst {
	if c.err != nil {
		return &inst{}
	}
	return &c.re.prog[i]
}

func (c *compiler) setIndex(s set) int32 {
	i, ok := c.seen[s]
	if !ok {
		i = int32(len(c.re.sets))
		c.re.sets = append(c.re.sets, s)
		c.seen[s] = i
	}
	return i
}

func (c *compiler) refIndex(refs []int) int32 {
	c.re.refs = append(c.re.refs, refs)
	return int32(len(c.re.refs) - 1)
}

func (c *compiler) node(n *node) {
	if c.work++; c.work > maxWork && c.err == nil {
		c.err = errTooLarge
	}
	if c.err != nil {
		return
	}
	switch n.op {
	case opEmpty:
	case opFail:
		c.emit(inst{code: iFail})
	case opSet:
		if n.set.len() == 1 {
			c.emit(inst{code: iByte, b: n.set.first()})
			return
		}
		c.emit(inst{code: iSet, x: c.setIndex(n.set)})
	case opCat:
		for _, sub := range n.subs {
			c.node(sub)
		}
	case opAlt:
		var ends []int32
		for i, sub := range n.subs {
			if i == len(n.subs)-1 {
				c.node(sub)
				break
			}
			split := c.emit(inst{code: iSplit, x: c.here() + 1})
			c.node(sub)
			ends = append(ends, c.emit(inst{code: iJump}))
			c.at(split).y = c.here()
		}
		for _, end := range ends {
			c.at(end).x = c.here()
		}
	case opRepeat:
		c.repeat(n)
	case opCapture:
		temp := int32(2*(c.re.groups+1) + n.n)
		open := c.emit(inst{code: iOpen, x: temp})
		if c.re.starts[n.n] < 0 {
			c.re.starts[n.n] = open
		}
		c.node(n.subs[0])
		c.emit(inst{code: iClose, x: int32(n.n), y: temp})
	case opAssert:
		c.emit(inst{code: iAssert, b: byte(n.assert)})
	case opBackref:
		fold := int32(0)
		if n.fold {
			fold = 1
		}
		c.emit(inst{code: iBackref, x: c.refIndex(n.refs), y: fold})
	case opAtomic:
		c.sub(inst{code: iAtomic}, n.subs[0])
	case opLook:
		c.look(n)
	case opCond:
		c.condition(n)
	case opCall:
		c.emit(inst{code: iCall, x: int32(n.n)})
	case opKeep:
		c.emit(inst{code: iKeep})
	}
}

// sub emits a part that runs on its own.
func (c *compiler) sub(in inst, body *node) {
	start := c.emit(in)
	c.node(body)
	c.emit(inst{code: iEnd})
	c.at(start).x = c.here()
}

// look emits an assertion. One that looks behind has its branches in subs, each of a length of its own.
func (c *compiler) look(n *node) {
	in := inst{code: iLook}
	if n.neg {
		in.b = lookAgainst
	}
	if !n.behind {
		c.sub(in, n.subs[0])
		return
	}
	start := c.emit(in)
	var ends []int32
	for i, b := range n.subs {
		w, ok := b.width(c.byNum)
		if !ok {
			c.err = errors.New("lookbehind assertion is not fixed length")
			return
		}
		split := int32(-1)
		if i < len(n.subs)-1 {
			split = c.emit(inst{code: iSplit, x: c.here() + 1})
		}
		c.emit(inst{code: iBack, x: int32(w)})
		c.node(b)
		if split >= 0 {
			ends = append(ends, c.emit(inst{code: iJump}))
			c.at(split).y = c.here()
		}
	}
	for _, end := range ends {
		c.at(end).x = c.here()
	}
	c.emit(inst{code: iEnd})
	c.at(start).x = c.here()
}

func (c *compiler) condition(n *node) {
	var test int32
	switch n.cond {
	case condGroup:
		test = c.emit(inst{code: iCond, x: c.refIndex(n.refs)})
	case condRecursion:
		test = c.emit(inst{code: iCondCall, x: int32(n.n)})
	case condDefine:
		test = c.emit(inst{code: iJump}) // over what is defined
		c.node(n.subs[0])
		c.at(test).x = c.here()
		return
	case condLook:
		// A look that fails takes the other branch: (?=look)yes|(?!look)no, run once on each side at most.
		split := c.emit(inst{code: iSplit, x: c.here() + 1})
		look := *n.subs[2]
		c.node(&look)
		c.node(n.subs[0])
		end := c.emit(inst{code: iJump})
		c.at(split).y = c.here()
		look.neg = !look.neg
		c.node(&look)
		c.node(n.subs[1])
		c.at(end).x = c.here()
		return
	}
	c.node(n.subs[0])
	end := c.emit(inst{code: iJump})
	c.at(test).y = c.here()
	c.node(n.subs[1])
	c.at(end).x = c.here()
}

func (c *compiler) repeat(n *node) {
	body := n.subs[0]
	if n.max == 0 {
		skip := c.emit(inst{code: iJump}) // the groups in it can still be called
		c.node(body)
		c.at(skip).x = c.here()
		return
	}
	if n.greed == possessive && (body.op != opSet || n.max >= 0) {
		plain := *n
		plain.greed = greedy
		c.sub(inst{code: iAtomic}, &plain)
		return
	}
	least := n.min
	if n.min > 1 && n.max != n.min && c.re.posix && c.re.regular && body.nullable() {
		least = 1 // the others may take nothing, and where more may come glibc takes back what such a round has set
	}
	for range least {
		c.node(body)
		if c.err != nil {
			return
		}
	}
	switch {
	case n.max < 0 && body.op == opSet:
		c.emit(inst{code: iStar, b: byte(n.greed), x: c.setIndex(body.set)})
	case n.max < 0:
		c.star(n)
	default:
		var splits []int32
		for range n.max - least {
			splits = append(splits, c.emit(inst{code: iSplit}))
			if c.re.posix && c.re.regular && body.nullable() {
				c.progressing(body)
			} else {
				c.node(body)
			}
			if c.err != nil {
				return
			}
		}
		for _, s := range splits {
			c.branch(s, n.greed, s+1, c.here())
		}
	}
}

// branch completes a split between one more round and going on.
func (c *compiler) branch(split int32, g greed, more, on int32) {
	in := c.at(split)
	if g == lazy {
		more, on = on, more
	}
	in.x, in.y = more, on
}

func (c *compiler) star(n *node) {
	body := n.subs[0]
	split := c.emit(inst{code: iSplit})
	switch {
	case body.nullable() && c.re.posix && c.re.regular:
		c.progressing(body)
		c.emit(inst{code: iJump, x: split})
	case body.nullable():
		reg := int32(c.re.regs)
		c.re.regs++
		c.emit(inst{code: iMark, x: reg})
		c.node(body)
		c.emit(inst{code: iLoop, x: split, y: reg})
	default:
		c.node(body)
		c.emit(inst{code: iJump, x: split})
	}
	c.branch(split, n.greed, split+1, c.here())
}

// progressing emits a round of a loop that fails when it takes nothing: as in glibc, groups keep what they had
// before such a round. One that was not set is as good as an empty one, where there are no back references.
func (c *compiler) progressing(body *node) {
	reg := int32(c.re.regs)
	c.re.regs++
	c.emit(inst{code: iMark, x: reg})
	c.node(body)
	c.emit(inst{code: iProgress, y: reg})
}

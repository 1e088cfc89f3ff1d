package regex

import (
	"errors"
	"time"
)

// ErrLimit says that a key costs more to match than the budget allows, so that the answer is not known.
var ErrLimit = errors.New("pattern costs too much to match against this key")

// ErrLoop says that a pattern calls itself for ever at the same place of the key.
var ErrLoop = errors.New("nested recursion at the same place")

// Bounds of a Matcher.
const (
	freeSteps  = 50_000    // steps that a key may take whatever the clock says
	clockSteps = 2_000     // steps between two looks at the clock
	maxStack   = 1_000_000 // places to go back to
	maxNesting = 1_000     // programs within programs
	maxCalls   = 20_000    // calls within calls
	maxSaved   = 4_000_000 // registers of calls
	maxTable   = 2_000_000 // words of a table
	plainSteps = 64        // steps for each byte of the key, before a table is taken
)

// An entryKind says what an entry of the stack is for.
type entryKind uint8

const (
	goTo    entryKind = iota // go on at pc, pos
	shorter                  // go on at pc, pos; then pos-1 ... as far as least
	longer                   // a lazy iStar at pc has come to pos: take one more
	setReg                   // register pc had the value pos
	setCall                  // the call was number pc
	setKept                  // the match began at pos
)

type entry struct {
	kind  entryKind
	pc    int32
	pos   int32
	least int32 // of shorter; of setCall the calls that there were before, -1 where there were as many
}

// A call is one that has not returned.
type call struct {
	group  int32
	pos    int32
	back   int32 // where to go on
	parent int32 // the call around it, -1 for none
	depth  int32
}

// A Matcher runs programs. It is for one goroutine.
type Matcher struct {
	start time.Time
	limit time.Duration
	steps int // since Begin
	clock int // steps at which to look at the clock next

	re    *Regex
	key   []byte
	regs  []int32
	stack []entry
	calls []call
	saved []int32 // the registers as they were before each of calls
	call  int32
	kept  int32

	seen  []uint64 // places that were tried, with table
	table bool
	until int // steps at which to begin again with a table; 0 for never

	longest bool
	best    int32
	bestReg []int32
}

// Begin starts a budget of time for all that is matched until the next Begin.
func (m *Matcher) Begin(limit time.Duration) {
	m.start, m.limit, m.steps, m.clock = time.Now(), limit, 0, freeSteps
}

// errTable ends a run that is to begin again with a table.
var errTable = errors.New("begin again with a table")

// Match reports whether re matches in key. With groups it is told where: groups[2n] and groups[2n+1] are the
// bounds of group n, -1 if it took no part; it must have room for all groups and the whole.
func (m *Matcher) Match(re *Regex, key []byte, groups []int) (bool, error) {
	m.re, m.key = re, key
	m.longest = re.posix && groups != nil
	m.table = false
	m.until = 0
	if re.pure || re.regular && groups == nil {
		m.until = m.steps + plainSteps*(len(key)+16)
	}
	ok, err := m.search()
	if err == errTable {
		m.table, m.until = m.clearTable(), 0
		ok, err = m.search()
	}
	m.key = nil
	if !ok || err != nil {
		return false, err
	}
	for i := range groups {
		groups[i] = -1
		if i < 2*(re.groups+1) {
			groups[i] = int(m.regs[i])
		}
	}
	return true, nil
}

// clearTable makes the table of places empty, and reports whether there is room for one.
func (m *Matcher) clearTable() bool {
	words := (len(m.re.prog)*(len(m.key)+1) + 63) / 64
	if words > maxTable {
		return false
	}
	if cap(m.seen) < words {
		m.seen = make([]uint64, words)
	}
	m.seen = m.seen[:words]
	clear(m.seen)
	m.steps += words / 16
	return true
}

// tried reports whether the instruction was come to at this place before, and notes it.
func (m *Matcher) tried(pc, pos int32) bool {
	i := int(pc)*(len(m.key)+1) + int(pos)
	bit := uint64(1) << (i & 63)
	if m.seen[i>>6]&bit != 0 {
		return true
	}
	m.seen[i>>6] |= bit
	return false
}

// search tries one start after the other.
func (m *Matcher) search() (bool, error) {
	re := m.re
	n := len(m.key)
	if cap(m.regs) < re.regs {
		m.regs = make([]int32, re.regs, 2*re.regs)
	}
	m.regs = m.regs[:re.regs]
	for start := 0; start <= n-re.least; start++ {
		if re.useFirst {
			from := start
			for start < n && !re.firstSet.has(m.key[start]) {
				start++
			}
			m.steps += (start - from) / 8
			if start == n || re.anchored && start > 0 {
				return false, nil
			}
		}
		for i := range m.regs {
			m.regs[i] = -1
		}
		m.steps += len(m.regs) / 16
		m.stack, m.calls, m.call, m.kept, m.best = m.stack[:0], m.calls[:0], -1, int32(start), -1
		end, ok, err := m.run(0, int32(start), 0)
		if err != nil {
			return false, err
		}
		if m.longest && m.best >= 0 {
			end, ok = m.best, true
			copy(m.regs, m.bestReg)
		}
		if ok {
			m.regs[0], m.regs[1] = m.kept, end
			return true, nil
		}
		if re.anchored {
			break
		}
	}
	return false, nil
}

// spend counts steps.
func (m *Matcher) spend(n int) error {
	m.steps += n
	if m.until > 0 && m.steps > m.until {
		return errTable
	}
	if m.steps >= m.clock {
		m.clock = m.steps + clockSteps
		if time.Since(m.start) > m.limit {
			return ErrLimit
		}
	}
	return nil
}

func (m *Matcher) push(e entry) error {
	if len(m.stack) >= maxStack {
		return ErrLimit
	}
	m.stack = append(m.stack, e)
	return nil
}

func (m *Matcher) set(reg, value int32) {
	m.stack = append(m.stack, entry{kind: setReg, pc: reg, pos: m.regs[reg]})
	m.regs[reg] = value
}

// back undoes what was done since the newest place to go back to above base, and goes there.
func (m *Matcher) back(base int) (pc, pos int32, ok bool) {
	for len(m.stack) > base {
		top := len(m.stack) - 1
		e := &m.stack[top]
		switch e.kind {
		case goTo:
			pc, pos = e.pc, e.pos
			m.stack = m.stack[:top]
			return pc, pos, true
		case shorter:
			pc, pos = e.pc, e.pos
			if in := &m.re.prog[pc]; in.code == iByte { // only a place before that byte leads on
				for pos > e.least && (int(pos) >= len(m.key) || m.key[pos] != in.b) {
					pos--
				}
				m.steps += int(e.pos-pos) / 8
			}
			if pos <= e.least {
				m.stack = m.stack[:top]
				return pc, pos, true
			}
			e.pos = pos - 1
			return pc, pos, true
		case longer:
			in := &m.re.prog[e.pc]
			if int(e.pos) >= len(m.key) || !m.re.sets[in.x].has(m.key[e.pos]) {
				m.stack = m.stack[:top]
				continue
			}
			e.pos++
			return e.pc + 1, e.pos, true
		default:
			m.undo(e)
			m.stack = m.stack[:top]
		}
	}
	return 0, 0, false
}

func (m *Matcher) undo(e *entry) {
	switch e.kind {
	case setReg:
		m.regs[e.pc] = e.pos
	case setCall:
		m.call = e.pc
		if e.least >= 0 {
			m.calls = m.calls[:e.least]
		}
	case setKept:
		m.kept = e.pos
	}
}

// commit forgets the places to go back to above base, and keeps what undoes the rest.
func (m *Matcher) commit(base int) {
	kept := m.stack[:base]
	for _, e := range m.stack[base:] {
		if e.kind >= setReg {
			kept = append(kept, e)
		}
	}
	m.stack = kept
}

// unwind undoes everything above base.
func (m *Matcher) unwind(base int) {
	for i := len(m.stack) - 1; i >= base; i-- {
		m.undo(&m.stack[i])
	}
	m.stack = m.stack[:base]
}

// run runs the program from pc at pos, to its end or that of the part that nesting has begun.
func (m *Matcher) run(pc, pos int32, nesting int) (end int32, ok bool, err error) {
	re, key := m.re, m.key
	base := len(m.stack)
	for {
		if err := m.spend(1); err != nil {
			return 0, false, err
		}
		in := &re.prog[pc]
		failed := false
		switch in.code {
		case iByte:
			if int(pos) < len(key) && key[pos] == in.b {
				pc, pos = pc+1, pos+1
				continue
			}
			failed = true
		case iSet:
			if int(pos) < len(key) && re.sets[in.x].has(key[pos]) {
				pc, pos = pc+1, pos+1
				continue
			}
			failed = true
		case iStar:
			if pc, pos, failed, err = m.star(in, pc, pos); err != nil {
				return 0, false, err
			}
		case iSplit:
			if m.table && m.tried(pc, pos) {
				failed = true
				break
			}
			if err := m.push(entry{kind: goTo, pc: in.y, pos: pos}); err != nil {
				return 0, false, err
			}
			pc = in.x
		case iJump:
			pc = in.x
		case iOpen:
			m.set(in.x, pos) // a group has its bounds when it ends: until then those of its last round stand
			pc++
		case iClose:
			m.set(2*in.x, m.regs[in.y])
			m.set(2*in.x+1, pos)
			pc++
			if m.call >= 0 && m.calls[m.call].group == in.x {
				pc = m.giveBack()
			}
		case iAssert:
			failed = !m.holds(assert(in.b), pos)
			pc++
		case iBackref:
			pos, failed = m.backref(in, pos)
			pc++
		case iMark:
			m.set(in.x, pos)
			pc++
		case iLoop:
			switch {
			case m.regs[in.y] != pos:
				pc = in.x
			case m.table: // going on from the start of the round was tried, or will be
				failed = true
			default:
				pc++
			}
		case iProgress:
			failed = m.regs[in.y] == pos
			pc++
		case iLook, iAtomic:
			if nesting >= maxNesting {
				return 0, false, ErrLimit
			}
			mark := len(m.stack)
			at, found, err := m.run(pc+1, pos, nesting+1)
			if err != nil {
				return 0, false, err
			}
			switch {
			case in.code == iLook && in.b == lookAgainst:
				m.unwind(mark)
				failed = found
			case found:
				m.commit(mark)
				if in.code == iAtomic {
					pos = at
				}
			default:
				failed = true
			}
			pc = in.x
		case iEnd:
			return pos, true, nil
		case iBack:
			failed = pos < in.x
			pos -= in.x
			pc++
		case iCall:
			if err := m.enter(in.x, pos, pc+1); err != nil {
				return 0, false, err
			}
			pc = re.starts[in.x]
		case iKeep:
			if err := m.push(entry{kind: setKept, pos: m.kept}); err != nil {
				return 0, false, err
			}
			m.kept = pos
			pc++
		case iCond:
			pc = m.either(in, pc, m.anySet(re.refs[in.x]))
		case iCondCall:
			pc = m.either(in, pc, m.call >= 0 && (in.x < 0 || m.calls[m.call].group == in.x))
		case iFail:
			failed = true
		case iMatch:
			switch {
			case m.call >= 0:
				pc = m.giveBack()
			case m.longest && int(pos) < len(key):
				if pos > m.best {
					m.best = pos
					m.bestReg = append(m.bestReg[:0], m.regs...)
					m.steps += len(m.regs) / 16
				}
				failed = true
			case m.longest:
				m.best = -1
				return pos, true, nil
			default:
				return pos, true, nil
			}
		}
		if failed {
			if pc, pos, ok = m.back(base); !ok {
				return 0, false, nil
			}
		}
	}
}

func (m *Matcher) either(in *inst, pc int32, yes bool) int32 {
	if yes {
		return pc + 1
	}
	return in.y
}

// star takes any number of bytes of a set.
func (m *Matcher) star(in *inst, pc, pos int32) (nextPC, nextPos int32, failed bool, err error) {
	s := &m.re.sets[in.x]
	if m.table {
		if m.tried(pc, pos) {
			return pc, pos, true, nil
		}
		more := int(pos) < len(m.key) && s.has(m.key[pos])
		switch {
		case !more:
			return pc + 1, pos, false, nil
		case greed(in.b) == lazy:
			return pc + 1, pos, false, m.push(entry{kind: goTo, pc: pc, pos: pos + 1})
		default:
			return pc, pos + 1, false, m.push(entry{kind: goTo, pc: pc + 1, pos: pos})
		}
	}
	if greed(in.b) == lazy {
		return pc + 1, pos, false, m.push(entry{kind: longer, pc: pc, pos: pos})
	}
	end := int(pos)
	for end < len(m.key) && s.has(m.key[end]) {
		end++
	}
	if err := m.spend((end - int(pos)) / 8); err != nil {
		return 0, 0, false, err
	}
	if greed(in.b) == greedy && end > int(pos) {
		return 0, 0, true, m.push(entry{kind: shorter, pc: pc + 1, pos: int32(end), least: pos})
	}
	return pc + 1, int32(end), false, nil
}

func (m *Matcher) anySet(groups []int) bool {
	for _, g := range groups {
		if m.regs[2*g+1] >= 0 {
			return true
		}
	}
	return false
}

// backref takes what a group has matched.
func (m *Matcher) backref(in *inst, pos int32) (next int32, failed bool) {
	for _, g := range m.re.refs[in.x] {
		from, to := m.regs[2*g], m.regs[2*g+1]
		if to < 0 || from < 0 || from > to {
			continue
		}
		end := pos + to - from
		if int(end) > len(m.key) {
			return pos, true
		}
		m.steps += int(to-from) / 8
		for i := from; i < to; i++ {
			a, b := m.key[i], m.key[pos+i-from]
			if a != b && (in.y == 0 || lower(a) != lower(b)) {
				return pos, true
			}
		}
		return end, false
	}
	return pos, true
}

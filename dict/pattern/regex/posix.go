package regex

import (
	"errors"
	"strings"
)

// The errors of regcomp(3), in its words.
var (
	errBadRepeat  = errors.New("invalid preceding regular expression")
	errBadBrace   = errors.New("invalid content of \\{\\}")
	errNoBrace    = errors.New("unmatched \\{")
	errBadRef     = errors.New("invalid back reference")
	errBackslash  = errors.New("trailing backslash")
	errNoParen    = errors.New("unmatched ( or \\(")
	errEndParen   = errors.New("unmatched ) or \\)")
	errNoBracket  = errors.New("unmatched [, [^, [:, [., or [=")
	errBadRange   = errors.New("invalid range end")
	errBadClass   = errors.New("invalid character class name")
	errBadCollate = errors.New("invalid collation character")
	errTooBig     = errors.New("regular expression too big")
)

// CompilePOSIX compiles a POSIX pattern, extended unless Basic, with the additions of glibc: back
// references, \< \> \b \B \w \W \s \S \` \' in both kinds.
func CompilePOSIX(pattern string, flags Flags) (*Regex, error) {
	p := &posix{src: pattern, flags: flags, start: true}
	root, err := p.alternatives(0)
	if err != nil {
		return nil, err
	}
	return build(root, p.groups, true)
}

// A posix reads one pattern, as glibc's posix/regcomp.c does.
type posix struct {
	src    string
	pos    int
	flags  Flags
	groups int
	done   uint // bits of the groups that a back reference may name here
	start  bool // a circumflex here is an anchor in a basic expression
}

// A token is what glibc's peek_token tells apart.
type token struct {
	kind byte // 0 for a byte that stands for itself, 1 for the end, otherwise the operator as in the extended syntax
	c    byte
	raw  bool // c was escaped: glibc does not fold it
	n    int  // length in the pattern
}

const (
	tokByte  = 0
	tokEnd   = 1
	tokSlash = 2 // a backslash at the end
	tokGNU   = 3 // an escape of glibc, in c
	tokRef   = 4 // a back reference, in c
)

func (p *posix) basic() bool { return p.flags&Basic != 0 }
func (p *posix) fold() bool  { return p.flags&IgnoreCase != 0 }

// peek returns the next token.
func (p *posix) peek() token {
	if p.pos >= len(p.src) {
		return token{kind: tokEnd}
	}
	c := p.src[p.pos]
	if c == '\\' {
		if p.pos+1 >= len(p.src) {
			return token{kind: tokSlash, n: 1}
		}
		c = p.src[p.pos+1]
		switch {
		case '1' <= c && c <= '9':
			return token{kind: tokRef, c: c, n: 2}
		case strings.IndexByte("<>bBwWsS`'", c) >= 0:
			return token{kind: tokGNU, c: c, n: 2}
		case p.basic() && strings.IndexByte("|+?(){}", c) >= 0:
			return token{kind: c, n: 2}
		}
		return token{c: c, raw: true, n: 2}
	}
	t := token{c: c, n: 1}
	switch c {
	case '*', '.', '[':
		t.kind = c
	case '+', '?', '(', ')', '|', '{', '}':
		if !p.basic() {
			t.kind = c
		}
	case '^':
		if !p.basic() || p.start {
			t.kind = c
		}
	case '$':
		if !p.basic() || p.pos+1 == len(p.src) || strings.HasPrefix(p.src[p.pos+1:], `\|`) || strings.HasPrefix(p.src[p.pos+1:], `\)`) {
			t.kind = c
		}
	}
	return t
}

func (p *posix) next(t token) {
	p.pos += t.n
	p.start = false
}

// alternatives reads branches as far as the end, or the closing parenthesis when nest is not 0.
func (p *posix) alternatives(nest int) (*node, error) {
	if nest > maxDepth {
		return nil, errTooBig
	}
	var subs []*node
	before := p.done // a branch may not name the groups of those beside it
	all := before
	for {
		p.done = before
		n, err := p.branch(nest)
		if err != nil {
			return nil, err
		}
		all |= p.done
		p.done = all
		subs = append(subs, n)
		t := p.peek()
		if t.kind != '|' {
			if len(subs) > 1 && subs[0].op == opEmpty { // glibc goes by the numbers of its nodes, and nothing comes last
				subs[0], subs[1] = subs[1], subs[0]
			}
			return alt(subs...), nil
		}
		p.next(t)
		p.start = true
	}
}

func (p *posix) branch(nest int) (*node, error) {
	var subs []*node
	for {
		t := p.peek()
		if t.kind == tokEnd || t.kind == '|' || t.kind == ')' && nest > 0 {
			return cat(subs...), nil
		}
		n, err := p.expression(t, nest)
		if err != nil {
			return nil, err
		}
		if n.op != opEmpty {
			subs = append(subs, n)
		}
	}
}

// expression reads one item and what repeats it.
func (p *posix) expression(t token, nest int) (n *node, err error) {
	switch t.kind {
	case tokByte:
		p.next(t)
		n = p.literal(t)
	case '(':
		if n, err = p.group(t, nest); err != nil {
			return nil, err
		}
	case '[':
		p.next(t)
		if n, err = p.bracket(); err != nil {
			return nil, err
		}
	case tokRef:
		p.next(t)
		if p.done>>(t.c-'0')&1 == 0 {
			return nil, errBadRef
		}
		n = &node{op: opBackref, refs: []int{int(t.c - '0')}, fold: p.fold()}
	case '.':
		p.next(t)
		var none set
		none.add(0)
		if p.flags&MultiLine != 0 {
			none.add('\n')
		}
		n = setNode(none.not())
	case '^', '$':
		p.next(t)
		return p.anchor(t.kind), nil // nothing can repeat it
	case tokGNU:
		p.next(t)
		var repeats bool
		if n, repeats = gnu(t.c); !repeats {
			return n, nil
		}
	case '*', '+', '?':
		if !p.basic() {
			return nil, errBadRepeat
		}
		p.next(t)
		n = byteNode(t.kind, false)
	case '{':
		return nil, errBadRepeat
	case ')':
		if p.basic() {
			return nil, errEndParen
		}
		p.next(t)
		n = byteNode(')', false)
	case '}':
		p.next(t)
		n = byteNode('}', false)
	default:
		return nil, errBackslash
	}
	return p.repeats(n)
}

// literal is a byte that stands for itself. glibc folds keys to capitals, and an escaped byte not at all.
func (p *posix) literal(t token) *node {
	if p.fold() && t.raw && isLower(t.c) {
		return &node{op: opFail}
	}
	return byteNode(t.c, p.fold())
}

func (p *posix) anchor(kind byte) *node {
	lines := p.flags&MultiLine != 0
	switch {
	case kind == '^' && lines:
		return assertNode(atLineStartAny)
	case kind == '^':
		return assertNode(atBegin)
	case lines:
		return assertNode(atLineEnd)
	default:
		return assertNode(atEnd)
	}
}

// gnu returns what an escape of glibc stands for, and whether it can be repeated.
func gnu(c byte) (n *node, repeats bool) {
	switch c {
	case '<':
		return assertNode(atWordStart), false
	case '>':
		return assertNode(atWordEnd), false
	case 'b':
		return assertNode(atWord), false
	case 'B':
		return assertNode(atNotWord), false
	case '`':
		return assertNode(atBegin), false
	case '\'':
		return assertNode(atEnd), false
	}
	s := setOf(isWord)
	if lower(c) == 's' {
		s = setOf(isSpace)
	}
	if isUpper(c) {
		s = s.not()
	}
	return setNode(s), true
}

func (p *posix) group(t token, nest int) (*node, error) {
	p.next(t)
	p.start = true
	if p.groups >= maxGroups {
		return nil, errTooBig
	}
	p.groups++
	number := p.groups
	body, err := p.alternatives(nest + 1)
	if err != nil {
		return nil, err
	}
	t = p.peek()
	if t.kind != ')' {
		return nil, errNoParen
	}
	p.next(t)
	if number <= 9 {
		p.done |= 1 << number
	}
	return &node{op: opCapture, n: number, subs: []*node{body}}, nil
}

// repeats reads the operators behind an item.
func (p *posix) repeats(n *node) (*node, error) {
	for {
		t := p.peek()
		min, max := 0, -1
		switch t.kind {
		case '*':
			p.next(t)
		case '+':
			p.next(t)
			min = 1
		case '?':
			p.next(t)
			max = 1
		case '{':
			p.next(t)
			var err error
			if min, max, err = p.interval(); err != nil {
				return nil, err
			}
		default:
			return n, nil
		}
		if p.basic() {
			if t := p.peek(); t.kind == '*' || t.kind == '{' {
				return nil, errBadRepeat
			}
		}
		switch {
		case max == 0:
			n = &node{op: opEmpty}
		case min == 1 && max == 1:
		default:
			n = &node{op: opRepeat, subs: []*node{n}, min: min, max: max}
		}
	}
}

// interval reads what follows an opening brace.
func (p *posix) interval() (min, max int, err error) {
	const most = 32767
	number := func() (v int, digits bool) {
		for p.pos < len(p.src) && isDigit(p.src[p.pos]) {
			if v <= most {
				v = v*10 + int(p.src[p.pos]-'0')
			}
			p.pos++
			digits = true
		}
		return v, digits
	}
	min, digits := number()
	max = min
	t := p.peek()
	comma := t.kind == tokByte && t.c == ',' // an escaped one too
	if !digits && !comma {
		return 0, 0, p.braceError()
	}
	if comma {
		p.next(t)
		var bounded bool
		if max, bounded = number(); !bounded {
			max = -1
		}
	}
	t = p.peek()
	if t.kind != '}' {
		return 0, 0, p.braceError()
	}
	if max >= 0 && min > max {
		return 0, 0, errBadBrace
	}
	if min > most || max > most {
		return 0, 0, errTooBig
	}
	p.next(t)
	return min, max, nil
}

func (p *posix) braceError() error {
	if p.pos >= len(p.src) {
		return errNoBrace
	}
	return errBadBrace
}

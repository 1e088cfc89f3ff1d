package regex

// A bracketToken is what glibc's peek_token_bracket tells apart.
type bracketToken struct {
	kind byte // 0 for a byte, 1 for the end, ']' '-', or '.' '=' ':' for what they open
	c    byte
	n    int
}

func (p *posix) peekBracket() bracketToken {
	if p.pos >= len(p.src) {
		return bracketToken{kind: tokEnd}
	}
	c := p.src[p.pos]
	switch {
	case c == '[' && p.pos+1 < len(p.src):
		switch c2 := p.src[p.pos+1]; c2 {
		case '.', '=', ':':
			return bracketToken{kind: c2, c: c2, n: 2}
		}
	case c == ']', c == '-':
		return bracketToken{kind: c, c: c, n: 1}
	}
	return bracketToken{c: c, n: 1}
}

// An element is one member of a bracket expression: a byte or a class of them.
type element struct {
	c       byte
	set     set
	isClass bool // a class, which cannot begin or end a range
}

// bracket reads what follows an opening bracket. With IgnoreCase glibc turns pattern and key to capitals
// before it looks at ranges.
func (p *posix) bracket() (*node, error) {
	negated := false
	if p.pos < len(p.src) && p.src[p.pos] == '^' {
		negated = true
		p.pos++
	}
	var s set
	if negated && p.flags&MultiLine != 0 {
		s.add('\n')
	}
	t := p.peekBracket()
	if t.kind == tokEnd {
		return nil, errNoBracket
	}
	if t.kind == ']' { // the first one stands for itself
		t.kind = tokByte
	}
	for first := true; ; first = false {
		start, err := p.element(t, first)
		if err != nil {
			return nil, err
		}
		t = p.peekBracket()
		isRange := false
		if !start.isClass {
			if t.kind == tokEnd {
				return nil, errNoBracket
			}
			if t.kind == '-' {
				p.pos += t.n
				t2 := p.peekBracket()
				if t2.kind == tokEnd {
					return nil, errNoBracket
				}
				if t2.kind == ']' { // the last hyphen stands for itself
					p.pos -= t.n
					t.kind = tokByte
				} else {
					isRange = true
					end, err := p.element(t2, true)
					if err != nil {
						return nil, err
					}
					if end.isClass || end.c < start.c {
						return nil, errBadRange
					}
					s.addRange(start.c, end.c)
					t = p.peekBracket()
				}
			}
		}
		switch {
		case isRange:
		case start.isClass:
			s.addSet(start.set)
		default:
			s.add(start.c)
		}
		if t.kind == tokEnd {
			return nil, errNoBracket
		}
		if t.kind == ']' {
			p.pos += t.n
			break
		}
	}
	if p.fold() {
		capitals := s
		s = setOf(func(b byte) bool { return capitals.has(upper(b)) })
	}
	if negated {
		s = s.not()
	}
	return setNode(s), nil
}

// element reads one member, which begins with t.
func (p *posix) element(t bracketToken, hyphenAllowed bool) (element, error) {
	p.pos += t.n
	switch t.kind {
	case '.', '=', ':':
		return p.symbol(t.kind)
	case '-':
		if !hyphenAllowed && p.peekBracket().kind != ']' {
			return element{}, errBadRange
		}
	}
	return element{c: p.raised(t.c)}, nil
}

func (p *posix) raised(c byte) byte {
	if p.fold() {
		return upper(c)
	}
	return c
}

// symbol reads [.x.], [=x=] and [:name:] from behind what opens them.
func (p *posix) symbol(kind byte) (element, error) {
	const most = 32 // glibc's BRACKET_NAME_BUF_SIZE
	from := p.pos
	if from >= len(p.src) {
		return element{}, errNoBracket
	}
	for i := from; i+1 < len(p.src) && i-from < most; i++ {
		if p.src[i] != kind || p.src[i+1] != ']' {
			continue
		}
		name := p.src[from:i]
		p.pos = i + 2
		if kind == ':' {
			if p.fold() && (name == "upper" || name == "lower") {
				name = "alpha"
			}
			s, ok := class(name)
			if !ok {
				return element{}, errBadClass
			}
			return element{set: s, isClass: true}, nil
		}
		if len(name) != 1 {
			return element{}, errBadCollate
		}
		e := element{c: p.raised(name[0])}
		if kind == '=' {
			e.isClass = true
			e.set.add(e.c)
		}
		return e, nil
	}
	return element{}, errNoBracket
}

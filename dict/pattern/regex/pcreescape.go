package regex

import (
	"strconv"
	"strings"
	"unicode"
)

// escape reads what follows a backslash outside a class.
func (p *pcre) escape() (piece, error) {
	if !p.more() {
		return piece{}, p.errorf("\\ at end of pattern")
	}
	c := p.src[p.pos]
	p.pos++
	fold := p.on(IgnoreCase)
	switch c {
	case 'A':
		return piece{n: assertNode(atBegin), noRepeat: true}, nil
	case 'Z':
		return piece{n: assertNode(atEndNL), noRepeat: true}, nil
	case 'z':
		return piece{n: assertNode(atEnd), noRepeat: true}, nil
	case 'G': // a match always begins its search at the start of the key
		return piece{n: assertNode(atBegin), noRepeat: true}, nil
	case 'b':
		return piece{n: assertNode(atWord), noRepeat: true}, nil
	case 'B':
		return piece{n: assertNode(atNotWord), noRepeat: true}, nil
	case 'K':
		if p.looks > 0 {
			return piece{}, p.errorf("\\K is not allowed in lookarounds")
		}
		return piece{n: &node{op: opKeep}, noRepeat: true}, nil
	case 'C':
		return piece{n: setNode(set{}.not())}, nil
	case 'N':
		if p.at("{") {
			if _, _, _, quantifier := bounds(p.src[p.pos:]); !quantifier {
				return piece{}, p.errorf("\\N{name} is not supported")
			}
		}
		return piece{n: setNode(newlineSet().not())}, nil
	case 'R':
		ends := setOf(func(b byte) bool { return '\n' <= b && b <= '\r' || b == 0x85 })
		crlf := cat(byteNode('\r', false), byteNode('\n', false))
		return piece{n: &node{op: opAtomic, subs: []*node{alt(crlf, setNode(ends))}}}, nil
	case 'X':
		crlf := cat(byteNode('\r', false), byteNode('\n', false))
		return piece{n: &node{op: opAtomic, subs: []*node{alt(crlf, setNode(set{}.not()))}}}, nil
	case 'g':
		return p.escapeG(fold)
	case 'k':
		for _, q := range []string{"<>", "''", "{}"} {
			if p.take(q[:1]) {
				name, err := p.name(q[1])
				if err != nil {
					return piece{}, err
				}
				return piece{n: p.named(&node{op: opBackref, fold: fold}, name)}, nil
			}
		}
		return piece{}, p.errorf("\\k is not followed by a braced, angle-bracketed, or quoted name")
	case '1', '2', '3', '4', '5', '6', '7', '8', '9':
		i := p.pos
		for i < len(p.src) && isDigit(p.src[i]) {
			i++
		}
		number, err := strconv.Atoi(p.src[p.pos-1 : i])
		if err != nil {
			return piece{}, p.errorf("number is too big")
		}
		if number < 10 || c >= '8' || number <= p.groups {
			p.pos = i
			return piece{n: p.numbered(&node{op: opBackref, fold: fold}, number)}, nil
		}
	}
	p.pos--
	if s, ok, err := p.escapedSet(); ok || err != nil {
		return piece{n: setNode(s)}, err
	}
	b, err := p.escapedByte()
	return piece{n: byteNode(b, fold)}, err
}

// escapeG reads \g: a back reference in digits or braces, a call in <> or quotes.
func (p *pcre) escapeG(fold bool) (piece, error) {
	if p.at("<") || p.at("'") {
		end := byte('>')
		if p.src[p.pos] == '\'' {
			end = '\''
		}
		p.pos++
		word, ok := p.until(end)
		if !ok {
			return piece{}, p.errorf("\\g is not followed by a name or number")
		}
		n := &node{op: opCall}
		if isNumber(word) {
			number, err := p.relative(word)
			return piece{n: p.numbered(n, number)}, err
		}
		return piece{n: p.named(n, word)}, p.checkName(word)
	}
	var word string
	if p.take("{") {
		var ok bool
		if word, ok = p.until('}'); !ok {
			return piece{}, p.errorf("a numbered reference must not be zero, or \\g is not followed by one")
		}
	} else {
		i := p.pos
		if i < len(p.src) && (p.src[i] == '-' || p.src[i] == '+') {
			i++
		}
		for i < len(p.src) && isDigit(p.src[i]) {
			i++
		}
		word = p.src[p.pos:i]
		p.pos = i
	}
	n := &node{op: opBackref, fold: fold}
	if !isNumber(word) {
		return piece{n: p.named(n, word)}, p.checkName(word)
	}
	number, err := p.relative(word)
	if err == nil && number == 0 {
		err = p.errorf("a numbered reference must not be zero")
	}
	return piece{n: p.numbered(n, number)}, err
}

// isNumber reports whether s is digits, perhaps behind a sign.
func isNumber(s string) bool {
	if s != "" && (s[0] == '+' || s[0] == '-') {
		s = s[1:]
	}
	return s != "" && strings.Trim(s, "0123456789") == ""
}

// escapedSet reads an escape that stands for one of several bytes, in a class or outside.
func (p *pcre) escapedSet() (s set, ok bool, err error) {
	c := p.src[p.pos]
	switch lower(c) {
	case 'd':
		s = setOf(isDigit)
	case 's':
		s = setOf(isSpace)
	case 'w':
		s = setOf(isWord)
	case 'h':
		s = setOf(func(b byte) bool { return b == '\t' || b == ' ' || b == 0xa0 })
	case 'v':
		s = setOf(func(b byte) bool { return '\n' <= b && b <= '\r' || b == 0x85 })
	case 'p':
		p.pos++
		s, err := p.property()
		if c == 'P' {
			s = s.not()
		}
		return s, true, err
	default:
		return s, false, nil
	}
	p.pos++
	if isUpper(c) {
		s = s.not()
	}
	return s, true, nil
}

// property reads the name of a Unicode property behind \p: bytes are the characters up to U+00FF.
func (p *pcre) property() (set, error) {
	if !p.more() {
		return set{}, p.errorf("malformed \\P or \\p sequence")
	}
	name := p.src[p.pos : p.pos+1]
	p.pos++
	negated := false
	if name == "{" {
		var ok bool
		if name, ok = p.until('}'); !ok {
			return set{}, p.errorf("malformed \\P or \\p sequence")
		}
		name, negated = strings.CutPrefix(name, "^")
	}
	test, ok := propertyTest(name)
	if !ok {
		return set{}, p.errorf("unknown property %q after \\P or \\p", name)
	}
	s := setOf(func(b byte) bool { return test(rune(b)) })
	if negated {
		s = s.not()
	}
	return s, nil
}

func propertyTest(name string) (func(rune) bool, bool) {
	space := func(r rune) bool { return unicode.Is(unicode.Z, r) || '\t' <= r && r <= '\r' || r == 0x85 }
	switch name {
	case "Any":
		return func(rune) bool { return true }, true
	case "L&":
		return func(r rune) bool { return unicode.In(r, unicode.Lu, unicode.Ll, unicode.Lt) }, true
	case "Xan":
		return func(r rune) bool { return unicode.In(r, unicode.L, unicode.N) }, true
	case "Xwd":
		return func(r rune) bool { return r == '_' || unicode.In(r, unicode.L, unicode.N) }, true
	case "Xsp", "Xps":
		return space, true
	case "Cn": // all up to U+00FF are assigned
		return func(rune) bool { return false }, true
	}
	if table, ok := unicode.Categories[name]; ok {
		return func(r rune) bool { return unicode.Is(table, r) }, true
	}
	if table, ok := unicode.Scripts[name]; ok {
		return func(r rune) bool { return unicode.Is(table, r) }, true
	}
	return nil, false
}

// escapedByte reads an escape that stands for one byte, in a class or outside.
func (p *pcre) escapedByte() (byte, error) {
	c := p.src[p.pos]
	p.pos++
	switch c {
	case 'a':
		return 7, nil
	case 'e':
		return 0x1b, nil
	case 'f':
		return '\f', nil
	case 'n':
		return '\n', nil
	case 'r':
		return '\r', nil
	case 't':
		return '\t', nil
	case 'c':
		if !p.more() || !isPrint(p.src[p.pos]) {
			return 0, p.errorf("\\c must be followed by a printable ASCII character")
		}
		p.pos++
		return upper(p.src[p.pos-1]) ^ 0x40, nil
	case 'o':
		if !p.take("{") {
			return 0, p.errorf("missing opening brace after \\o")
		}
		return p.braced(8)
	case 'x':
		if p.at("{") {
			p.pos++
			return p.braced(16)
		}
		return p.digits(16, 2), nil
	case '0', '1', '2', '3', '4', '5', '6', '7':
		p.pos--
		from := p.pos
		b := p.digits(8, 3)
		if p.pos-from == 3 && p.src[from] > '3' {
			return 0, p.errorf("octal value is greater than \\377 in 8-bit non-UTF-8 mode")
		}
		return b, nil
	}
	if isAlnum(c) {
		return 0, p.errorf("unrecognized character %q follows \\", c)
	}
	return c, nil
}

// digits reads at most n digits.
func (p *pcre) digits(base, n int) byte {
	from := p.pos
	for p.more() && p.pos-from < n && (base == 16 && isXDigit(p.src[p.pos]) || base == 8 && '0' <= p.src[p.pos] && p.src[p.pos] <= '7') {
		p.pos++
	}
	v, _ := strconv.ParseUint(p.src[from:p.pos], base, 16) // no digits are 0, as in PCRE2
	return byte(v)
}

func (p *pcre) braced(base int) (byte, error) {
	word, ok := p.until('}')
	if !ok {
		return 0, p.errorf("missing terminating } after \\x{ or \\o{")
	}
	v, err := strconv.ParseUint(word, base, 8)
	if err != nil || strings.Contains(word, "_") {
		return 0, p.errorf("bad character code %q", word)
	}
	return byte(v), nil
}

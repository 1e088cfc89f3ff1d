package regex

import "strings"

// class reads what follows an opening bracket.
func (p *pcre) class() (*node, error) {
	if p.take("[:<:]]") {
		return assertNode(atWordStart), nil
	}
	if p.take("[:>:]]") {
		return assertNode(atWordEnd), nil
	}
	open := p.pos
	if strings.HasPrefix(p.src[p.pos-1:], "[:") || strings.HasPrefix(p.src[p.pos-1:], "[.") || strings.HasPrefix(p.src[p.pos-1:], "[=") {
		if _, _, ok := posixName(p.src[p.pos-1:]); ok {
			return nil, p.errorf("POSIX named classes are supported only within a class")
		}
	}
	negated := p.take("^")
	var s, sets set // bytes, which the case may be ignored of, and what stands for sets of them
	quoted := false
	for first := true; ; first = false {
		switch {
		case !p.more():
			p.pos = open
			return nil, p.errorf("missing terminating ] for character class")
		case quoted && p.take(`\E`):
			quoted = false
			continue
		case !quoted && p.take(`\Q`):
			quoted = true
			continue
		case !quoted && p.take(`\E`):
			continue
		case !quoted && p.on(extendedMore) && isBlank(p.src[p.pos]):
			p.pos++
			continue
		case !quoted && !first && p.take("]"):
			if p.on(IgnoreCase) {
				s = s.fold()
			}
			s.addSet(sets)
			if negated {
				s = s.not()
			}
			return setNode(s), nil
		}
		low, whole, isSet, err := p.member(quoted)
		if err != nil {
			return nil, err
		}
		hyphen := !quoted && p.at("-") && p.pos+1 < len(p.src) && p.src[p.pos+1] != ']'
		if isSet {
			sets.addSet(whole)
			if hyphen {
				return nil, p.errorf("invalid range in character class")
			}
			continue
		}
		if !hyphen {
			s.add(low)
			continue
		}
		p.pos++
		for p.take(`\E`) {
			continue
		}
		if p.take(`\Q`) {
			quoted = true
		}
		high, _, isSet, err := p.member(quoted)
		switch {
		case err != nil:
			return nil, err
		case isSet:
			return nil, p.errorf("invalid range in character class")
		case high < low:
			return nil, p.errorf("range out of order in character class")
		}
		s.addRange(low, high)
	}
}

// posixName reads [:name:] at the start of s.
func posixName(s string) (name string, length int, ok bool) {
	if len(s) < 4 || s[0] != '[' || s[1] != ':' && s[1] != '.' && s[1] != '=' {
		return "", 0, false
	}
	for i := 2; i+1 < len(s); i++ {
		switch {
		case s[i] == s[1] && s[i+1] == ']':
			return s[2:i], i + 2, true
		case s[i] == ']', s[i] == '\\' && (s[i+1] == ']' || s[i+1] == '\\'), s[i] == '[' && s[i+1] == s[1]:
			return "", 0, false
		}
	}
	return "", 0, false
}

// member reads one byte of a class, or a set of them.
func (p *pcre) member(quoted bool) (b byte, s set, isSet bool, err error) {
	if quoted || p.src[p.pos] != '\\' && p.src[p.pos] != '[' {
		p.pos++
		return p.src[p.pos-1], s, false, nil
	}
	if p.src[p.pos] == '[' {
		name, n, ok := posixName(p.src[p.pos:])
		if !ok {
			p.pos++
			return '[', s, false, nil
		}
		if p.src[p.pos+1] != ':' {
			return 0, s, false, p.errorf("POSIX collating elements are not supported")
		}
		p.pos += n
		name, negated := strings.CutPrefix(name, "^")
		s, ok := class(name)
		switch {
		case name == "word":
			s = setOf(isWord)
		case name == "ascii":
			s = setOf(func(b byte) bool { return b < 128 })
		case !ok:
			return 0, s, false, p.errorf("unknown POSIX class name %q", name)
		case p.on(IgnoreCase) && (name == "upper" || name == "lower"):
			s = setOf(isAlpha)
		}
		if negated {
			s = s.not()
		}
		return 0, s, true, nil
	}
	p.pos++
	if !p.more() {
		return 0, s, false, p.errorf("\\ at end of pattern")
	}
	switch p.src[p.pos] {
	case 'b':
		p.pos++
		return '\b', s, false, nil
	case 'B', 'R', 'X', 'N':
		return 0, s, false, p.errorf("escape sequence is invalid in character class")
	case '8', '9':
		p.pos++
		return p.src[p.pos-1], s, false, nil
	}
	if s, ok, err := p.escapedSet(); ok || err != nil {
		return 0, s, true, err
	}
	b, err = p.escapedByte()
	return b, s, false, err
}

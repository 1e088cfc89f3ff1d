package regex

import (
	"strconv"
	"strings"
)

// group reads what follows an opening parenthesis.
func (p *pcre) group() (piece, error) {
	switch {
	case p.at("*"):
		return p.verb()
	case !p.take("?"):
		if p.on(noCapture) {
			return p.body(nil)
		}
		return p.capture("")
	case p.take("|"):
		return p.branchReset()
	case p.take(":"):
		return p.body(nil)
	case p.take(">"):
		return p.body(&node{op: opAtomic})
	case p.take("="):
		return p.body(&node{op: opLook})
	case p.take("!"):
		if p.take(")") {
			return piece{n: &node{op: opFail}}, nil
		}
		return p.body(&node{op: opLook, neg: true})
	case p.take("<="):
		return p.body(&node{op: opLook, behind: true})
	case p.take("<!"):
		return p.body(&node{op: opLook, behind: true, neg: true})
	case p.take("P<"), p.take("<"):
		return p.namedGroup('>')
	case p.take("'"):
		return p.namedGroup('\'')
	case p.take("P="):
		name, err := p.name(')')
		if err != nil {
			return piece{}, err
		}
		return piece{n: p.named(&node{op: opBackref, fold: p.on(IgnoreCase)}, name)}, nil
	case p.take("P>"), p.take("&"):
		name, err := p.name(')')
		if err != nil {
			return piece{}, err
		}
		return piece{n: p.named(&node{op: opCall}, name)}, nil
	case p.take("R)"):
		return piece{n: &node{op: opCall}}, nil
	case p.at("("):
		return p.conditional()
	case p.at("C"):
		return piece{}, p.unserved("a callout")
	}
	if n, ok := p.callNumber(); ok {
		number, err := p.relative(n)
		if err != nil {
			return piece{}, err
		}
		return piece{n: p.numbered(&node{op: opCall}, number)}, nil
	}
	return p.options()
}

// spelled are the groups that can be written (*name:...), and how else.
var spelled = map[string]string{
	"atomic": "?>", "pla": "?=", "positive_lookahead": "?=", "nla": "?!", "negative_lookahead": "?!",
	"plb": "?<=", "positive_lookbehind": "?<=", "nlb": "?<!", "negative_lookbehind": "?<!",
}

// verb reads a (*VERB), of which only the one that fails is served, or a group with a name for what it does.
func (p *pcre) verb() (piece, error) {
	p.pos++
	if i := strings.IndexAny(p.src[p.pos:], ":)"); i >= 0 && p.src[p.pos+i] == ':' {
		switch wrap := p.src[p.pos : p.pos+i]; spelled[wrap] {
		case "":
		case "?>":
			p.pos += i + 1
			return p.body(&node{op: opAtomic})
		default:
			p.pos += i + 1
			return p.body(&node{op: opLook, neg: strings.HasSuffix(spelled[wrap], "!"), behind: strings.HasPrefix(spelled[wrap], "?<")})
		}
	}
	word, ok := p.until(')')
	if !ok {
		return piece{}, errNoClose
	}
	if word == "F" || word == "FAIL" {
		return piece{n: &node{op: opFail}, noRepeat: true}, nil
	}
	return piece{}, p.unserved("(*" + word + ")")
}

// body reads the rest of a group; wrap is the node to put it in.
func (p *pcre) body(wrap *node) (piece, error) {
	saved := p.flags
	isLook := wrap != nil && wrap.op == opLook
	if isLook {
		p.looks++
	}
	subs, err := p.branches()
	if err != nil {
		return piece{}, err
	}
	if isLook {
		p.looks--
	}
	if !p.take(")") {
		return piece{}, errNoClose
	}
	p.flags = saved
	switch {
	case wrap == nil:
		return piece{n: grouped(subs)}, nil
	case wrap.behind: // each branch is as long as it is
		wrap.subs = subs
	default:
		wrap.subs = []*node{alt(subs...)}
	}
	return piece{n: wrap}, nil
}

// grouped returns the alternatives of a group that captures nothing. An assertion alone in it does not become one that
// stands by itself, which a quantifier takes for a word bracket.
func grouped(subs []*node) *node {
	n := alt(subs...)
	if n.op == opAssert {
		return &node{op: opCat, subs: []*node{n}}
	}
	return n
}

func (p *pcre) capture(name string) (piece, error) {
	number, err := p.newGroup(name)
	if err != nil {
		return piece{}, err
	}
	return p.body(&node{op: opCapture, n: number})
}

func (p *pcre) namedGroup(end byte) (piece, error) {
	name, err := p.name(end)
	if err != nil {
		return piece{}, err
	}
	return p.capture(name)
}

// name reads the name of a group.
func (p *pcre) name(end byte) (string, error) {
	name, ok := p.until(end)
	if !ok {
		return "", p.errorf("syntax error in subpattern name (missing terminator?)")
	}
	return name, p.checkName(name)
}

func (p *pcre) checkName(name string) error {
	if name == "" || isDigit(name[0]) || len(name) > 32 || strings.ContainsFunc(name, func(r rune) bool { return r > 127 || !isWord(byte(r)) }) {
		return p.errorf("bad subpattern name %q", name)
	}
	return nil
}

// branchReset reads (?|...): the groups of each alternative have the same numbers.
func (p *pcre) branchReset() (piece, error) {
	if p.depth++; p.depth > maxDepth {
		return piece{}, p.errorf("parentheses are too deeply nested")
	}
	defer func() { p.depth-- }()
	saved, first, most := p.flags, p.groups, p.groups
	var subs []*node
	for {
		p.groups = first
		n, err := p.sequence()
		if err != nil {
			return piece{}, err
		}
		subs, most = append(subs, n), max(most, p.groups)
		if !p.take("|") {
			break
		}
	}
	if !p.take(")") {
		return piece{}, errNoClose
	}
	p.groups, p.flags = most, saved
	return piece{n: grouped(subs)}, nil
}

// callNumber reads [+-]digits before the closing parenthesis of a call.
func (p *pcre) callNumber() (string, bool) {
	i := p.pos
	if i < len(p.src) && (p.src[i] == '+' || p.src[i] == '-') {
		i++
	}
	digits := i
	for i < len(p.src) && isDigit(p.src[i]) {
		i++
	}
	if i == digits || i >= len(p.src) || p.src[i] != ')' {
		return "", false
	}
	n := p.src[p.pos:i]
	p.pos = i + 1
	return n, true
}

// relative makes a number of one that may count from here.
func (p *pcre) relative(s string) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || n > maxGroups {
		return 0, p.errorf("bad subpattern number %q", s)
	}
	switch s[0] {
	case '+':
		if n == 0 {
			return 0, p.errorf("(?+0 is not allowed")
		}
		return p.groups + n, nil
	case '-':
		if n == 0 || p.groups+n+1 < 1 {
			return 0, p.errorf("reference to non-existent subpattern %s", s)
		}
		return p.groups + n + 1, nil
	}
	return n, nil
}

// options reads (?imsx-imsx) and (?imsx-imsx:...).
func (p *pcre) options() (piece, error) {
	before := p.flags
	setting := true
	if p.take("^") {
		p.flags &^= IgnoreCase | MultiLine | DotAll | Extended | extendedMore | noCapture
	}
	for p.more() {
		c := p.src[p.pos]
		p.pos++
		var f Flags
		switch c {
		case 'i':
			f = IgnoreCase
		case 'm':
			f = MultiLine
		case 's':
			f = DotAll
		case 'n':
			f = noCapture
		case 'U':
			f = Ungreedy
		case 'J':
			f = dupNames
		case 'x':
			f = Extended
			if p.take("x") {
				f |= extendedMore
			} else if setting {
				p.flags &^= extendedMore
			}
			if !setting {
				f |= extendedMore
			}
		case '-':
			if !setting {
				return piece{}, p.errorf("invalid hyphen in option setting")
			}
			setting = false
			continue
		case ')':
			return piece{nothing: true, noRepeat: true}, nil
		case ':':
			inner := p.flags
			p.flags = before
			return p.scoped(inner)
		default:
			p.pos--
			return piece{}, p.errorf("unrecognized character after (? or (?-")
		}
		if setting {
			p.flags |= f
		} else {
			p.flags &^= f
		}
	}
	return piece{}, errNoClose
}

// scoped reads a group with flags of its own.
func (p *pcre) scoped(inner Flags) (piece, error) {
	saved := p.flags
	p.flags = inner
	n, err := p.body(nil)
	p.flags = saved
	return n, err
}

// conditional reads (?(condition)yes|no).
func (p *pcre) conditional() (piece, error) {
	n := &node{op: opCond}
	switch {
	case p.at("(?=") || p.at("(?!") || p.at("(?<=") || p.at("(?<!"):
		p.pos++
		look, err := p.group()
		if err != nil {
			return piece{}, err
		}
		n.cond, n.subs = condLook, []*node{look.n}
	default:
		p.pos++
		word, ok := p.until(')')
		if !ok {
			return piece{}, errNoClose
		}
		if err := p.condition(n, word); err != nil {
			return piece{}, err
		}
	}
	saved := p.flags
	branches, err := p.branches()
	if err != nil {
		return piece{}, err
	}
	if !p.take(")") {
		return piece{}, errNoClose
	}
	p.flags = saved
	yes, no := branches[0], &node{op: opEmpty}
	switch {
	case len(branches) > 1 && n.cond == condDefine:
		return piece{}, p.errorf("DEFINE subpattern contains more than one branch")
	case len(branches) > 2:
		return piece{}, p.errorf("conditional subpattern contains more than two branches")
	case len(branches) == 2:
		no = branches[1]
	}
	n.subs = append([]*node{yes, no}, n.subs...)
	return piece{n: n}, nil
}

// condition reads what stands between the parentheses of a condition.
func (p *pcre) condition(n *node, word string) error {
	switch {
	case word == "DEFINE":
		n.cond = condDefine
		return nil
	case word == "R":
		n.cond, n.n = condRecursion, -1
		return nil
	case strings.HasPrefix(word, "R&"):
		n.cond = condRecursion
		p.named(n, word[2:])
		return p.checkName(word[2:])
	case len(word) > 1 && word[0] == 'R' && strings.Trim(word[1:], "0123456789") == "":
		number, err := p.relative(word[1:])
		n.cond = condRecursion
		p.numbered(n, number)
		return err
	case strings.HasPrefix(word, "VERSION"):
		return p.unserved("(?(VERSION")
	case word != "" && strings.Trim(strings.TrimLeft(word, "+-"), "0123456789") == "" && word != "+" && word != "-":
		number, err := p.relative(word)
		if err == nil && number == 0 {
			return p.errorf("invalid condition (?(0)")
		}
		p.numbered(n, number)
		return err
	case len(word) > 2 && word[0] == '<' && word[len(word)-1] == '>', len(word) > 2 && word[0] == '\'' && word[len(word)-1] == '\'':
		word = word[1 : len(word)-1]
	}
	p.named(n, word)
	return p.checkName(word)
}

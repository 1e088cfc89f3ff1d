package regex

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Flags of a pattern.
type Flags uint16

const (
	IgnoreCase    Flags = 1 << iota // i of both kinds
	MultiLine                       // m of both kinds: PCRE2_MULTILINE, REG_NEWLINE
	DotAll                          // s
	Extended                        // x of pcre
	Anchored                        // A
	DollarEndOnly                   // E
	Ungreedy                        // U
	Basic                           // POSIX basic expressions: regexp without REG_EXTENDED
)

// Inside a pattern there are two more.
const (
	extendedMore Flags = 1 << 13
	noCapture    Flags = 1 << 14
	dupNames     Flags = 1 << 15
)

// CompilePCRE compiles a pattern of PCRE2.
func CompilePCRE(pattern string, flags Flags) (*Regex, error) {
	p := &pcre{src: pattern, flags: flags, names: map[string][]int{}, byNumber: map[int]string{}}
	root, err := p.parse()
	if err != nil {
		return nil, err
	}
	re, err := build(root, p.groups, false)
	if err == nil && flags&Anchored != 0 { // which a call of the whole is not
		re.anchored = true
	}
	return re, err
}

// A pcre reads one pattern.
type pcre struct {
	src      string
	pos      int
	flags    Flags
	groups   int
	depth    int
	names    map[string][]int
	byNumber map[int]string
	looks    int  // look-around that is open
	quoted   bool // inside \Q...\E
	later    []func() error
}

func (p *pcre) errorf(format string, args ...any) error {
	return fmt.Errorf("at offset %d: %s", p.pos, fmt.Sprintf(format, args...))
}

func (p *pcre) unserved(what string) error {
	return fmt.Errorf("at offset %d: %s is %w", p.pos, what, ErrUnserved)
}

func (p *pcre) parse() (*node, error) {
	if err := p.startOptions(); err != nil {
		return nil, err
	}
	root, err := p.alternatives()
	if err != nil {
		return nil, err
	}
	if p.pos < len(p.src) {
		return nil, p.errorf("unmatched closing parenthesis")
	}
	for _, check := range p.later {
		if err := check(); err != nil {
			return nil, err
		}
	}
	return root, nil
}

// startOptions reads what may only stand at the very start.
func (p *pcre) startOptions() error {
	for strings.HasPrefix(p.src[p.pos:], "(*") {
		end := strings.IndexByte(p.src[p.pos:], ')')
		if end < 0 {
			return nil
		}
		word, _, _ := strings.Cut(p.src[p.pos+2:p.pos+end], "=")
		switch word {
		case "NO_AUTO_POSSESS", "NO_START_OPT", "NO_DOTSTAR_ANCHOR", "NO_JIT", "LF", "BSR_UNICODE":
			p.pos += end + 1
		case "UTF", "UCP", "CR", "CRLF", "ANYCRLF", "ANY", "NUL", "BSR_ANYCRLF", "NOTEMPTY", "NOTEMPTY_ATSTART", "LIMIT_MATCH", "LIMIT_DEPTH", "LIMIT_HEAP":
			return p.unserved("(*" + word + ")")
		default:
			return nil
		}
	}
	return nil
}

func (p *pcre) on(f Flags) bool { return p.flags&f != 0 }

func (p *pcre) more() bool { return p.pos < len(p.src) }

func (p *pcre) at(s string) bool { return strings.HasPrefix(p.src[p.pos:], s) }

func (p *pcre) take(s string) bool {
	if p.at(s) {
		p.pos += len(s)
		return true
	}
	return false
}

// until takes what stands before the next end, and end.
func (p *pcre) until(end byte) (string, bool) {
	i := strings.IndexByte(p.src[p.pos:], end)
	if i < 0 {
		return "", false
	}
	s := p.src[p.pos : p.pos+i]
	p.pos += i + 1
	return s, true
}

// alternatives reads as far as a closing parenthesis or the end.
func (p *pcre) alternatives() (*node, error) {
	subs, err := p.branches()
	if err != nil {
		return nil, err
	}
	return alt(subs...), nil
}

// branches reads the alternatives one by one.
func (p *pcre) branches() (subs []*node, err error) {
	if p.depth++; p.depth > maxDepth {
		return nil, p.errorf("parentheses are too deeply nested")
	}
	defer func() { p.depth-- }()
	for {
		n, err := p.sequence()
		if err != nil {
			return nil, err
		}
		if subs = append(subs, n); !p.take("|") {
			return subs, nil
		}
	}
}

// A piece is an item and whether a quantifier may follow it.
type piece struct {
	n        *node
	noRepeat bool
	nothing  bool // a comment or an option: not an item at all
}

func (p *pcre) sequence() (*node, error) {
	var subs []*node
	canRepeat := false
	for p.more() {
		if p.quoted {
			if p.take(`\E`) {
				p.quoted = false
				continue
			}
			subs, canRepeat = append(subs, byteNode(p.src[p.pos], p.on(IgnoreCase))), true
			p.pos++
			continue
		}
		c := p.src[p.pos]
		if c == '|' || c == ')' {
			break
		}
		if p.skip() {
			continue
		}
		min, max, ok, err := p.quantifier()
		if err != nil {
			return nil, err
		}
		if ok {
			if !canRepeat {
				return nil, p.errorf("quantifier does not follow a repeatable item")
			}
			last := len(subs) - 1
			subs[last] = p.repeated(subs[last], min, max)
			canRepeat = false
			continue
		}
		item, err := p.item()
		if err != nil {
			return nil, err
		}
		if item.nothing {
			if item.noRepeat {
				canRepeat = false
			}
			continue
		}
		subs, canRepeat = append(subs, item.n), !item.noRepeat
	}
	return cat(subs...), nil
}

// skip passes over what stands for nothing: \E, and with x white space and comments.
func (p *pcre) skip() bool {
	if p.take(`\E`) {
		return true
	}
	if p.at(`\Q`) {
		p.pos, p.quoted = p.pos+2, true
		return true
	}
	if strings.HasPrefix(p.src[p.pos:], "(?#") {
		end := strings.IndexByte(p.src[p.pos:], ')')
		if end < 0 {
			return false
		}
		p.pos += end + 1
		return true
	}
	if !p.on(Extended) {
		return false
	}
	if isSpace(p.src[p.pos]) {
		p.pos++
		return true
	}
	if p.src[p.pos] != '#' {
		return false
	}
	if i := strings.IndexByte(p.src[p.pos:], '\n'); i >= 0 {
		p.pos += i + 1
	} else {
		p.pos = len(p.src)
	}
	return true
}

// quantifier reads * + ? or {n,m}; a brace that begins none of these is a literal.
func (p *pcre) quantifier() (min, max int, ok bool, err error) {
	switch p.src[p.pos] {
	case '*':
		min, max = 0, -1
	case '+':
		min, max = 1, -1
	case '?':
		min, max = 0, 1
	case '{':
		n, found := 0, false
		if min, max, n, found = bounds(p.src[p.pos:]); !found {
			return 0, 0, false, nil
		}
		if min > maxRepeat || max > maxRepeat {
			return 0, 0, false, p.errorf("number too big in {} quantifier")
		}
		if max >= 0 && max < min {
			return 0, 0, false, p.errorf("numbers out of order in {} quantifier")
		}
		p.pos += n - 1
	default:
		return 0, 0, false, nil
	}
	p.pos++
	return min, max, true, nil
}

// bounds reads {n} {n,} or {n,m} of length n at the start of s. Numbers beyond all bounds are cut.
func bounds(s string) (min, max, n int, ok bool) {
	number := func(i int) (v, next int) {
		for next = i; next < len(s) && isDigit(s[next]); next++ {
			if v <= maxRepeat {
				v = v*10 + int(s[next]-'0')
			}
		}
		return v, next
	}
	min, i := number(1)
	if i == 1 || i >= len(s) {
		return 0, 0, 0, false
	}
	max = min
	if s[i] == ',' {
		j := 0
		if max, j = number(i + 1); j == i+1 {
			max = -1
		}
		i = j
	}
	if i >= len(s) || s[i] != '}' {
		return 0, 0, 0, false
	}
	return min, max, i + 1, true
}

// repeated reads what follows a quantifier and applies both to n.
func (p *pcre) repeated(n *node, min, max int) *node {
	g := greedy
	if p.on(Ungreedy) {
		g = lazy
	}
	behind := p.pos
	for p.more() && (p.take(`\Q\E`) || !p.at(`\Q`) && p.skip()) {
		continue
	}
	switch {
	case p.take("?"):
		g = lazy
		if p.on(Ungreedy) {
			g = greedy
		}
	case p.take("+"):
		g = possessive
	default:
		p.pos = behind
	}
	if n.op == opAssert { // [[:<:]] and [[:>:]], which are \b and a look: only that is repeated
		if min == 0 {
			return assertNode(atWord)
		}
		return n
	}
	if n.op == opLook && max != 0 { // once is as good as often
		max = 1
		if min > 0 {
			return n
		}
	}
	if min == 1 && max == 1 && g != possessive {
		return n
	}
	return &node{op: opRepeat, subs: []*node{n}, min: min, max: max, greed: g}
}

// item reads one item that is not a quantifier.
func (p *pcre) item() (piece, error) {
	c := p.src[p.pos]
	p.pos++
	switch c {
	case '.':
		return piece{n: p.dot()}, nil
	case '^':
		a := atBegin
		if p.on(MultiLine) {
			a = atLineStart
		}
		return piece{n: assertNode(a), noRepeat: true}, nil
	case '$':
		a := atEndNL
		switch {
		case p.on(MultiLine):
			a = atLineEnd
		case p.on(DollarEndOnly):
			a = atEnd
		}
		return piece{n: assertNode(a), noRepeat: true}, nil
	case '[':
		n, err := p.class()
		return piece{n: n}, err
	case '(':
		return p.group()
	case '\\':
		return p.escape()
	default:
		return piece{n: byteNode(c, p.on(IgnoreCase))}, nil
	}
}

func (p *pcre) dot() *node {
	if p.on(DotAll) {
		return setNode(set{}.not())
	}
	return setNode(newlineSet().not())
}

func newlineSet() (s set) {
	s.add('\n')
	return s
}

// group numbers of a name, checked when all of the pattern was read.
func (p *pcre) named(n *node, name string) *node {
	at := p.pos
	p.later = append(p.later, func() error {
		n.refs = p.names[name]
		if len(n.refs) == 0 {
			return fmt.Errorf("at offset %d: reference to non-existent subpattern %q", at, name)
		}
		n.n = n.refs[0]
		return nil
	})
	return n
}

func (p *pcre) numbered(n *node, number int) *node {
	n.n, n.refs = number, []int{number}
	at := p.pos
	p.later = append(p.later, func() error {
		if number > p.groups || number < 0 {
			return fmt.Errorf("at offset %d: reference to non-existent subpattern %d", at, number)
		}
		return nil
	})
	return n
}

// newGroup counts a capture.
func (p *pcre) newGroup(name string) (int, error) {
	if p.groups >= maxGroups {
		return 0, p.errorf("more than %d capturing groups", maxGroups)
	}
	p.groups++
	if name == "" {
		return p.groups, nil
	}
	if other, ok := p.byNumber[p.groups]; ok && other != name {
		return 0, p.errorf("different names for subpatterns of the same number are not allowed")
	}
	p.byNumber[p.groups] = name
	if !slices.Contains(p.names[name], p.groups) {
		if len(p.names[name]) > 0 && !p.on(dupNames) {
			return 0, p.errorf("two named subpatterns have the same name %q", name)
		}
		p.names[name] = append(p.names[name], p.groups)
	}
	return p.groups, nil
}

var errNoClose = errors.New("missing closing parenthesis")

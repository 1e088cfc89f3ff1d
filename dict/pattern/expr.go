package pattern

import (
	"errors"
	"fmt"
	"math/bits"
	"strings"

	"postraft/dict"
	"postraft/dict/pattern/regex"
)

// An exprKind says what a rule of an exprTable does.
type exprKind uint8

const (
	exprMatch exprKind = iota
	exprIf
	exprEndif
)

// An exprRule is one rule of a regexp or pcre table.
type exprRule struct {
	kind   exprKind
	line   int
	text   string
	re     *regex.Regex
	match  bool         // false: the rule is for keys that re does not match
	second *regex.Regex // regexp: what follows !, nil if there is none
	match2 bool
	result template
	endif  int // of an IF: index of its ENDIF, or of the end
}

// An exprTable is a compiled regexp or pcre table.
type exprTable struct {
	rules   []exprRule
	words   *words   // finds the rules that a key can match
	always  []uint64 // bits of the rules that are to be tried with every key
	highest int      // group in any result
}

// scratch is what one lookup needs.
type scratch struct {
	matcher regex.Matcher
	try     []uint64
	groups  []int
}

// match finds the first rule for a key.
func (t *exprTable) match(s *scratch, key []byte, noRegSub bool) (Match, error) {
	s.try = append(s.try[:0], t.always...)
	t.words.scan(key, func(rule int32) { s.try[rule>>6] |= 1 << (rule & 63) })
	s.matcher.Begin(MaxTime)
	for i := nextBit(s.try, 0); i < len(t.rules); i = nextBit(s.try, i+1) {
		r := &t.rules[i]
		if r.kind == exprEndif || noRegSub && r.result.highest > 0 {
			continue
		}
		var groups []int
		if r.result.highest > 0 {
			n := 2 * (r.result.highest + 1)
			if cap(s.groups) < n {
				s.groups = make([]int, 2*(t.highest+1))
			}
			groups = s.groups[:n]
		}
		ok, err := s.matcher.Match(r.re, key, groups)
		if err == regex.ErrLoop { // PCRE2 fails for the same reason, and Postfix tries the next rule
			ok, err = !r.match, nil
		}
		if err != nil {
			return Match{}, t.failed(r, err)
		}
		if ok != r.match {
			if r.kind == exprIf {
				i = r.endif
			}
			continue
		}
		if r.kind == exprIf {
			continue
		}
		if r.second != nil {
			ok, err := s.matcher.Match(r.second, key, nil)
			if err != nil {
				return Match{}, t.failed(r, err)
			}
			if ok != r.match2 {
				continue
			}
		}
		value, err := r.result.expand(key, groups)
		if err != nil {
			return Match{}, t.failed(r, err)
		}
		return Match{Found: true, Value: value, Line: r.line, Rule: r.text}, nil
	}
	return Match{}, nil
}

func (t *exprTable) failed(r *exprRule, err error) error {
	if err == regex.ErrLimit {
		return fmt.Errorf("rule of line %d: %w within %v: %w", r.line, err, MaxTime, dict.ErrRetry)
	}
	return fmt.Errorf("rule of line %d: %w", r.line, err)
}

// nextBit returns the first bit that is set at i or above; beyond all of them it is past the last rule.
func nextBit(set []uint64, i int) int {
	for w := i >> 6; w < len(set); w++ {
		word := set[w]
		if w == i>>6 {
			word &= ^uint64(0) << (i & 63)
		}
		if word != 0 {
			return w<<6 + bits.TrailingZeros64(word)
		}
	}
	return len(set) << 6
}

// An exprBuilder reads the rules of a table.
type exprBuilder struct {
	notes *notes
	pcre  bool
	rules []exprRule
	open  []int // indexes of the IFs that wait for their ENDIF
	count int
}

// rule reads one line.
func (b *exprBuilder) rule(line int, text string) {
	r := exprRule{line: line, text: text}
	var err error
	switch {
	case !isAlnum(text[0]):
		err = b.matchRule(&r, text)
		b.count++
	default:
		if rest, ok := keyword(text, "IF"); ok {
			r.kind = exprIf
			err = b.ifRule(&r, rest)
		} else if rest, ok := keyword(text, "ENDIF"); ok {
			r.kind = exprEndif
			if len(b.open) == 0 {
				err = fmt.Errorf("ENDIF without IF")
			} else if rest = strings.TrimLeft(rest, blanks); rest != "" {
				b.notes.warn(line, "extra text after ENDIF")
			}
		} else {
			err = fmt.Errorf("neither a /pattern/ nor IF nor ENDIF")
		}
	}
	switch {
	case errors.Is(err, regex.ErrUnserved): // Postfix takes it, so to skip it would give wrong answers
		b.notes.refuse(line, err)
		return
	case err != nil:
		b.notes.warn(line, "%v", err)
		return
	}
	switch r.kind {
	case exprIf:
		b.open = append(b.open, len(b.rules))
	case exprEndif:
		last := len(b.open) - 1
		b.rules[b.open[last]].endif = len(b.rules)
		b.open = b.open[:last]
	}
	b.rules = append(b.rules, r)
}

// matchRule reads a rule with a result.
func (b *exprBuilder) matchRule(r *exprRule, text string) error {
	first, rest, err := b.pattern(r.line, text)
	if err != nil {
		return err
	}
	var second delimited
	if !b.pcre && strings.HasPrefix(rest, "!") {
		if second, rest, err = b.pattern(r.line, rest); err != nil {
			return err
		}
	}
	if rest = strings.TrimLeft(rest, blanks); rest == "" {
		b.notes.warn(r.line, "no replacement text")
	}
	if r.result, err = parseTemplate(rest); err != nil {
		return fmt.Errorf("bad replacement syntax: %w", err)
	}
	if r.result.highest > 0 && !first.match {
		return fmt.Errorf("$number found in negative match replacement text")
	}
	if r.re, err = b.compile(first); err != nil {
		return err
	}
	if r.result.highest > r.re.Groups() {
		return fmt.Errorf("out of range replacement index %d", r.result.highest)
	}
	r.match = first.match
	if second.closed {
		r.match2 = second.match
		if r.second, err = b.compile(second); err != nil {
			return err
		}
	}
	return nil
}

func (b *exprBuilder) ifRule(r *exprRule, text string) error {
	pat, rest, err := b.pattern(r.line, text)
	if err != nil {
		return err
	}
	if rest = strings.TrimLeft(rest, blanks); rest != "" {
		b.notes.warn(r.line, "extra text after IF: do not put white space before the rules between IF and ENDIF")
	}
	r.match = pat.match
	r.re, err = b.compile(pat)
	return err
}

// A delimited is a pattern with its flags, as it stands in a rule.
type delimited struct {
	match, closed bool
	text          string
	flags         regex.Flags
}

// pattern reads ! and a pattern between delimiters, and its flags.
func (b *exprBuilder) pattern(line int, s string) (d delimited, rest string, err error) {
	s, d.match = negations(s)
	if s == "" {
		return d, "", fmt.Errorf("no pattern")
	}
	delim := s[0]
	i := 1
	for i < len(s) && s[i] != delim {
		if s[i] == '\\' {
			i++
		}
		i++
	}
	if i >= len(s) {
		return d, "", fmt.Errorf("no closing delimiter %q", delim)
	}
	d.text, d.closed = s[1:i], true
	d.flags = regex.IgnoreCase
	if b.pcre {
		d.flags |= regex.DotAll
	}
	for i++; i < len(s) && !isBlank(s[i]) && (b.pcre || s[i] != '!'); i++ {
		f, ok := b.flag(s[i])
		if !ok {
			return d, "", fmt.Errorf("unknown option %q", s[i])
		}
		if f == 0 {
			b.notes.warn(line, "obsolete option %q", s[i])
		}
		d.flags ^= f
	}
	return d, s[i:], nil
}

func (b *exprBuilder) flag(c byte) (f regex.Flags, ok bool) {
	switch {
	case c == 'i':
		return regex.IgnoreCase, true
	case c == 'm':
		return regex.MultiLine, true
	case c == 'x' && !b.pcre:
		return regex.Basic, true
	case !b.pcre:
		return 0, false
	}
	switch c {
	case 's':
		return regex.DotAll, true
	case 'x':
		return regex.Extended, true
	case 'A':
		return regex.Anchored, true
	case 'E':
		return regex.DollarEndOnly, true
	case 'U':
		return regex.Ungreedy, true
	case 'X':
		return 0, true
	}
	return 0, false
}

func (b *exprBuilder) compile(d delimited) (*regex.Regex, error) {
	if b.pcre {
		return regex.CompilePCRE(d.text, d.flags)
	}
	return regex.CompilePOSIX(d.text, d.flags)
}

// finish returns the table and the number of its rules.
func (b *exprBuilder) finish() (*exprTable, int) {
	for _, i := range b.open {
		b.notes.warn(b.rules[i].line, "IF has no matching ENDIF")
		b.rules[i].endif = len(b.rules)
	}
	t := &exprTable{rules: b.rules, always: make([]uint64, (len(b.rules)+63)/64)}
	w := newWordsBuilder()
	count := 0
	for i := range t.rules {
		r := &t.rules[i]
		if r.kind == exprMatch {
			count++
		}
		t.highest = max(t.highest, r.result.highest)
		var literals [][]byte
		if r.kind == exprMatch && r.match {
			literals = r.re.Literals()
		}
		if literals == nil {
			t.always[i>>6] |= 1 << (i & 63)
		}
		for _, l := range literals {
			w.add(l, int32(i))
		}
	}
	t.words = w.finish()
	return t, count
}

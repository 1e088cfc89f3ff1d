package pattern

import (
	"bytes"
	"fmt"
	"sync"
	"time"

	"postraft/dict"
)

// MaxTime bounds what one key may cost. On a machine with twice as much to do as it can it is twice as long by the clock.
const MaxTime = 25 * time.Millisecond

// Rules are a compiled table.
type Rules struct {
	typ   string
	rules int
	cidr  *cidrTable
	expr  *exprTable
	pool  sync.Pool // of *scratch
}

// A Match says what a key has found.
type Match struct {
	Found bool
	Value []byte
	Line  int    // of the rule that matched
	Rule  string // its text
}

// Compile makes a table of the rule text. A rule that Postfix would skip or warn about refuses the whole text:
// the error is a *dict.SourceError that lists the lines.
func Compile(typ string, text []byte) (*Rules, error) {
	r, _, err := compile(typ, text, false)
	return r, err
}

// CompileLenient skips what Postfix skips, and says so in warnings. A rule that Postfix obeys and this package cannot
// refuses the whole text all the same: the error is a dict.ErrUnserved and a *dict.SourceError.
func CompileLenient(typ string, text []byte) (r *Rules, warnings []dict.Problem, err error) {
	return compile(typ, text, true)
}

func compile(typ string, text []byte, lenient bool) (*Rules, []dict.Problem, error) {
	n := &notes{lenient: lenient}
	r := &Rules{typ: typ}
	var err error
	switch typ {
	case dict.TypeCIDR:
		b := &cidrBuilder{notes: n}
		if err = eachRule(text, n, b.rule); err == nil {
			r.cidr, r.rules = b.finish()
		}
	case dict.TypeRegexp, dict.TypePCRE:
		b := &exprBuilder{notes: n, pcre: typ == dict.TypePCRE}
		if err = eachRule(text, n, b.rule); err == nil {
			r.expr, r.rules = b.finish()
		}
		r.pool.New = func() any { return &scratch{} }
	default:
		err = fmt.Errorf("%w: %q is not a type of pattern table", dict.ErrBadSource, typ)
	}
	warnings, bad := n.result()
	if err == nil {
		err = bad
	}
	if err != nil {
		return nil, warnings, err
	}
	return r, warnings, nil
}

// Type returns the type of the table.
func (r *Rules) Type() string { return r.typ }

// Len returns the number of rules, IF and ENDIF left out.
func (r *Rules) Len() int { return r.rules }

// Lookup answers as a table does. The caller must not change the value.
func (r *Rules) Lookup(key []byte) (value []byte, found bool, err error) {
	m, err := r.Match(key, 0)
	return m.Value, m.Found, err
}

// Match answers a lookup with these flags, of which dict.NoRegSub alone makes a difference: rules with $number
// in their result are left out.
func (r *Rules) Match(key []byte, flags dict.Flags) (Match, error) {
	if bytes.IndexByte(key, 0) >= 0 {
		return Match{}, nil // no Postfix program can ask for it
	}
	if r.cidr != nil {
		return r.cidr.match(key), nil
	}
	s := r.pool.Get().(*scratch)
	defer r.pool.Put(s)
	return r.expr.match(s, key, flags&dict.NoRegSub != 0)
}

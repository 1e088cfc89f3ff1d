package fsm

import (
	"fmt"
	"sync"

	"postraft/dict"
	"postraft/dict/pattern"
	"postraft/fsm/packed"
)

// compiled are the rules of one version of a pattern table. Applying an entry does not make them: that is for
// the first who asks, so that what a text costs to compile, and whether it compiles, is never part of the
// replicated behaviour.
type compiled struct {
	once  sync.Once
	rules *pattern.Rules
	err   error
}

func newTable(t *packed.Table, typ string, version uint64) *Table {
	table := &Table{Table: t, Type: typ, Version: version}
	if dict.IsPattern(typ) {
		table.compiled = &compiled{}
	}
	return table
}

// Rules returns the rules of a pattern table. The first call for a version compiles them. Whoever imports a text
// has to refuse one that does not compile, so the error means that a program of another version did.
func (t *Table) Rules() (*pattern.Rules, error) {
	c := t.compiled
	c.once.Do(func() {
		c.rules, _, c.err = pattern.CompileLenient(t.Type, pattern.Text(t.All()))
		if c.err != nil {
			c.err = fmt.Errorf("rules of the %s table do not compile: %v: %w", t.Type, c.err, dict.ErrRetry)
		}
	})
	return c.rules, c.err
}

// Match looks a key up in a table by rules, or by entries with line 0 where the table has no rules.
func (t *Table) Match(key []byte, flags dict.Flags) (pattern.Match, error) {
	if t.compiled == nil {
		value, found := t.Get(key)
		return pattern.Match{Found: found, Value: value}, nil
	}
	rules, err := t.Rules()
	if err != nil {
		return pattern.Match{}, err
	}
	return rules.Match(key, flags)
}

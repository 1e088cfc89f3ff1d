package adopt

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"postraft/dict"
	"postraft/ops"
)

// A Check says how a raft table and Postfix's own table answered the same keys.
type Check struct {
	Keys        int // asked for
	Found       int // by Postfix
	Absent      int // of the keys, those that were made to be in neither
	Differences []Difference
}

// A Difference is a key to which the two tables say different things.
type Difference struct {
	Key           string
	Postfix, Raft Answer
}

// How many keys are asked for beside those of the table.
const (
	absentKeys = 1000
	caseKeys   = 1000
	otherKeys  = 3000 // of other tables, asked of rules
)

// Verify asks Postfix's own table and the raft table of each shared table, after Import.
func (p *Plan) Verify(ctx context.Context, postfix Postfix, agent Agent) error {
	var all []*Source
	for _, t := range p.Shared() {
		if t.Source != nil {
			all = append(all, t.Source)
		}
	}
	for _, t := range p.Shared() {
		if t.Cache {
			continue
		}
		keys, absent := verifyKeys([]*Source{t.Source}, all)
		theirs, err := askPostfix(ctx, postfix, t.Name.String(), keys)
		if err != nil {
			return err
		}
		ours, err := askRaft(ctx, agent, t.Raft, t.Source.Type, keys, p.Settings.UTF8())
		if err != nil {
			return fmt.Errorf("ask the raft table %s: %w", t.Raft, err)
		}
		t.Check = differences(keys, theirs, ours, absent)
	}
	return nil
}

// A Pair is a table as it was and the one that came in its place, each as postmap(1) can ask it.
type Pair struct {
	Old, New string
	Check    *Check // after VerifyPairs
}

// arrow parts the two tables of a Pair.
const arrow = "=>"

// ParsePair reads OLD=>NEW, or OLD=NAME for OLD=>proxy:raft:NAME.
func ParsePair(word string) (*Pair, error) {
	pair, ok := &Pair{}, false
	if pair.Old, pair.New, ok = strings.Cut(word, arrow); !ok {
		at := strings.LastIndexByte(word, '=')
		if at < 0 {
			return nil, ops.Errorf(ops.Usage, "%q: want TABLE=NAME", word)
		}
		name := strings.TrimPrefix(word[at+1:], dict.RaftType+":")
		if err := dict.CheckTableName(name); err != nil {
			return nil, ops.Errorf(ops.Usage, "%q: %v", word, err)
		}
		pair.Old, pair.New = word[:at], "proxy:"+dict.RaftType+":"+name
	}
	for _, table := range []string{pair.Old, dict.TrimProxy(pair.New)} {
		if typ, name, ok := strings.Cut(table, ":"); !ok || !isTable(typ, name) {
			return nil, ops.Errorf(ops.Usage, "%q: %q is not a table that Postfix knows: want TYPE:NAME", word, table)
		}
	}
	return pair, nil
}

// Aliased returns the tables of which one at least has to have an alias at the agent, or else the pair compares a table
// with itself. It returns none for a pair of two different tables.
func (p *Pair) Aliased() (tables []string) {
	if p.New != "proxy:"+p.Old {
		return nil
	}
	for _, m := range mentions(p.Old) {
		if m.leaf {
			tables = append(tables, m.text)
		}
	}
	return tables
}

// VerifyPairs asks the old and the new table of each pair.
func VerifyPairs(ctx context.Context, postfix Postfix, pairs []*Pair, utf8 bool) error {
	loaded := map[string]*Source{}
	var all []*Source
	of := func(table string) (sources []*Source, err error) {
		for _, m := range mentions(table) {
			name, _ := dict.ParseName(m.text)
			if k := kinds[name.Type]; !k.fixed && !k.rules || inName(name) {
				continue
			}
			s := loaded[m.text]
			if s == nil {
				if s, err = load(ctx, postfix, name, utf8); err != nil {
					return nil, fmt.Errorf("%s cannot be taken: %w", m.text, err)
				}
				loaded[m.text] = s
				all = append(all, s)
			}
			sources = append(sources, s)
		}
		return sources, nil
	}
	for _, pair := range pairs {
		if _, err := of(pair.Old); err != nil {
			return err
		}
	}
	for _, pair := range pairs {
		sources, err := of(pair.Old)
		if err != nil {
			return err
		}
		keys, absent := verifyKeys(sources, all)
		theirs, err := askPostfix(ctx, postfix, pair.Old, keys)
		if err != nil {
			return err
		}
		ours, err := askPostfix(ctx, postfix, pair.New, keys)
		if err != nil {
			return err
		}
		pair.Check = differences(keys, theirs, ours, absent)
	}
	return nil
}

// Proved returns the shared tables of which no difference is known.
func (p *Plan) Proved() []*Table {
	return slices.DeleteFunc(p.Shared(), func(t *Table) bool { return !t.Check.Equal() })
}

// Equal reports whether no answers differed, as far as anybody looked.
func (c *Check) Equal() bool { return c == nil || len(c.Differences) == 0 }

func differences(keys []string, theirs, ours []Answer, absent int) *Check {
	c := &Check{Keys: len(keys), Absent: absent}
	for i, key := range keys {
		if theirs[i].Found {
			c.Found++
		}
		if theirs[i] != ours[i] {
			c.Differences = append(c.Differences, Difference{key, theirs[i], ours[i]})
		}
	}
	return c
}

// verifyKeys returns the keys to ask for of a table that is made of these sources: all of theirs, or those that their
// rules suggest; some of them in other case; and keys made of these that none of them holds. With rules, keys of all
// sources are tried.
func verifyKeys(sources, all []*Source) (keys []string, absent int) {
	seen, held := map[string]bool{}, map[string]bool{}
	add := func(key string) bool {
		if seen[key] || !askable(key) {
			return false
		}
		seen[key] = true
		keys = append(keys, key)
		return true
	}
	rules := false
	for _, s := range sources {
		for key := range s.keys() {
			add(key)
			held[key] = held[key] || s.text == nil
		}
		rules = rules || s.text != nil
	}
	if rules {
		for _, s := range all {
			n := 0
			for key := range s.keys() {
				if n++; n > otherKeys {
					break
				}
				add(key)
			}
		}
	}
	basis := slices.Clone(keys)
	for i := 0; i < len(basis) && i < caseKeys; i++ {
		add(otherCase(basis[i], i))
	}
	if len(basis) == 0 {
		basis = []string{"postmaster@example.com"}
	}
	for round := 0; absent < absentKeys && round < 10*absentKeys; round++ {
		if key := altered(basis[round%len(basis)], round); !held[string(dict.Fold([]byte(key)))] && add(key) {
			absent++
		}
	}
	return keys, absent
}

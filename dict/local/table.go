package local

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"unicode/utf8"

	"postraft/dict"
)

// cannotList is embedded by tables whose entries cannot be listed.
type cannotList struct{}

var errNotListed = fmt.Errorf("tables of this kind have no list of entries: %w", dict.ErrRetry)

func (cannotList) Next([]byte) (key, value []byte, found bool, err error) {
	return nil, nil, false, errNotListed
}

// failing is a table that answers nothing.
type failing struct{ err error }

// unavailable returns a table that cannot be had.
func unavailable(name dict.Name, format string, args ...any) dict.Reader {
	return failing{fmt.Errorf("%s is unavailable: %w: %w", name, fmt.Errorf(format, args...), dict.ErrRetry)}
}

func (t failing) Lookup([]byte) ([]byte, bool, error)       { return nil, false, t.err }
func (t failing) Next([]byte) ([]byte, []byte, bool, error) { return nil, nil, false, t.err }
func (t failing) Kind() dict.Flags                          { return dict.Pattern }

// static has one value for all keys.
type static struct {
	cannotList
	value []byte
}

func openStatic(name dict.Name) dict.Reader {
	value := name.Map
	if value[0] == '{' {
		var err error
		if value, err = unbrace(value); err != nil {
			return unavailable(name, "%v", err)
		}
	}
	return &static{value: []byte(value)}
}

func (t *static) Lookup([]byte) ([]byte, bool, error) { return t.value, true, nil }
func (t *static) Kind() dict.Flags                    { return dict.Fixed }

// random has one of several values, each time another one.
type random struct {
	cannotList
	values []string
}

func openRandom(name dict.Name) dict.Reader {
	values, err := members(name.Map)
	if err != nil {
		return unavailable(name, "%v: want randmap:{value...}", err)
	}
	return &random{values: values}
}

func (t *random) Lookup([]byte) ([]byte, bool, error) {
	return []byte(t.values[rand.IntN(len(t.values))]), true, nil
}
func (t *random) Kind() dict.Flags { return dict.Pattern }

// inline holds its entries in its name.
type inline struct{ sorted }

func openInline(name dict.Name, o Options) dict.Reader {
	if o.UTF8 && !utf8.ValidString(name.Map) {
		return unavailable(name, "its name is not UTF-8")
	}
	pairs, err := members(name.Map)
	if err != nil {
		return unavailable(name, "%v: want inline:{name=value...}", err)
	}
	var b builder
	for _, pair := range pairs {
		if pair[0] == '{' {
			if pair, err = unbrace(pair); err != nil {
				return unavailable(name, "%v", err)
			}
		}
		key, value, err := splitPair(pair)
		if err != nil {
			return unavailable(name, "%v", err)
		}
		if err := b.add(0, []byte(key), []byte(value)); err != nil {
			return unavailable(name, "%v", err)
		}
	}
	t, _ := b.build()
	return inline{t}
}

func (inline) Kind() dict.Flags { return dict.Fixed }

// rules is a rule table whose rules are in its name, {{rule} {rule}...}, as Postfix takes them from 3.7 on.
type rules struct {
	cannotList
	Lookuper
	kind dict.Flags
}

func openRules(name dict.Name, typ FileType, o Options) dict.Reader {
	words, err := members(name.Map)
	if err != nil {
		return unavailable(name, "%v: want %s:{{rule}...}", err, name.Type)
	}
	for i, word := range words {
		if words[i], err = unbrace(word); err != nil {
			return unavailable(name, "%v", err)
		}
	}
	table, _, err := typ.Compile([]byte(strings.Join(words, "\n")+"\n"), o.UTF8)
	if err != nil {
		return unavailable(name, "%w", err)
	}
	return &rules{Lookuper: table, kind: typ.Kind}
}

func (t *rules) Kind() dict.Flags { return t.kind }

// LookupFlags implements dict.FlagReader.
func (t *rules) LookupFlags(key []byte, flags dict.Flags) ([]byte, bool, error) {
	return lookupFlags(t.Lookuper, key, flags)
}

func validUTF8(s []byte) bool { return utf8.Valid(s) }

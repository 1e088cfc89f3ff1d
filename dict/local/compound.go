package local

import (
	"strings"

	"postraft/dict"
)

// compound is a table of other tables, the first of which says how it is asked.
type compound struct {
	cannotList
	tables []dict.Reader
	o      Options
}

func (c *compound) Kind() dict.Flags { return c.tables[0].Kind() }

// union joins what all tables have to say.
type union struct{ compound }

// pipe looks up in each table what the table before it says.
type pipe struct{ compound }

// openCompound returns nil if a table inside is not known here, unless another one is a raft table: that is known
// nowhere else, and o.Other has to do for the first.
func (s *Set) openCompound(name dict.Name, o Options, depth int) dict.Reader {
	words, err := members(name.Map)
	for i := 0; err == nil && i < len(words); i++ {
		if !strings.Contains(words[i], ":") {
			return unavailable(name, "bad syntax: want %s:{type:name...}", name.Type)
		}
	}
	if err != nil {
		return unavailable(name, "%v: want %s:{type:name...}", err, name.Type)
	}
	c := compound{o: o}
	var unknown []int
	for i, word := range words {
		t := s.open(word, o, depth+1)
		if t == nil {
			unknown = append(unknown, i)
		}
		c.tables = append(c.tables, t)
	}
	if len(unknown) > 0 && !s.holdsRaft(words, depth) {
		return nil
	}
	for _, i := range unknown {
		member := dict.TrimProxy(words[i])
		if _, err := dict.ParseName(member); err != nil {
			return unavailable(name, "%v", err)
		}
		if o.Other == nil {
			return unavailable(name, "raft tables are combined with %s, which the agent does not answer: keep the stock proxymap(8) in master.cf under another service name, for the agent to ask", member)
		}
		c.tables[i] = o.Other(member)
	}
	if name.Type == "pipemap" {
		return &pipe{c}
	}
	return &union{c}
}

// holdsRaft reports whether there is a raft table among words, or in what they are made of.
func (s *Set) holdsRaft(words []string, depth int) bool {
	for _, word := range words {
		name, err := dict.ParseName(dict.TrimProxy(word))
		if err != nil {
			continue
		}
		if name.Type == dict.RaftType || s.cfg.Raft(name) != nil {
			return true
		}
		if name.Type != "unionmap" && name.Type != "pipemap" || depth > maxDepth {
			continue
		}
		if inner, err := members(name.Map); err == nil && s.holdsRaft(inner, depth+1) {
			return true
		}
	}
	return false
}

// Lookup implements dict.Reader.
func (t *union) Lookup(key []byte) ([]byte, bool, error) { return t.LookupFlags(key, 0) }

// LookupFlags implements dict.FlagReader.
func (t *union) LookupFlags(key []byte, flags dict.Flags) ([]byte, bool, error) {
	o := t.o
	o.Flags = flags
	var all []byte
	for _, member := range t.tables {
		value, found, err := Lookup(member, key, o)
		switch {
		case err != nil:
			return nil, false, err
		case !found:
			continue
		case len(all) > 0:
			all = append(all, ',')
		}
		all = append(all, value...)
	}
	return all, len(all) > 0, nil
}

// Lookup implements dict.Reader.
func (t *pipe) Lookup(key []byte) ([]byte, bool, error) { return t.LookupFlags(key, 0) }

// LookupFlags implements dict.FlagReader.
func (t *pipe) LookupFlags(key []byte, flags dict.Flags) (value []byte, found bool, err error) {
	o := t.o
	o.Flags = flags
	for _, member := range t.tables {
		if key, found, err = Lookup(member, key, o); err != nil || !found {
			return nil, false, err
		}
	}
	return key, true, nil
}

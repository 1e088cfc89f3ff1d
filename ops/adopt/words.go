package adopt

import (
	"strings"

	"postraft/dict"
)

// A mention is a table in the value of a parameter.
type mention struct {
	from, to int    // where it stands in the value, "proxy:" included
	text     string // as it stands there, without "proxy:"
	proxied  bool   // Postfix asks proxymap(8) for it, or for the compound table that it is in
	leaf     bool   // not a compound table

	compound *mention // the outermost compound table that it is in
	members  []string // of an outermost compound table: all tables inside, without "proxy:"
}

// mentions finds the tables in a value, compound ones before their members. Words are parted as Postfix does; of
// a word in braces the first word inside counts.
func mentions(value string) []*mention {
	var found []*mention
	eachWord(value, 0, func(word string, at int) { found = mentionsIn(found, word, at, nil) })
	return found
}

func mentionsIn(found []*mention, word string, at int, compound *mention) []*mention {
	if inner, ok := braced(word); ok && compound == nil {
		first, _ := dict.NextWord(inner)
		return mentionsIn(found, first, at+1+len(inner)-len(strings.TrimLeft(inner, dict.Separators)), nil)
	}
	text := strings.TrimLeft(word, "!")
	at += len(word) - len(text)
	m := &mention{from: at, to: at + len(text), text: dict.TrimProxy(text), compound: compound}
	m.proxied = m.text != text || compound != nil && compound.proxied
	typ, name, ok := strings.Cut(m.text, ":")
	if !ok || !isTable(typ, name) {
		return found
	}
	if compound != nil {
		compound.members = append(compound.members, m.text)
	}
	found = append(found, m)
	if m.leaf = typ != "pipemap" && typ != "unionmap"; m.leaf {
		return found
	}
	if inner, ok := braced(name); ok {
		outer := compound
		if outer == nil {
			outer = m
		}
		eachWord(inner, m.to-len(name)+1, func(word string, at int) { found = mentionsIn(found, word, at, outer) })
	}
	return found
}

// eachWord calls use for each word of a list that stands at an offset, with the place of the word.
func eachWord(list string, offset int, use func(word string, at int)) {
	for rest := list; ; {
		word, next := dict.NextWord(rest)
		if word == "" {
			return
		}
		use(word, offset+len(list)-len(strings.TrimLeft(rest, dict.Separators)))
		rest = next
	}
}

// braced returns what is between the braces that enclose all of s.
func braced(s string) (inner string, ok bool) {
	if len(s) < 2 || s[0] != '{' || s[len(s)-1] != '}' {
		return "", false
	}
	return s[1 : len(s)-1], true
}

// namesIn returns the names of the tables in a value, without "proxy:", and whether each is a leaf.
func namesIn(value string) map[string]bool {
	names := map[string]bool{}
	for _, m := range mentions(value) {
		names[m.text] = m.leaf
	}
	return names
}

// A replacement puts text in the place of a part of a value.
type replacement struct {
	from, to int
	text     string
}

// replaced makes replacements, which ascend and do not overlap.
func replaced(value string, replacements []replacement) string {
	var b strings.Builder
	at := 0
	for _, r := range replacements {
		b.WriteString(value[at:r.from])
		b.WriteString(r.text)
		at = r.to
	}
	b.WriteString(value[at:])
	return b.String()
}

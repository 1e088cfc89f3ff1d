package proxy

import (
	"io"
	"os"
	"strings"

	"postraft/dict"
)

// An Approval is the set of tables that a service may open, as proxymap(8) reads proxy_read_maps or
// proxy_write_maps. It is immutable. The zero value approves nothing.
type Approval struct {
	tables  map[string]struct{}
	allRaft bool
}

// ApproveAllRaft returns an Approval of every raft table and of nothing else.
func ApproveAllRaft() *Approval { return &Approval{allRaft: true} }

// ParseApproval reads the expanded value of proxy_read_maps or proxy_write_maps.
//
// Words are separated by commas and white space; text in balanced braces stays together, and of a word in
// braces the first word inside counts. The members of unionmap: and pipemap: tables are looked at, and a word
// that begins with "/" names a file of further words (Postfix 3.11). A word that begins with "proxy:"
// approves the rest of it, byte for byte.
func ParseApproval(lists ...string) *Approval {
	a := &Approval{tables: map[string]struct{}{}}
	for _, list := range lists {
		a.add(list, 0)
	}
	return a
}

// maxDepth bounds nested braces and files.
const maxDepth = 20

func (a *Approval) add(list string, depth int) {
	if depth > maxDepth {
		return
	}
	for rest := list; ; {
		var word string
		if word, rest = dict.NextWord(rest); word == "" {
			return
		}
		a.word(word, depth)
	}
}

func (a *Approval) word(word string, depth int) {
	if inner, ok := braced(word); ok {
		first, _ := dict.NextWord(inner)
		if first != "" && first[0] != '{' {
			a.word(first, depth+1)
		}
		return
	}
	switch {
	case word[0] == '/':
		a.file(word, depth+1)
	case strings.HasPrefix(word, "unionmap:"), strings.HasPrefix(word, "pipemap:"):
		_, members, _ := strings.Cut(word, ":")
		if inner, ok := braced(members); ok {
			a.add(inner, depth+1)
		}
	case strings.HasPrefix(word, "proxy:"):
		if table := dict.TrimProxy(word); strings.Contains(table, ":") {
			a.tables[table] = struct{}{}
		}
	}
}

// file adds the words of a file; one that cannot be read approves nothing.
func (a *Approval) file(path string, depth int) {
	f, err := os.Open(path)
	if err != nil {
		return
	}
	defer f.Close()
	for line, err := range dict.LogicalLines(io.LimitReader(f, 16<<20)) {
		if err != nil {
			return
		}
		if !line.Comment && !line.Orphan {
			a.add(string(line.Text), depth)
		}
	}
}

// Allows reports whether the table, maptype:mapname without "proxy:", is approved.
func (a *Approval) Allows(table string) bool {
	if a == nil {
		return false
	}
	if _, ok := a.tables[table]; ok {
		return true
	}
	return a.allRaft && strings.HasPrefix(table, dict.RaftType+":")
}

// everyRaft reports whether every raft table is approved, by whatever name it is asked for.
func (a *Approval) everyRaft() bool { return a != nil && a.allRaft }

// names reports whether the operator has approved the table by its name.
func (a *Approval) names(table string) bool {
	if a == nil {
		return false
	}
	_, ok := a.tables[table]
	return ok
}

// Tables returns the approved tables, in no order.
func (a *Approval) Tables() []string {
	tables := make([]string, 0, len(a.tables))
	for t := range a.tables {
		tables = append(tables, t)
	}
	return tables
}

// braced returns what is between the braces that enclose all of s.
func braced(s string) (inner string, ok bool) {
	if len(s) < 2 || s[0] != '{' || s[len(s)-1] != '}' {
		return "", false
	}
	return s[1 : len(s)-1], true
}

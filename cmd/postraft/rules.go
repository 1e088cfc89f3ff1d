package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"

	"postraft/dict"
	"postraft/dict/pattern"
	"postraft/ops"
)

// typeOf returns the type of a table, that of fixed keys where there is none.
func (a *app) typeOf(ctx context.Context, name string) (string, error) {
	t, err := a.tableOf(ctx, name)
	return t.Type, err
}

// tableOf describes a table, as an empty one of fixed keys where there is none.
func (a *app) tableOf(ctx context.Context, name string) (ops.TableInfo, error) {
	t, err := a.client().Table(ctx, name)
	var e *ops.Error
	if errors.As(err, &e) && (e.Kind == ops.NotFound || e.Kind == ops.NoTable) {
		return ops.TableInfo{Name: name, Type: dict.TypeHash}, nil
	}
	return t, err
}

// keyFor returns the key to look for: as it is in a table of rules, as in fold elsewhere.
func (a *app) keyFor(ctx context.Context, name, key string, exact bool) ([]byte, error) {
	folded := fold(key, exact)
	if string(folded) == key {
		return folded, nil
	}
	typ, err := a.typeOf(ctx, name)
	if err != nil {
		return nil, err
	}
	if dict.IsPattern(typ) {
		return []byte(key), nil
	}
	return folded, nil
}

// ruleText is the text of a table of rules.
type ruleText []byte

func (t ruleText) All() iter.Seq2[[]byte, []byte] { return pattern.Entries(t) }
func (t ruleText) Bytes() int64                   { return int64(len(t)) }
func (t ruleText) Len() int                       { return bytes.Count(t, []byte("\n")) }

// loadRules reads the rules of a table, and refuses them as load does.
func (a *app) loadRules(file, typ string, lenient bool) (ruleText, error) {
	var text []byte
	err := a.withFile(file, func(in io.Reader, _ int64) (err error) {
		text, err = io.ReadAll(in)
		return err
	})
	if err != nil {
		return nil, err
	}
	name := file
	if file == "-" {
		name = "standard input"
	}
	warnings, err := pattern.CheckText(typ, text, lenient)
	for _, w := range warnings {
		fmt.Fprintln(a.err, oneLine("postraft: warning: %s: %s", name, w))
	}
	if err != nil {
		e := ops.Errorf(ops.BadData, "%s: %v", name, err)
		if !lenient {
			return nil, e.Advise("nothing was changed; mend the rules, or take --lenient to skip what Postfix skips")
		}
		return nil, e
	}
	return text, nil
}

// diffRules prints what an import of rules would change: the lines that would go and come, in their order.
func (a *app) diffRules(ctx context.Context, name, file, typ string, lenient bool) error {
	text, err := a.loadRules(file, typ, lenient)
	if err != nil {
		return err
	}
	var before, after []string
	if err := a.client().Entries(ctx, name, nil, func(_, line []byte) error {
		before = append(before, string(line))
		return nil
	}); err != nil {
		return err
	}
	for _, line := range text.All() {
		after = append(after, string(line))
	}
	out := bufio.NewWriterSize(a.out, 64<<10)
	list := newJSONList(a.out)
	changed := false
	for mark, line := range lineDiff(before, after) {
		changed = true
		if a.json {
			change := jsonChange{Old: &line}
			if mark.added {
				change = jsonChange{New: &line}
			}
			change.Key = fmt.Sprintf("%08d", mark.line)
			if err := list.add(change); err != nil {
				return err
			}
			continue
		}
		sign := "-"
		if mark.added {
			sign = "+"
		}
		fmt.Fprintf(out, "%s%d\t%s\n", sign, mark.line, line)
	}
	finish := out.Flush
	if a.json {
		finish = list.end
	}
	if err := finish(); err != nil {
		return err
	}
	if changed {
		return errQuiet
	}
	return nil
}

// A lineMark is where a line comes or goes: its number in the text that has it.
type lineMark struct {
	added bool
	line  int
}

// lineDiff yields the lines that are in one text only. Lines that both have keep their order; where the texts
// differ in more than most lines, all of these are yielded.
func lineDiff(before, after []string) iter.Seq2[lineMark, string] {
	const most = 2000
	return func(yield func(lineMark, string) bool) {
		start := 0
		for start < len(before) && start < len(after) && before[start] == after[start] {
			start++
		}
		b, c := before[start:], after[start:]
		for len(b) > 0 && len(c) > 0 && b[len(b)-1] == c[len(c)-1] {
			b, c = b[:len(b)-1], c[:len(c)-1]
		}
		// common[i][j] is how many lines b[i:] and c[j:] have in common.
		var common [][]int
		if len(b) <= most && len(c) <= most {
			common = make([][]int, len(b)+1)
			for i := range common {
				common[i] = make([]int, len(c)+1)
			}
			for i := range slices.Backward(b) {
				for j := range slices.Backward(c) {
					if b[i] == c[j] {
						common[i][j] = common[i+1][j+1] + 1
					} else {
						common[i][j] = max(common[i+1][j], common[i][j+1])
					}
				}
			}
		}
		i, j := 0, 0
		for i < len(b) || j < len(c) {
			switch {
			case common != nil && i < len(b) && j < len(c) && b[i] == c[j]:
				i, j = i+1, j+1
			case i < len(b) && (j == len(c) || common == nil || common[i+1][j] >= common[i][j+1]):
				if !yield(lineMark{false, start + i + 1}, b[i]) {
					return
				}
				i++
			default:
				if !yield(lineMark{true, start + j + 1}, c[j]) {
					return
				}
				j++
			}
		}
	}
}

// explain prints how a lookup comes to its answer.
func (a *app) explain(ctx context.Context, name string, key []byte, exact bool) error {
	e, err := a.client().Explain(ctx, name, key, exact)
	if err != nil {
		return err
	}
	if a.json {
		shown := struct {
			Table   string `json:"table"`
			Type    string `json:"type"`
			Key     string `json:"key"`
			Asked   string `json:"asked"`
			Found   bool   `json:"found"`
			Value   string `json:"value"`
			Line    int    `json:"line,omitempty"`
			Rule    string `json:"rule,omitempty"`
			Version uint64 `json:"version"`
			Index   uint64 `json:"index"`
			Node    string `json:"node"`
			Leader  string `json:"leader"`
			AgeMS   int64  `json:"age_ms"`
		}{e.Table, e.Type, string(e.Key), string(e.Asked), e.Found, string(e.Value), e.Line, e.Rule, e.Version, e.Index, e.Node, e.Leader, e.AgeMS}
		if err := printJSON(a.out, shown); err != nil {
			return err
		}
	} else if err := columns(a.out, explained(e)); err != nil {
		return err
	}
	if !e.Found {
		return errQuiet
	}
	return nil
}

func explained(e ops.Explained) [][]any {
	looked := string(e.Asked)
	switch {
	case dict.IsPattern(e.Type):
		looked += " (as it is: rules see to the case)"
	case string(e.Asked) != string(e.Key):
		looked += " (folded)"
	}
	rows := [][]any{{"table", fmt.Sprintf("%s (%s)", e.Table, e.Type)}, {"looked for", looked}}
	switch {
	case !e.Found && dict.IsPattern(e.Type):
		rows = append(rows, []any{"found", "no: no rule matches"})
	case !e.Found:
		rows = append(rows, []any{"found", "no: there is no such key"})
	case e.Line > 0:
		rows = append(rows, []any{"found", string(e.Value)}, []any{"by", fmt.Sprintf("line %d: %s", e.Line, strings.TrimSpace(e.Rule))})
	default:
		rows = append(rows, []any{"found", string(e.Value)}, []any{"by", "the entry of this key"})
	}
	age := fmt.Sprintf("as of index %d, heard of the leader %d ms ago", e.Index, e.AgeMS)
	switch e.Leader {
	case "":
		age = fmt.Sprintf("as of index %d, and no leader is known", e.Index)
	case e.Node:
		age = fmt.Sprintf("as of index %d, on the leader", e.Index)
	}
	leader := e.Leader
	if leader == "" {
		leader = "-"
	}
	return append(rows, []any{"table changed", fmt.Sprintf("at index %d", e.Version)}, []any{"node", e.Node}, []any{"age", age}, []any{"leader", leader})
}

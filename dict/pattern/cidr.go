package pattern

import (
	"cmp"
	"container/heap"
	"fmt"
	"slices"
	"sort"
	"strings"
)

// A cidrTable is a compiled cidr table: for each family of addresses, ranges that cover all of them, each
// with the first rule for its addresses.
type cidrTable struct {
	rules  []cidrRule
	ranges [2][]cidrRange // of version 4 and 6, ascending
}

type cidrRule struct {
	line  int
	text  string
	value []byte
}

// A cidrRange goes as far as the next one begins.
type cidrRange struct {
	from address
	rule int32 // -1 for none
}

// match finds the first rule for an address. What is no address matches nothing.
func (t *cidrTable) match(key []byte) Match {
	family, a, ok := parseAddress(string(key))
	if !ok {
		return Match{}
	}
	ranges := t.ranges[family]
	i := sort.Search(len(ranges), func(i int) bool { return a.less(ranges[i].from) }) - 1
	if i < 0 || ranges[i].rule < 0 {
		return Match{}
	}
	r := &t.rules[ranges[i].rule]
	return Match{Found: true, Value: r.value, Line: r.line, Rule: r.text}
}

// A cidrBuilder reads the rules of a table.
type cidrBuilder struct {
	notes *notes
	rules []cidrRule
	spans [2][]ruleSpan
	open  []cidrIf
}

// A ruleSpan is a run of addresses that a rule is for.
type ruleSpan struct {
	span
	rule int32
}

// A cidrIf is an IF that waits for its ENDIF: the addresses of its family that come past it and all around it.
type cidrIf struct {
	line   int
	family int
	spans  []span
}

// rule reads one line.
func (b *cidrBuilder) rule(line int, text string) {
	if err := b.read(line, text); err != nil {
		b.notes.warn(line, "%v", err)
	}
}

func (b *cidrBuilder) read(line int, text string) error {
	if rest, ok := keyword(text, "IF"); ok {
		pat, match := negations(rest)
		if pat == "" {
			return fmt.Errorf("no address pattern")
		}
		family, spans, err := b.pattern(pat, match)
		if err != nil {
			return err
		}
		b.open = append(b.open, cidrIf{line, family, spans})
		return nil
	}
	if rest, ok := keyword(text, "ENDIF"); ok {
		if strings.Trim(rest, blanks) != "" {
			return fmt.Errorf("garbage after ENDIF")
		}
		if len(b.open) == 0 {
			return fmt.Errorf("ENDIF without IF")
		}
		b.open = b.open[:len(b.open)-1]
		return nil
	}
	pat, match := negations(text)
	end := strings.IndexAny(pat, blanks)
	value := ""
	if end >= 0 {
		pat, value = pat[:end], strings.Trim(pat[end:], blanks)
	}
	if pat == "" {
		return fmt.Errorf("no address pattern")
	}
	family, spans, err := b.pattern(pat, match)
	if err != nil {
		return err
	}
	if value == "" {
		return fmt.Errorf("no lookup result")
	}
	n := int32(len(b.rules))
	b.rules = append(b.rules, cidrRule{line, text, []byte(value)})
	for _, s := range spans {
		b.spans[family] = append(b.spans[family], ruleSpan{s, n})
	}
	return nil
}

// pattern reads a network, and returns the addresses that it is for inside the IFs that are open.
func (b *cidrBuilder) pattern(pat string, match bool) (family int, spans []span, err error) {
	family, s, err := parseNetwork(pat)
	if err != nil {
		return 0, nil, err
	}
	within := []span{{address{}, lastAddress[family]}}
	if len(b.open) > 0 {
		in := b.open[len(b.open)-1]
		within = in.spans
		if in.family != family { // an IF lets no address of another family pass, negated or not
			within = nil
		}
	}
	for _, w := range within {
		spans = append(spans, w.meet(s, match)...)
	}
	return family, spans, nil
}

// finish returns the table and the number of its rules.
func (b *cidrBuilder) finish() (*cidrTable, int) {
	for _, in := range b.open {
		b.notes.warn(in.line, "IF has no matching ENDIF")
	}
	t := &cidrTable{rules: b.rules}
	for family := range b.spans {
		t.ranges[family] = sweep(b.spans[family], lastAddress[family])
	}
	return t, len(b.rules)
}

// sweep goes over the addresses in order and notes where the first rule for them changes.
func sweep(spans []ruleSpan, last address) (ranges []cidrRange) {
	slices.SortFunc(spans, func(a, b ruleSpan) int { return a.from.compare(b.from) })
	var ends []address // where a span is over
	for _, s := range spans {
		if s.to != last {
			ends = append(ends, s.to.next())
		}
	}
	slices.SortFunc(ends, address.compare)
	var live spanHeap
	note := func(at address) {
		for len(live) > 0 && live[0].to.less(at) {
			heap.Pop(&live)
		}
		rule := int32(-1)
		if len(live) > 0 {
			rule = live[0].rule
		}
		n := len(ranges)
		switch {
		case n > 0 && ranges[n-1].from == at:
			ranges[n-1].rule = rule
		case n == 0 && rule >= 0, n > 0 && ranges[n-1].rule != rule:
			ranges = append(ranges, cidrRange{at, rule})
		}
	}
	for len(spans) > 0 || len(ends) > 0 {
		at := address{}
		if len(ends) == 0 || len(spans) > 0 && !ends[0].less(spans[0].from) {
			at = spans[0].from
		} else {
			at = ends[0]
		}
		for len(ends) > 0 && ends[0] == at {
			ends = ends[1:]
		}
		for len(spans) > 0 && spans[0].from == at {
			heap.Push(&live, spans[0])
			spans = spans[1:]
		}
		note(at)
	}
	return ranges
}

// A spanHeap has the span of the first rule on top.
type spanHeap []ruleSpan

func (h spanHeap) Len() int           { return len(h) }
func (h spanHeap) Less(i, j int) bool { return cmp.Less(h[i].rule, h[j].rule) }
func (h spanHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *spanHeap) Push(x any)        { *h = append(*h, x.(ruleSpan)) }
func (h *spanHeap) Pop() any {
	last := len(*h) - 1
	x := (*h)[last]
	*h = (*h)[:last]
	return x
}

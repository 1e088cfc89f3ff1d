package pattern

import (
	"fmt"
	"strconv"
	"strings"

	"postraft/dict"
)

// A template is the result of a rule: text, and groups of the match.
type template struct {
	literal []byte // the whole, where no group is named
	parts   []part
	highest int // group
}

// A part is text, or a group where that is not 0.
type part struct {
	text  string
	group int
}

// maxIndex bounds the number of a group in a result; no pattern has as many.
const maxIndex = 1 << 20

// parseTemplate reads a result as mac_parse() of Postfix does.
func parseTemplate(s string) (t template, err error) {
	var lit []byte
	flush := func() {
		if len(lit) > 0 {
			t.parts = append(t.parts, part{text: string(lit)})
			lit = nil
		}
	}
	for i := 0; i < len(s); {
		if s[i] != '$' {
			lit = append(lit, s[i])
			i++
			continue
		}
		if strings.HasPrefix(s[i:], "$$") {
			lit = append(lit, '$')
			i += 2
			continue
		}
		flush()
		name, next, err := macroName(s, i+1)
		if err != nil {
			return t, err
		}
		i = next
		if strings.Trim(name, "0123456789") != "" {
			return t, fmt.Errorf("non-numeric replacement index %q", name)
		}
		n, err := strconv.Atoi(name)
		if err != nil || n < 1 || n > maxIndex {
			return t, fmt.Errorf("out of range replacement index %q", name)
		}
		t.parts = append(t.parts, part{group: n})
		t.highest = max(t.highest, n)
	}
	if t.highest == 0 {
		t.literal, t.parts = append([]byte{}, lit...), nil
	}
	flush()
	return t, nil
}

// macroName reads the name behind a dollar sign: in parentheses or braces, or a word.
func macroName(s string, i int) (name string, next int, err error) {
	start := i
	if i < len(s) && (s[i] == '(' || s[i] == '{') {
		open, closing := s[i], byte(')')
		if open == '{' {
			closing = '}'
		}
		start++
		level := 1
		for i = start; level > 0; i++ {
			if i >= len(s) {
				return "", 0, fmt.Errorf("truncated macro reference: %q", s)
			}
			switch s[i] {
			case open:
				level++
			case closing:
				level--
			}
		}
		name, next = s[start:i-1], i
	} else {
		for i < len(s) && (isAlnum(s[i]) || s[i] == '_') {
			i++
		}
		name, next = s[start:i], i
	}
	if name == "" {
		return "", 0, fmt.Errorf("empty macro name: %q", s)
	}
	return name, next, nil
}

// expand puts the groups of a match into the result.
func (t *template) expand(key []byte, groups []int) ([]byte, error) {
	if t.highest == 0 {
		return t.literal, nil
	}
	var out []byte
	for _, p := range t.parts {
		if p.group == 0 {
			out = append(out, p.text...)
			continue
		}
		if from, to := groups[2*p.group], groups[2*p.group+1]; from >= 0 && to > from {
			out = append(out, key[from:to]...)
		}
		if len(out) > dict.MaxValueLen {
			return nil, fmt.Errorf("result longer than %d bytes: %w", dict.MaxValueLen, dict.ErrConfig)
		}
	}
	return out, nil
}

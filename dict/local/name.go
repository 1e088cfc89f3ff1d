package local

import (
	"errors"
	"fmt"
	"strings"

	"postraft/dict"
)

// blanks are what C's isspace takes for white space.
const blanks = " \t\n\v\f\r"

func isBlank(c byte) bool { return strings.IndexByte(blanks, c) >= 0 }

// unbrace returns what is between the braces that enclose all of s, without white space around it (extpar.c).
func unbrace(s string) (string, error) {
	switch n := dict.Balanced(s); {
	case n == 0:
		return "", fmt.Errorf("missing '}' in %q", s)
	case n < len(s):
		return "", fmt.Errorf("syntax error after '}' in %q", s)
	}
	return strings.Trim(s[1:len(s)-1], blanks), nil
}

// members returns the words in the braces that enclose all of a name.
func members(name string) ([]string, error) {
	if n := dict.Balanced(name); n == 0 || n < len(name) {
		return nil, errors.New("bad syntax")
	}
	words := dict.Words(name[1 : len(name)-1])
	if len(words) == 0 {
		return nil, errors.New("nothing in the braces")
	}
	return words, nil
}

// keyEnd returns the index at which the key at the start of text ends: at the first white space, or other byte
// that stop has, that is neither between quotes nor behind a backslash. open says that a quote was not closed.
func keyEnd(text, stop string) (end int, open bool) {
	for end < len(text) {
		switch c := text[end]; {
		case c == '\\':
			end++
		case c == '"':
			open = !open
		case !open && (isBlank(c) || strings.IndexByte(stop, c) >= 0):
			return end, open
		}
		end++
	}
	return len(text), open
}

// splitPair parts "key = value" (split_qnameval.c).
func splitPair(pair string) (key, value string, err error) {
	pair = strings.TrimLeft(pair, blanks)
	if pair == "" {
		return "", "", errors.New("no key found; expected format: key = value")
	}
	end, open := keyEnd(pair, "=")
	if open {
		return "", "", errors.New(`unbalanced '"'`)
	}
	rest := strings.TrimLeft(pair[end:], blanks)
	if rest == "" || rest[0] != '=' {
		return "", "", errors.New("missing '=' after attribute name")
	}
	return pair[:end], strings.Trim(rest[1:], blanks), nil
}

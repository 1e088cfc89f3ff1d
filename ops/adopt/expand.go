package adopt

import "strings"

// maxExpansions bounds parameters that refer to each other in a ring.
const maxExpansions = 100

// expand puts the values of parameters in the place of $name, $(name), ${name}, ${name?text} and ${name:text}, as
// mac_expand.c does. ok is false for what is none of these, and then the text is of no use.
func expand(text string, value func(name string) string) (expanded string, ok bool) {
	var b strings.Builder
	ok = expandTo(&b, text, value, 0)
	return b.String(), ok
}

func expandTo(b *strings.Builder, text string, value func(string) string, depth int) bool {
	if depth > maxExpansions {
		return false
	}
	for text != "" {
		at := strings.IndexByte(text, '$')
		if at < 0 {
			b.WriteString(text)
			return true
		}
		b.WriteString(text[:at])
		if strings.HasPrefix(text[at:], "$$") {
			b.WriteByte('$')
			text = text[at+2:]
			continue
		}
		inner, rest, ok := reference(text[at:])
		if !ok {
			return false
		}
		text = rest
		name := inner[:nameLen(inner)]
		then := inner[len(name):]
		switch {
		case name == "":
			return false
		case then == "":
			then = value(name)
		case then[0] == '?' && value(name) == "", then[0] == ':' && value(name) != "":
			continue
		case then[0] == '?' || then[0] == ':':
			if then = then[1:]; strings.HasPrefix(then, "{") {
				return false // {text}, which may be followed by an alternative
			}
		default:
			return false
		}
		if !expandTo(b, then, value, depth+1) {
			return false
		}
	}
	return true
}

// reference takes $name, ${...} or $(...) from the front of s, and returns what is inside.
func reference(s string) (inner, rest string, ok bool) {
	s = s[1:]
	if s == "" || s[0] != '{' && s[0] != '(' {
		n := nameLen(s)
		return s[:n], s[n:], n > 0
	}
	open, closing := s[0], byte('}')
	if open == '(' {
		closing = ')'
	}
	depth := 0
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case open:
			depth++
		case closing:
			if depth--; depth == 0 {
				return s[1:i], s[i+1:], true
			}
		}
	}
	return "", "", false
}

// references returns the names of all parameters that a value refers to, in conditions and texts too.
func references(text string) (names []string) {
	for {
		at := strings.IndexByte(text, '$')
		if at < 0 {
			return names
		}
		if strings.HasPrefix(text[at:], "$$") {
			text = text[at+2:]
			continue
		}
		inner, rest, ok := reference(text[at:])
		if !ok {
			text = text[at+1:]
			continue
		}
		n := nameLen(inner)
		if n > 0 {
			names = append(names, inner[:n])
		}
		names = append(names, references(inner[n:])...)
		text = rest
	}
}

func nameLen(s string) int {
	n := 0
	for n < len(s) && (s[n] == '_' || 'a' <= s[n] && s[n] <= 'z' || 'A' <= s[n] && s[n] <= 'Z' || '0' <= s[n] && s[n] <= '9') {
		n++
	}
	return n
}

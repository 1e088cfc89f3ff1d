package regex

// holds reports whether an assert holds at a place.
func (m *Matcher) holds(a assert, at int32) bool {
	pos, n := int(at), len(m.key)
	before := pos > 0 && isWord(m.key[pos-1])
	after := pos < n && isWord(m.key[pos])
	switch a {
	case atBegin:
		return pos == 0
	case atEnd:
		return pos == n
	case atEndNL:
		return pos == n || pos == n-1 && m.key[pos] == '\n'
	case atLineStart:
		return pos == 0 || m.key[pos-1] == '\n' && pos < n
	case atLineStartAny:
		return pos == 0 || m.key[pos-1] == '\n'
	case atLineEnd:
		return pos == n || m.key[pos] == '\n'
	case atWord:
		return before != after
	case atNotWord:
		return before == after
	case atWordStart:
		return !before && after
	default:
		return before && !after
	}
}

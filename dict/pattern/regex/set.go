package regex

import "math/bits"

// A set holds bytes.
type set [4]uint64

func (s *set) add(b byte)      { s[b>>6] |= 1 << (b & 63) }
func (s *set) has(b byte) bool { return s[b>>6]&(1<<(b&63)) != 0 }

func (s *set) addRange(from, to byte) {
	for b := int(from); b <= int(to); b++ {
		s.add(byte(b))
	}
}

func (s *set) addSet(o set) {
	for i := range s {
		s[i] |= o[i]
	}
}

func (s set) not() set {
	for i := range s {
		s[i] = ^s[i]
	}
	return s
}

func (s *set) len() int {
	n := 0
	for _, w := range s {
		n += bits.OnesCount64(w)
	}
	return n
}

// first returns the smallest byte of a set that is not empty.
func (s *set) first() byte {
	for i, w := range s {
		if w != 0 {
			return byte(i*64 + bits.TrailingZeros64(w))
		}
	}
	return 0
}

// fold adds the other case of each letter.
func (s set) fold() set {
	for b := byte('a'); b <= 'z'; b++ {
		if s.has(b) || s.has(b-'a'+'A') {
			s.add(b)
			s.add(b - 'a' + 'A')
		}
	}
	return s
}

func setOf(test func(b byte) bool) (s set) {
	for b := 0; b < 256; b++ {
		if test(byte(b)) {
			s.add(byte(b))
		}
	}
	return s
}

func lower(b byte) byte {
	if 'A' <= b && b <= 'Z' {
		return b + 'a' - 'A'
	}
	return b
}

func upper(b byte) byte {
	if 'a' <= b && b <= 'z' {
		return b - 'a' + 'A'
	}
	return b
}

func isUpper(b byte) bool  { return 'A' <= b && b <= 'Z' }
func isLower(b byte) bool  { return 'a' <= b && b <= 'z' }
func isDigit(b byte) bool  { return '0' <= b && b <= '9' }
func isAlpha(b byte) bool  { return isUpper(b) || isLower(b) }
func isAlnum(b byte) bool  { return isAlpha(b) || isDigit(b) }
func isWord(b byte) bool   { return isAlnum(b) || b == '_' }
func isSpace(b byte) bool  { return b == ' ' || '\t' <= b && b <= '\r' }
func isBlank(b byte) bool  { return b == ' ' || b == '\t' }
func isCntrl(b byte) bool  { return b < 0x20 || b == 0x7f }
func isPrint(b byte) bool  { return 0x20 <= b && b < 0x7f }
func isGraph(b byte) bool  { return 0x20 < b && b < 0x7f }
func isPunct(b byte) bool  { return isGraph(b) && !isAlnum(b) }
func isXDigit(b byte) bool { return isDigit(b) || 'a' <= b && b <= 'f' || 'A' <= b && b <= 'F' }

// class returns a named class of the C locale; ok is false for a name that POSIX does not know.
func class(name string) (s set, ok bool) {
	tests := map[string]func(byte) bool{
		"alpha": isAlpha, "digit": isDigit, "alnum": isAlnum, "upper": isUpper, "lower": isLower, "space": isSpace,
		"blank": isBlank, "cntrl": isCntrl, "print": isPrint, "graph": isGraph, "punct": isPunct, "xdigit": isXDigit,
	}
	test, ok := tests[name]
	if ok {
		s = setOf(test)
	}
	return s, ok
}

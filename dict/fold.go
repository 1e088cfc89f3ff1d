package dict

import (
	"bytes"
	"unicode/utf8"

	"golang.org/x/text/cases"
)

// Fold returns key folded as Postfix folds the keys of tables with fixed strings: A-Z to a-z in ASCII,
// full Unicode default case folding in other valid UTF-8 (casefold() of src/util/casefold.c), ASCII
// folding alone in what is not UTF-8. It returns key itself when folding changes nothing.
func Fold(key []byte) []byte {
	i, ascii := scanFold(key)
	if ascii && i == len(key) {
		return key
	}
	return AppendFold(make([]byte, 0, len(key)+8), key)
}

// AppendFold appends the folded key to dst, which must not overlap it. It allocates only for keys that are
// not ASCII, or when dst has no room.
func AppendFold(dst, key []byte) []byte {
	n := len(dst)
	dst = append(dst, key...)
	var high byte
	for i, c := range dst[n:] {
		high |= c
		if 'A' <= c && c <= 'Z' {
			dst[n+i] = c + 'a' - 'A'
		}
	}
	if high < utf8.RuneSelf || !utf8.Valid(key) {
		return dst
	}
	dst = dst[:n]
	// The Cherokee letters U+13A0 to U+13F5 fold to themselves in ICU, which Postfix uses, and not in
	// x/text: keep them out of its hands.
	folder := cases.Fold()
	for len(key) > 0 {
		start, end := nextCherokee(key)
		if start > 0 {
			dst = append(dst, folder.Bytes(key[:start])...)
		}
		dst = append(dst, key[start:end]...)
		key = key[end:]
	}
	return dst
}

// scanFold returns the index of the first byte that ASCII folding changes, and whether key is all ASCII.
func scanFold(key []byte) (first int, ascii bool) {
	first = len(key)
	for i, c := range key {
		if c >= utf8.RuneSelf {
			return first, false
		}
		if first == len(key) && 'A' <= c && c <= 'Z' {
			first = i
		}
	}
	return first, true
}

// nextCherokee returns the bounds of the first run of Cherokee letters; start is len(s) if there is none.
func nextCherokee(s []byte) (start, end int) {
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRune(s[i:])
		if r < 0x13a0 || r > 0x13f5 {
			i += n
			continue
		}
		end = i
		for r >= 0x13a0 && r <= 0x13f5 {
			end += n
			r, n = utf8.DecodeRune(s[end:])
		}
		return i, end
	}
	return len(s), len(s)
}

func isASCII(b []byte) bool {
	_, ascii := scanFold(b)
	return ascii
}

func hasNUL(b []byte) bool { return bytes.IndexByte(b, 0) >= 0 }

package proxy

import (
	"bytes"
	"strconv"
)

// MaxList bounds an attribute list, in bytes. Postfix sends lists of up to a little more than its
// header_size_limit (102400 bytes by default).
const MaxList = 1 << 20

// maxAttrs is one more than any request has.
const maxAttrs = 8

// An attr is one attribute; both slices point into the connection's buffer.
type attr struct{ name, value []byte }

// An attrList is a list that was received. What comes behind maxAttrs attributes is counted, not kept.
type attrList struct {
	attrs [maxAttrs]attr
	count int
}

// parse reads the attribute list at the start of b and returns its size in bytes. It returns 0 when the list
// is not complete yet.
func (l *attrList) parse(b []byte) (size int) {
	l.count = 0
	for at := 0; ; {
		n := bytes.IndexByte(b[at:], 0)
		if n < 0 {
			return 0
		}
		if n == 0 {
			return at + 1
		}
		name := b[at : at+n]
		at += n + 1
		n = bytes.IndexByte(b[at:], 0)
		if n < 0 {
			return 0
		}
		if l.count < maxAttrs {
			l.attrs[l.count] = attr{name, b[at : at+n]}
		}
		l.count++
		at += n + 1
	}
}

// is reports whether attribute i is there and has this name.
func (l *attrList) is(i int, name string) bool {
	return i < l.count && i < maxAttrs && string(l.attrs[i].name) == name
}

// parseUint reads what Postfix sends as %u. Digits beyond 32 bits wrap, as they do there.
func parseUint(b []byte) (v uint32, ok bool) {
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		v = v*10 + uint32(c-'0')
	}
	return v, len(b) > 0
}

// The append functions write one attribute, or the end of a list.

func appendBytes(dst []byte, name string, value []byte) []byte {
	return append(append(append(append(dst, name...), 0), value...), 0)
}

func appendUint(dst []byte, name string, value uint32) []byte {
	return append(strconv.AppendUint(append(append(dst, name...), 0), uint64(value), 10), 0)
}

func appendEnd(dst []byte) []byte { return append(dst, 0) }

package dict

import (
	"fmt"
	"strings"
)

// RaftType is the maptype of replicated tables: Postfix names them proxy:raft:NAME.
const RaftType = "raft"

// The kinds of raft tables: keys of TypeHash are fixed strings, those of the others are patterns (package
// pattern).
const (
	TypeHash   = "hash"
	TypeCIDR   = "cidr"
	TypeRegexp = "regexp"
	TypePCRE   = "pcre"
)

// IsPattern reports whether typ is a kind of table that holds rules.
func IsPattern(typ string) bool { return typ == TypeCIDR || typ == TypeRegexp || typ == TypePCRE }

// MaxNameLen bounds the name of a raft table, in bytes.
const MaxNameLen = 128

// A Name is a table as main.cf names it: maptype:mapname.
type Name struct{ Type, Map string }

// ParseName splits s at its first colon. A name without one is an error.
func ParseName(s string) (Name, error) {
	typ, m, ok := strings.Cut(s, ":")
	if !ok || typ == "" {
		return Name{}, fmt.Errorf("parse table name %q: want maptype:mapname: %w", s, ErrBadSource)
	}
	return Name{typ, m}, nil
}

func (n Name) String() string { return n.Type + ":" + n.Map }

// TrimProxy strips "proxy:" from the front of s as often as it is there, as proxymap(8) does.
func TrimProxy(s string) string {
	for strings.HasPrefix(s, "proxy:") {
		s = s[len("proxy:"):]
	}
	return s
}

// CheckTableName returns an ErrBadSource unless name can name a raft table: 1 to MaxNameLen of
// A-Z a-z 0-9 . _ -
func CheckTableName(name string) error {
	if name == "" || len(name) > MaxNameLen {
		return fmt.Errorf("table name %q: want 1 to %d characters, not %d: %w", name[:min(len(name), MaxNameLen)], MaxNameLen, len(name), ErrBadSource)
	}
	for i := 0; i < len(name); i++ {
		c := name[i]
		switch {
		case 'A' <= c && c <= 'Z', 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '.', c == '_', c == '-':
		default:
			return fmt.Errorf("table name %q: only A-Z a-z 0-9 . _ - are allowed: %w", name, ErrBadSource)
		}
	}
	return nil
}

// CheckTableType returns an ErrBadSource unless typ is a kind of table that can be created.
func CheckTableType(typ string) error {
	if typ != TypeHash && !IsPattern(typ) {
		return fmt.Errorf("table type %q: want %s, %s, %s or %s: %w", typ, TypeHash, TypeCIDR, TypeRegexp, TypePCRE, ErrBadSource)
	}
	return nil
}

// CheckEntry returns an ErrBadSource unless a raft table can hold the entry: sizes within the limits
// and no NUL byte, which the proxymap protocol cannot carry.
func CheckEntry(key, value []byte) error {
	switch {
	case len(key) > MaxKeyLen:
		return fmt.Errorf("key of %d bytes: at most %d are allowed: %w", len(key), MaxKeyLen, ErrBadSource)
	case len(value) > MaxValueLen:
		return fmt.Errorf("value of %d bytes: at most %d are allowed: %w", len(value), MaxValueLen, ErrBadSource)
	case hasNUL(key) || hasNUL(value):
		return fmt.Errorf("entry with a NUL byte: %w", ErrBadSource)
	}
	return nil
}

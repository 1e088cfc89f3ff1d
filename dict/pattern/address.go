package pattern

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// An address is a number of 128 bits; one of version 4 is in the lowest 32.
type address struct{ high, low uint64 }

// Families of addresses, as indexes.
const (
	version4 = 0
	version6 = 1
)

// lastAddress and its width in bits, by family.
var (
	lastAddress = [2]address{{0, 1<<32 - 1}, {^uint64(0), ^uint64(0)}}
	addressBits = [2]int{32, 128}
)

func (a address) compare(b address) int {
	switch {
	case a.less(b):
		return -1
	case b.less(a):
		return 1
	}
	return 0
}

func (a address) less(b address) bool { return a.high < b.high || a.high == b.high && a.low < b.low }

func (a address) next() address {
	a.low++
	if a.low == 0 {
		a.high++
	}
	return a
}

func (a address) before() address {
	if a.low == 0 {
		a.high--
	}
	a.low--
	return a
}

// A span is a run of addresses, both ends included.
type span struct{ from, to address }

// meet returns what w and s have in common or, unless match, what of w is not in s.
func (w span) meet(s span, match bool) []span {
	if s.to.less(w.from) || w.to.less(s.from) {
		if match {
			return nil
		}
		return []span{w}
	}
	if match {
		if s.from.less(w.from) {
			s.from = w.from
		}
		if w.to.less(s.to) {
			s.to = w.to
		}
		return []span{s}
	}
	var out []span
	if w.from.less(s.from) {
		out = append(out, span{w.from, s.from.before()})
	}
	if s.to.less(w.to) {
		out = append(out, span{s.to.next(), w.to})
	}
	return out
}

// parseAddress reads what inet_pton(3) reads: with a colon it is of version 6.
func parseAddress(s string) (family int, a address, ok bool) {
	if strings.IndexByte(s, '%') >= 0 { // netip reads zones
		return 0, a, false
	}
	ip, err := netip.ParseAddr(s)
	if err != nil {
		return 0, a, false
	}
	if ip.Is4() {
		b := ip.As4()
		return version4, address{0, uint64(binary.BigEndian.Uint32(b[:]))}, true
	}
	b := ip.As16()
	return version6, address{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}, true
}

// parseNetwork reads address, address/bits, [address]/bits or [address/bits].
func parseNetwork(pat string) (family int, s span, err error) {
	host, mask, hasMask := pat, "", false
	if rest, ok := strings.CutPrefix(pat, "["); ok {
		inner, after, ok := strings.Cut(rest, "]")
		switch {
		case !ok:
			return 0, s, fmt.Errorf("missing ']' character after %q", "["+rest)
		case after == "":
			host, mask, hasMask = strings.Cut(inner, "/")
		case after[0] == '/':
			host, mask, hasMask = inner, after[1:], true
		default:
			return 0, s, fmt.Errorf("garbage after %q", "["+inner+"]")
		}
	} else {
		host, mask, hasMask = strings.Cut(pat, "/")
	}
	if strings.IndexByte(host, ':') >= 0 {
		family = version6
	}
	bits := addressBits[family]
	if hasMask {
		if mask == "" || strings.Trim(mask, "0123456789") != "" {
			return 0, s, fmt.Errorf("bad mask value in %q", host+"/"+mask)
		}
		if bits, err = strconv.Atoi(mask); err != nil || bits > addressBits[family] {
			return 0, s, fmt.Errorf("bad mask length in %q", host+"/"+mask)
		}
	}
	_, a, ok := parseAddress(host)
	switch {
	case !ok && hasMask:
		return 0, s, fmt.Errorf("bad network value in %q", host+"/"+mask)
	case !ok:
		return 0, s, fmt.Errorf("bad address pattern: %q", host)
	}
	free := hostBits(addressBits[family] - bits)
	if a.high&free.high != 0 || a.low&free.low != 0 {
		net, _ := netip.MustParseAddr(host).Prefix(bits)
		return 0, s, fmt.Errorf("non-null host address bits in %q, perhaps you should use %q instead", host+"/"+mask, net)
	}
	return family, span{a, address{a.high | free.high, a.low | free.low}}, nil
}

// hostBits is an address with its lowest n bits set.
func hostBits(n int) address {
	switch {
	case n >= 128:
		return address{^uint64(0), ^uint64(0)}
	case n >= 64:
		return address{1<<(n-64) - 1, ^uint64(0)}
	default:
		return address{0, 1<<n - 1}
	}
}

package pattern

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"postraft/dict"
)

// manyRules makes a table of n rules and keys of which about half match one.
func manyRules(typ string, n int) (text string, keys [][]byte) {
	g := &generator{rand.New(rand.NewPCG(3, 9)), typ}
	var b strings.Builder
	for i := range n {
		switch typ {
		case dict.TypeCIDR:
			a := g.v4() &^ 0xff
			fmt.Fprintf(&b, "%d.%d.%d.0/24 rule %d\n", a>>24, a>>16&255, a>>8&255, i)
			keys = append(keys, fmt.Appendf(nil, "%d.%d.%d.77", a>>24, a>>16&255, a>>8&255), fmt.Appendf(nil, "203.%d.113.9", i%256))
		default:
			fmt.Fprintf(&b, "/^(.*)@host%d\\.example\\.(com|net)$/ user-$1@relay%d\n", i, i)
			keys = append(keys, fmt.Appendf(nil, "some.body@host%d.example.net", i), fmt.Appendf(nil, "some.body@mail%d.example.org", i))
		}
	}
	return b.String(), keys
}

// BenchmarkLookup is what one lookup costs in a large table of each type.
func BenchmarkLookup(b *testing.B) {
	for typ, n := range map[string]int{dict.TypeCIDR: 5000, dict.TypeRegexp: 2000, dict.TypePCRE: 2000} {
		b.Run(fmt.Sprintf("%s-%d", typ, n), func(b *testing.B) {
			text, keys := manyRules(typ, n)
			r, err := Compile(typ, []byte(text))
			if err != nil {
				b.Fatal(err)
			}
			i := 0
			for b.Loop() {
				if _, _, err := r.Lookup(keys[i%len(keys)]); err != nil {
					b.Fatal(err)
				}
				i++
			}
		})
	}
}

// BenchmarkCompile is what a large table costs when its text is new.
func BenchmarkCompile(b *testing.B) {
	for typ, n := range map[string]int{dict.TypeCIDR: 5000, dict.TypeRegexp: 2000, dict.TypePCRE: 2000} {
		b.Run(fmt.Sprintf("%s-%d", typ, n), func(b *testing.B) {
			text, _ := manyRules(typ, n)
			for b.Loop() {
				if _, err := Compile(typ, []byte(text)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

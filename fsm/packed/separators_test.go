package packed

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestSeparators_Child ensures that a search by heads finds what one through all keys finds, whatever the keys have in common,
// and still does after a change.
func TestSeparators_Child(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 5000 {
		prefix := bytes.Repeat([]byte{'p'}, rng.IntN(12))
		random := func() []byte {
			key := append([]byte(nil), prefix[:len(prefix)-rng.IntN(len(prefix)/8+1)]...)
			for range rng.IntN(14) {
				key = append(key, []byte{0, 0, 'a', 'b', 'p', 0xff}[rng.IntN(6)])
			}
			return key
		}
		var keys [][]byte
		for range 1 + rng.IntN(fanout) {
			keys = append(keys, random())
		}
		slices.SortFunc(keys, bytes.Compare)
		keys = slices.CompactFunc(keys, bytes.Equal)
		var s separators
		for _, key := range keys {
			s.push(key)
		}
		for range 3 {
			s.setHeads()
			if len(keys) > 1 && s.heads == nil {
				t.Fatal("no heads")
			}
			for _, key := range append([][]byte{nil, random(), random(), random()}, keys...) {
				want := 0
				for i, sep := range keys {
					if i > 0 && bytes.Compare(sep, key) <= 0 {
						want = i
					}
				}
				if got := s.child(key); got != want {
					t.Fatalf("%q is below child %d of %q, want %d", key, got, keys, want)
				}
			}
			old := s
			shared := rng.IntN(2) == 0
			if shared {
				s = old.share()
			}
			at := rng.IntN(len(keys))
			if key := append(bytes.Clone(keys[at]), 0); at+1 == len(keys) || bytes.Compare(key, keys[at+1]) < 0 {
				s.insert(at+1, key)
				keys = slices.Insert(keys, at+1, key)
			} else if len(keys) > 1 {
				s.remove(at)
				keys = slices.Delete(keys, at, at+1)
			}
			if shared && len(old.ends) > 1 && old.heads == nil {
				t.Fatal("a change has taken the heads of the node before")
			}
		}
	}
}

// TestEditor_Heads ensures that readers never meet a node whose heads are missing, however the table has come to be.
func TestEditor_Heads(t *testing.T) {
	table, err := Build(sample(20_000))
	if err != nil {
		t.Fatal(err)
	}
	var check func(n *node)
	check = func(n *node) {
		if n.len() > 1 && n.seps.heads == nil {
			t.Fatalf("a node of %d children without heads", n.len())
		}
		for _, kid := range n.kids {
			check(kid)
		}
	}
	check(table.root)
	rng := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		e := table.Edit()
		for range 50 {
			key := fmt.Appendf(nil, "user%08d@example.com", rng.IntN(40_000))
			if !e.Delete(key) {
				e.Put(key, bytes.Repeat(key, rng.IntN(4)))
			}
		}
		table = e.Table()
		check(table.root)
	}
}

package packed

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// randomEntries returns entries in order whose keys have much or little in common.
func randomEntries(r *rand.Rand, most int) []entry {
	part := func(n int) []byte {
		text := make([]byte, r.IntN(n+1))
		for i := range text {
			text[i] = "ab\xff\x00"[r.IntN(4)]
		}
		return text
	}
	prefix, suffix := part(6), part(6)
	if r.IntN(8) == 0 {
		prefix, suffix = bytes.Repeat([]byte("p"), r.IntN(600)), bytes.Repeat([]byte("s"), r.IntN(600))
	}
	var entries []entry
	for range 1 + r.IntN(most) {
		entries = append(entries, entry{slices.Concat(prefix, part(r.IntN(12)), suffix), part(40)})
	}
	slices.SortFunc(entries, func(a, b entry) int { return bytes.Compare(a.key, b.key) })
	return slices.CompactFunc(entries, func(a, b entry) bool { return bytes.Equal(a.key, b.key) })
}

// TestLeaf ensures that a leaf holds what it was made of, and finds the place of any key, whatever its keys have in common.
func TestLeaf(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 5000 {
		entries := randomEntries(r, 60)
		l := makeLeaf(entries)
		got, _ := l.appendTo(nil, nil)
		if !slices.EqualFunc(got, entries, func(a, b entry) bool { return bytes.Equal(a.key, b.key) && bytes.Equal(a.value, b.value) }) {
			t.Fatalf("leaf of %q holds %q", entries, got)
		}
		var w blockWriter
		if read, _, err := readBlock(nil, l.encode(&w)); err != nil || !bytes.Equal(makeLeaf(read), l) {
			t.Fatalf("leaf of %q read again: %v, %q", entries, err, read)
		}
		for _, e := range append(randomEntries(r, 60), entries...) {
			for _, key := range [][]byte{e.key, e.key[:len(e.key)/2], append(bytes.Clone(e.key), 'a')} {
				place, there := slices.BinarySearchFunc(entries, key, func(e entry, key []byte) int { return bytes.Compare(e.key, key) })
				if at, found := l.find(key); at != place || found != there {
					t.Fatalf("find(%q) in %q is %d %v, want %d %v", key, entries, at, found, place, there)
				}
				at, value, found := l.lookup(key)
				if found != there || found && (at != place || !bytes.Equal(value, entries[place].value)) {
					t.Fatalf("lookup(%q) in %q is %d %q %v, want %d %v", key, entries, at, value, found, place, there)
				}
			}
		}
	}
}

// TestLeaf_Splice ensures that an entry put into a leaf, at any place and in place of one of any length, makes the leaf that
// would be made of all entries.
func TestLeaf_Splice(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	spliced := 0
	for range 20_000 {
		entries := randomEntries(r, 60)
		l, want := makeLeaf(entries), slices.Clone(entries)
		e := entry{entries[r.IntN(len(entries))].key, bytes.Repeat([]byte{'v'}, r.IntN(60))}
		if r.IntN(2) == 0 {
			e.key = randomEntries(r, 1)[0].key
			if middle := bytes.Repeat([]byte{'c'}, r.IntN(20)); r.IntN(2) == 0 {
				e.key = slices.Concat(l.prefix(), middle, l.suffix())
			}
		}
		at, replace := l.find(e.key)
		if replace {
			want[at] = e
		} else {
			want = slices.Insert(want, at, e)
		}
		next, ok := l.splice(at, e.key, e.value, replace)
		if !ok {
			continue
		}
		spliced++
		if made := makeLeaf(want); !bytes.Equal(next, made) {
			t.Fatalf("entry %q at %d of %q, replacing %v:\n%q\nwant\n%q", e, at, entries, replace, next, made)
		}
	}
	if spliced < 10_000 {
		t.Fatalf("only %d entries of 20000 were spliced in", spliced)
	}
}

// TestBuilder_FullLeaves ensures that the blocks of a Builder fill leaves, and no more than that, whatever their keys have in
// common.
func TestBuilder_FullLeaves(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for name, key := range map[string]func(i int) string{
		"one domain":   func(i int) string { return fmt.Sprintf("user%08d@example.com", i) },
		"many domains": func(i int) string { return fmt.Sprintf("u%06d@domain%d.example", i, r.IntN(1000)) },
		"no values":    func(i int) string { return fmt.Sprintf("%08d", i) },
		"long":         func(i int) string { return fmt.Sprintf("%0*d%s", 300+r.IntN(2)*8, i, bytes.Repeat([]byte("."), 400)) },
	} {
		t.Run(name, func(t *testing.T) {
			m := model{}
			for i := range 20_000 {
				value := ""
				if name == "one domain" {
					value = string(bytes.Repeat([]byte{'v'}, r.IntN(60)))
				}
				m[key(i)] = value
			}
			table, err := Build(func(yield func(k, v []byte) bool) {
				for _, k := range m.keys() {
					if !yield([]byte(k), []byte(m[k])) {
						return
					}
				}
			})
			if err != nil {
				t.Fatal(err)
			}
			m.check(t, table)
			leaves, size := 0, 0
			for l := range table.from(nil, false) {
				leaves, size = leaves+1, size+len(l)
				if l.count() > 1 && (len(l) > leafSize || l.count() > leafEntries) {
					t.Fatalf("a leaf of %d bytes, %d entries", len(l), l.count())
				}
			}
			if fill := float64(size) / float64(leaves*leafSize); fill < .9 && table.Len()/leaves < leafEntries*9/10 {
				t.Fatalf("leaves are filled by %.2f, with %d entries", fill, table.Len()/leaves)
			}
		})
	}
}

// TestCursor_Keys ensures that the keys of a walk stay what they were when it goes on, and a Cursor's until its next step.
func TestCursor_Keys(t *testing.T) {
	table, err := Build(sample(1000))
	if err != nil {
		t.Fatal(err)
	}
	var keys [][]byte
	for k := range table.All() {
		keys = append(keys, k)
	}
	c := table.Cursor()
	for i, want := range keys {
		k, v, ok := c.Next()
		if !ok || !bytes.Equal(k, want) || string(k) != fmt.Sprintf("user%08d@example.com", i) || string(v) != fmt.Sprintf("mailbox%08d@host.tld", i) {
			t.Fatalf("entry %d: %q %q %v, All had %q", i, k, v, ok, want)
		}
	}
	if _, _, ok := c.Next(); ok {
		t.Fatal("there is an entry behind the last one")
	}
}

// TestEditor_Unlike ensures that small leaves stay apart where they would be large together, as their keys have nothing in
// common, and are put together where they have.
func TestEditor_Unlike(t *testing.T) {
	m, e := model{}, new(Table).Edit()
	for _, letter := range []string{"a", "b", "c"} {
		for i := range 400 {
			key := fmt.Sprint(string(bytes.Repeat([]byte(letter), 250)), 1000+i)
			m[key] = "a value of some bytes"
			e.Put([]byte(key), []byte(m[key]))
		}
	}
	for i, key := range m.keys() {
		if i%40 != 0 {
			delete(m, key)
			e.Delete([]byte(key))
		}
	}
	table := e.Table()
	m.check(t, table)
	leaves := 0
	for l := range table.from(nil, false) {
		leaves++
		if len(l) > leafSize {
			t.Errorf("a leaf of %d bytes, %d entries", len(l), l.count())
		}
	}
	if leaves < 3 || leaves > 6 {
		t.Errorf("%d leaves", leaves)
	}
}

package packed

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
)

// model is what a Table has to equal.
type model map[string]string

func (m model) keys() []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func (m model) check(t *testing.T, table *Table) {
	t.Helper()
	keys := m.keys()
	if table.Len() != len(keys) {
		t.Fatalf("Len is %d, want %d", table.Len(), len(keys))
	}
	i, size := 0, int64(0)
	for k, v := range table.All() {
		if i >= len(keys) || string(k) != keys[i] || string(v) != m[keys[i]] {
			t.Fatalf("entry %d is %q %q", i, k, v)
		}
		if got, ok := table.Get(k); !ok || !bytes.Equal(got, v) {
			t.Fatalf("Get(%q) is %q %v, want %q", k, got, ok, v)
		}
		size += int64(len(k) + len(v))
		i++
	}
	if i != len(keys) || table.Bytes() != size {
		t.Fatalf("All gave %d of %d entries; Bytes is %d, want %d", i, len(keys), table.Bytes(), size)
	}
	rebuilt, err := Build(table.All())
	if err != nil {
		t.Fatal(err)
	}
	if rebuilt.Digest() != table.Digest() {
		t.Fatalf("digest %v, of the same entries built afresh %v", table.Digest(), rebuilt.Digest())
	}
	var a Assembler
	for b := range table.Blocks() {
		if err := a.Append(b); err != nil {
			t.Fatalf("a block of the table is not sound: %v", err)
		}
	}
	if a.Table().Digest() != table.Digest() {
		t.Fatal("the blocks make another table")
	}
}

// TestEditor_Model ensures that any run of puts and deletes leaves what a map would hold, in order, with
// sums that fit, and that earlier versions do not change.
func TestEditor_Model(t *testing.T) {
	for seed := range uint64(12) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 1))
			m, table := model{}, &Table{}
			space := 10 + rng.IntN(20000)
			old, oldModel := table, model{}
			for round := range 120 {
				e := table.Edit()
				deletes := rng.IntN(100)
				for range rng.IntN(400) {
					key := fmt.Sprintf("key%d@example.com", rng.IntN(space))
					if rng.IntN(100) < deletes {
						_, want := m[key]
						if got := e.Delete([]byte(key)); got != want {
							t.Fatalf("Delete(%q) is %v, want %v", key, got, want)
						}
						delete(m, key)
						continue
					}
					n := rng.IntN(60)
					if rng.IntN(500) == 0 {
						n = rng.IntN(100000)
					}
					value := string(bytes.Repeat([]byte{byte('a' + rng.IntN(26))}, n))
					e.Put([]byte(key), []byte(value))
					m[key] = value
				}
				table = e.Table()
				if round%10 == 0 {
					m.check(t, table)
					oldModel.check(t, old)
					old, oldModel = table, model{}
					for k, v := range m {
						oldModel[k] = v
					}
				}
			}
			m.check(t, table)
			keys := m.keys()
			for range 2000 {
				probe := fmt.Sprintf("key%d@example.com", rng.IntN(space))
				v, ok := table.Get([]byte(probe))
				if want, there := m[probe]; ok != there || string(v) != want {
					t.Fatalf("Get(%q) is %q %v", probe, v, ok)
				}
				k, _, ok := table.Next([]byte(probe))
				i, found := slices.BinarySearch(keys, probe)
				if found {
					i++
				}
				if ok != (i < len(keys)) || ok && string(k) != keys[i] {
					t.Fatalf("Next(%q) is %q %v", probe, k, ok)
				}
			}
			for k := range table.Prefix([]byte("key1")) {
				if !bytes.HasPrefix(k, []byte("key1")) {
					t.Fatalf("Prefix gave %q", k)
				}
			}
			e := table.Edit()
			for _, k := range keys {
				if !e.Delete([]byte(k)) {
					t.Fatalf("Delete(%q) found nothing", k)
				}
			}
			empty := e.Table()
			if empty.Len() != 0 || empty.Bytes() != 0 || empty.Digest() != (Digest{}) {
				t.Fatalf("emptied table: %d entries, %d bytes, digest %v", empty.Len(), empty.Bytes(), empty.Digest())
			}
		})
	}
}

// TestMerge ensures that a merge is what putting one by one makes.
func TestMerge(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 3))
	for range 50 {
		m, base, over := model{}, new(Table).Edit(), new(Table).Edit()
		for i, e := range []*Editor{base, over} {
			for range rng.IntN(300) {
				key, value := fmt.Sprint(rng.IntN(300)), fmt.Sprint(i, rng.IntN(9))
				e.Put([]byte(key), []byte(value))
				m[key] = value
			}
		}
		merged, err := Merge(base.Table(), over.Table())
		if err != nil {
			t.Fatal(err)
		}
		m.check(t, merged)
	}
}

// TestTable_EdgeKeys ensures that the empty key, keys that are prefixes of others and empty values work.
func TestTable_EdgeKeys(t *testing.T) {
	m := model{"": "empty key", "a": "", "aa": "x", "a\xff": "y", "\xff": "z"}
	e := new(Table).Edit()
	for k, v := range m {
		e.Put([]byte(k), []byte(v))
	}
	table := e.Table()
	m.check(t, table)
	var last []byte // nil: in front of the first entry
	for i, want := range m.keys() {
		k, _, ok := table.Next(last)
		if !ok || k == nil || string(k) != want {
			t.Fatalf("entry %d has key %#v, want %q", i, k, want)
		}
		last = k
	}
	if k, _, ok := table.Next(last); ok {
		t.Fatalf("key %q behind the last one", k)
	}
	if k, _, ok := table.Cursor().Next(); !ok || k == nil {
		t.Fatalf("a Cursor begins with key %#v", k)
	}
	for k := range table.All() {
		if k == nil {
			t.Fatal("All has a key that is nil")
		}
	}
}

// TestEditor_Ascending ensures that keys that come in order fill their leaves, in bytes or in number.
func TestEditor_Ascending(t *testing.T) {
	for _, value := range []string{"", "a value of some bytes"} {
		m, e := model{}, new(Table).Edit()
		for i := range 5000 {
			key := fmt.Sprintf("%08d", i)
			m[key] = value
			e.Put([]byte(key), []byte(value))
		}
		table := e.Table()
		m.check(t, table)
		leaves, size := 0, 0
		for l := range table.from(nil, false) {
			if leaves, size = leaves+1, size+len(l); l.count() > leafEntries {
				t.Fatalf("a leaf has %d entries", l.count())
			}
		}
		if fill, entries := float64(size)/float64(leaves*leafSize), table.Len()/leaves; fill < .9 && entries < leafEntries*9/10 {
			t.Errorf("with values %q leaves are filled by %.2f, with %d entries", value, fill, entries)
		}
	}
}

// TestAssembler_OtherBlocks ensures that a block of any size, as another program may make it, is looked up in and edited like
// any other.
func TestAssembler_OtherBlocks(t *testing.T) {
	for _, n := range []int{1, 80, 1500, 15000} { // up to more than two bytes can count
		m, table := model{}, tableOf(t, n)
		for k, v := range sample(n) {
			m[string(k)] = string(v)
		}
		m.check(t, table)
		if leaves := len(slices.Collect(table.Blocks())); leaves != 1 {
			t.Fatalf("%d leaves of one block", leaves)
		}
		for _, missing := range []string{"", "user", "user0000000", "user00000000@example.com.", "xuser00000000@example.com", "user99999999@example.com"} {
			if _, ok := table.Get([]byte(missing)); ok {
				t.Fatalf("found %q, which is not there", missing)
			}
		}
		for _, value := range []string{"mailbox99999999@host.tld", "short", "", string(bytes.Repeat([]byte("long"), 5000))} {
			e := table.Edit()
			e.Put([]byte("user00000030@example.com"), []byte(value))
			m["user00000030@example.com"] = value
			m.check(t, e.Table())
		}
	}
}

// tableOf returns a table of one block with n entries of sample.
func tableOf(t *testing.T, n int) *Table {
	var w blockWriter
	for k, v := range sample(n) {
		w.body = appendEntry(w.body, k, v)
		w.entryAdded()
	}
	var a Assembler
	if err := a.Append(w.block()); err != nil {
		t.Fatal(err)
	}
	return a.Table()
}

// TestAssembler_Corrupt ensures that no changed byte of a block passes unseen by check or by the digest.
func TestAssembler_Corrupt(t *testing.T) {
	table, _ := Build(sample(50))
	for b := range table.Blocks() {
		for i := range b {
			bad := bytes.Clone(b)
			bad[i] ^= 0x41
			var a Assembler
			if err := a.Append(bad); err != nil {
				if !errors.Is(err, ErrCorrupt) {
					t.Fatalf("byte %d: %v", i, err)
				}
			} else if a.Table().Digest() == table.Digest() {
				t.Fatalf("byte %d: the change was not seen", i)
			}
		}
	}
}

func FuzzAssembler(f *testing.F) {
	table, _ := Build(sample(20))
	for b := range table.Blocks() {
		f.Add(b)
	}
	f.Add([]byte{1, 0, 4, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		var a Assembler
		if a.Append(b) != nil {
			return
		}
		table := a.Table()
		n := 0
		for k, v := range table.All() {
			got, ok := table.Get(k)
			if !ok || !bytes.Equal(got, v) {
				t.Fatalf("Get(%q) is %q %v, want %q", k, got, ok, v)
			}
			n++
		}
		if n != table.Len() {
			t.Fatalf("%d entries, Len says %d", n, table.Len())
		}
		rebuilt, err := Build(table.All())
		if err != nil || rebuilt.Digest() != table.Digest() {
			t.Fatalf("rebuilt: %v", err)
		}
	})
}

// sample yields n entries of 49 bytes in order.
func sample(n int) func(yield func(k, v []byte) bool) {
	return func(yield func(k, v []byte) bool) {
		for i := range n {
			if !yield(fmt.Appendf(nil, "user%08d@example.com", i), fmt.Appendf(nil, "mailbox%08d@host.tld", i%1e8)) {
				return
			}
		}
	}
}

func BenchmarkGet(b *testing.B) {
	for _, n := range []int{100_000, 1_000_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			table, err := Build(sample(n))
			if err != nil {
				b.Fatal(err)
			}
			keys := make([][]byte, 4096)
			for i := range keys {
				keys[i] = fmt.Appendf(nil, "user%08d@example.com", rand.IntN(n))
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if _, ok := table.Get(keys[i%len(keys)]); !ok {
					b.Fatal("not found")
				}
			}
		})
	}
}

func BenchmarkEdit(b *testing.B) {
	table, _ := Build(sample(1_000_000))
	for _, n := range []int{1, 64, 256} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			t := table
			for b.Loop() {
				e := t.Edit()
				for range n {
					e.Put(fmt.Appendf(nil, "user%08d@example.com", rand.IntN(1_000_000)), []byte("mailbox00000000@host.tld"))
				}
				t = e.Table()
			}
		})
	}
}

func BenchmarkBuild(b *testing.B) {
	const n = 1_000_000
	var before, after runtime.MemStats
	for b.Loop() {
		runtime.GC()
		runtime.ReadMemStats(&before)
		table, err := Build(sample(n))
		if err != nil {
			b.Fatal(err)
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/float64(table.Bytes()), "heap/byte")
		runtime.KeepAlive(table)
	}
}

func BenchmarkRandomInsert(b *testing.B) {
	const n = 1_000_000
	for b.Loop() {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		t := &Table{}
		perm := rand.Perm(n)
		for from := 0; from < n; from += 100 {
			e := t.Edit()
			for _, i := range perm[from : from+100] {
				e.Put(fmt.Appendf(nil, "user%08d@example.com", i), fmt.Appendf(nil, "mailbox%08d@host.tld", i))
			}
			t = e.Table()
		}
		perm = nil
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/float64(t.Bytes()), "heap/byte")
		runtime.KeepAlive(t)
	}
}

// BenchmarkAppend is what a restart does with each block.
func BenchmarkAppend(b *testing.B) {
	table, err := Build(sample(1_000_000))
	if err != nil {
		b.Fatal(err)
	}
	var blocks [][]byte
	for block := range table.Blocks() {
		blocks = append(blocks, bytes.Clone(block))
	}
	for b.Loop() {
		var a Assembler
		for _, block := range blocks {
			if err := a.Append(block); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*table.Len()), "ns/entry")
}

package dict

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
)

// TestFold ensures that keys are folded as Postfix folds them: fully, not letter by letter.
func TestFold(t *testing.T) {
	for in, want := range map[string]string{
		"":                      "",
		"alice@example.com":     "alice@example.com",
		"ALICE@Example.COM":     "alice@example.com",
		"STRAẞE@example.com":    "strasse@example.com",
		"straße":                "strasse",
		"ﬁsh":                   "fish",
		"İ":                     "i̇",
		"ΣΊΣΥΦΟΣ":               "σίσυφοσ",
		"Ꭰ A Ᏽ":                 "Ꭰ a Ᏽ",
		"caf\xe9 LATIN":         "caf\xe9 latin",
		"\"Quoted Key\"@Ex.com": "\"quoted key\"@ex.com",
	} {
		if got := string(Fold([]byte(in))); got != want {
			t.Errorf("Fold(%q) is %q, want %q", in, got, want)
		}
	}
	key, dst := []byte("ALICE@Example.COM"), make([]byte, 0, 64)
	if n := testing.AllocsPerRun(100, func() { dst = AppendFold(dst[:0], key) }); n != 0 {
		t.Errorf("folding an ASCII key allocates %v times", n)
	}
}

func FuzzFold(f *testing.F) {
	f.Add("STRAẞE Ꭰx")
	f.Fuzz(func(t *testing.T, s string) {
		once := Fold([]byte(s))
		if twice := Fold(once); !bytes.Equal(once, twice) {
			t.Errorf("Fold(%q) is %q, and folded again %q", s, once, twice)
		}
	})
}

// TestNames ensures that names of tables are read and checked.
func TestNames(t *testing.T) {
	if n, err := ParseName("pcre:/etc/x:y"); err != nil || n.Type != "pcre" || n.Map != "/etc/x:y" || n.String() != "pcre:/etc/x:y" {
		t.Errorf("%v %v", n, err)
	}
	for _, bad := range []string{"", "virtual", ":x"} {
		if _, err := ParseName(bad); !errors.Is(err, ErrBadSource) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if TrimProxy("proxy:proxy:raft:a") != "raft:a" {
		t.Error("TrimProxy")
	}
	for name, ok := range map[string]bool{"virtual_alias-1.x": true, "": false, "a/b": false, "ä": false, strings.Repeat("a", 128): true, strings.Repeat("a", 129): false} {
		if got := CheckTableName(name) == nil; got != ok {
			t.Errorf("CheckTableName(%q) is %v", name, got)
		}
	}
}

// read returns the entries of source text as "key=value", and the problems.
func read(text string, opts SourceOptions) (entries []string, warnings []Problem, err error) {
	warnings, err = ReadSource(strings.NewReader(text), opts, func(e SourceEntry) error {
		entries = append(entries, fmt.Sprintf("%d:%s=%s", e.Line, e.Key, e.Value))
		return nil
	})
	return entries, warnings, err
}

// TestReadSource ensures that source text is read by postmap's rules, and that what postmap would skip is an
// error with its line, or with Lenient a warning.
func TestReadSource(t *testing.T) {
	for _, tc := range []struct {
		name, text string
		want       []string
		bad        string // part of the error; empty: there is none
	}{
		{"simple", "A@x.com  b \n\n# comment\nc\td e\r\n", []string{"1:a@x.com=b", "4:c=d e"}, ""},
		{"continued", "a 1,\n# between\n\n\t2\n  3\nb x", []string{"1:a=1,\t2  3", "6:b=x"}, ""},
		{"quoted", "\"A b\"@c v\nx\"y z\"w v\nback\\ slash v\n", []string{`1:"a b"@c=v`, `2:x"y z"w=v`, `3:back\ slash=v`}, ""},
		{"no value", "a 1\nb\nc  \n", []string{"1:a=1"}, "line 2: want: key, white space, value; line 3"},
		{"open quote", "\"a b\n", nil, "line 1: unbalanced quote"},
		{"not UTF-8", "a caf\xe9\n", nil, "line 1: not UTF-8"},
		{"NUL", "a b\x00c\n", nil, "line 1: NUL byte"},
		{"orphan", "  a b\nc d\n", []string{"2:c=d"}, "line 1: white space at the start"},
		{"directive", "#postraft:entry \"A b\" \" v\\n\"\n", []string{"1:A b= v\n"}, ""},
		{"backquoted directive", "#postraft:entry `a` \"b\"\n", nil, "line 1: #postraft:entry wants two quoted strings"},
		{"empty directive", "#postraft:entry \n#postraft:entry\n", nil, "line 1: #postraft:entry wants two quoted strings"},
		{"long directive", "#postraft:entry \"a\" \"b\" \"c\"\n", nil, "line 1: #postraft:entry wants two quoted strings"},
		{"bad directive", "#postraft:entry \"A b\n", nil, "line 1: #postraft:entry wants two quoted strings"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, _, err := read(tc.text, SourceOptions{})
			if !slices.Equal(got, tc.want) {
				t.Errorf("entries %q, want %q", got, tc.want)
			}
			if (err != nil) != (tc.bad != "") || err != nil && (!errors.Is(err, ErrBadSource) || !strings.Contains(err.Error(), tc.bad)) {
				t.Errorf("error %v, want %q", err, tc.bad)
			}
			_, warnings, err := read(tc.text, SourceOptions{Lenient: true})
			if !strings.HasSuffix(tc.name, " directive") && (err != nil || (len(warnings) > 0) != (tc.bad != "")) {
				t.Errorf("lenient: %v, warnings %v", err, warnings)
			}
		})
	}
	if got, _, _ := read("a b\x00c\n d\n\x00e f\ng h", SourceOptions{Lenient: true}); !slices.Equal(got, []string{"1:a=b", "4:g=h"}) {
		t.Errorf("lenient with NUL bytes: %q", got)
	}
	if got, _, _ := read("A@X b", SourceOptions{NoFold: true}); got[0] != "1:A@X=b" {
		t.Errorf("not folded: %q", got)
	}
	if _, _, err := read(strings.Repeat("x\n", 100), SourceOptions{}); !strings.Contains(err.Error(), "and 80 more") {
		t.Errorf("100 bad lines: %v", err)
	}
	if _, _, err := read("k "+strings.Repeat("v", MaxValueLen+1)+"\n", SourceOptions{Lenient: true}); !errors.Is(err, ErrBadSource) {
		t.Errorf("value too long: %v", err)
	}
	if _, _, err := read(strings.Repeat("v", MaxLineLen+1), SourceOptions{}); !errors.Is(err, ErrBadSource) {
		t.Errorf("line too long: %v", err)
	}
}

// TestLoadSource ensures that entries come sorted, and that a key with two values is refused with its lines.
func TestLoadSource(t *testing.T) {
	s, _, err := LoadSource(strings.NewReader("b 2\na 1\nB 2\nc 3\n"), SourceOptions{})
	if err != nil || s.Len() != 3 || s.Bytes() != 6 {
		t.Fatalf("%v %v", s, err)
	}
	var got string
	for k, v := range s.All() {
		got += fmt.Sprintf("%s=%s ", k, v)
	}
	if got != "a=1 b=2 c=3 " {
		t.Error(got)
	}
	_, _, err = LoadSource(strings.NewReader("longer-key-one 1\nx y\nLonger-key-one 2\n"), SourceOptions{})
	if !errors.Is(err, ErrBadSource) || !strings.Contains(err.Error(), `line 3: key "longer-key-one" has another value on line 1`) {
		t.Errorf("two values: %v", err)
	}
	s, warnings, err := LoadSource(strings.NewReader("k 1\nK 2\nk 1\n"), SourceOptions{Lenient: true})
	if err != nil || s.Len() != 1 || len(warnings) != 2 {
		t.Fatalf("lenient: %v %v", warnings, err)
	}
	for _, v := range s.All() {
		if string(v) != "1" {
			t.Errorf("lenient: %s won", v)
		}
	}
	_, _, err = LoadSource(strings.NewReader("z 1\nbad\na 1\na 2\nz 2\nworse\n"), SourceOptions{})
	if want := `line 2: want: key, white space, value; line 4: key "a" has another value on line 3; ` +
		`line 5: key "z" has another value on line 1; line 6: want: key, white space, value`; err == nil || err.Error() != want {
		t.Errorf("all that is wrong: %v", err)
	}
}

// TestLoadSource_Workers ensures that several workers load from a long text what one does, also into slabs, and say the
// same of it.
func TestLoadSource_Workers(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	var text bytes.Buffer
	for i := range 60_000 {
		fmt.Fprintf(&text, "User%05d@Example.com\tvalue %d\n", rng.IntN(300_000), i%7)
		switch rng.IntN(2_000) {
		case 0:
			text.WriteString(" continued\n")
		case 1:
			text.WriteString("bad\n")
		case 2:
			fmt.Fprintf(&text, "# comment\n#postraft:entry \"Exact%d\" \"v\"\n\n", i)
		case 3, 4:
			fmt.Fprintf(&text, "%s%d grows as it is folded\n", strings.Repeat("Ⱥ", 1000), i)
		case 5:
			fmt.Fprintf(&text, "long%d %s\n", i, strings.Repeat("v", rng.IntN(MaxValueLen)))
		}
	}
	for _, lenient := range []bool{false, true} {
		for _, cut := range []int{0, 100, text.Len()} {
			var want map[string]string
			var wantWarnings []Problem
			var wantErr string
			for _, workers := range []int{0, 1, 2, 5} {
				opts, slabs := SourceOptions{Lenient: lenient, Workers: workers}, atomic.Int64{}
				if workers > 1 {
					opts.OnSlab = func(b []byte) { slabs.Add(int64(len(b))) }
				}
				s, warnings, err := LoadSource(bytes.NewReader(text.Bytes()[:cut]), opts)
				got, size := map[string]string{}, 0
				if err == nil {
					last := ""
					for _, part := range s.Split(3) {
						for k, v := range part {
							if len(got) > 0 && string(k) <= last {
								t.Fatalf("%q comes behind %q", k, last)
							}
							last = string(k)
							got[last], size = string(v), size+len(k)+len(v)
						}
					}
					if workers > 1 && slabs.Load() < int64(size) {
						t.Errorf("%d bytes of slabs hold %d of entries", slabs.Load(), size)
					}
					if s.Len() != len(got) || s.Bytes() != int64(size) {
						t.Errorf("%d workers: %d entries of %d bytes, there are %d of %d", workers, s.Len(), s.Bytes(), len(got), size)
					}
				}
				if workers == 0 {
					want, wantWarnings, wantErr = got, warnings, fmt.Sprint(err)
				} else if !maps.Equal(got, want) || !slices.Equal(warnings, wantWarnings) || fmt.Sprint(err) != wantErr {
					t.Errorf("lenient %v, %d bytes: %d workers load %d entries, %d warnings, %v; the caller alone %d, %d, %s",
						lenient, cut, workers, len(got), len(warnings), err, len(want), len(wantWarnings), wantErr)
				}
			}
			if !lenient && cut == text.Len() && !strings.Contains(wantErr, "and ") {
				t.Errorf("the text is to be bad: %s", wantErr)
			}
		}
	}
}

// TestLoadSource_Order ensures that the order is that of bytes.Compare and that the values stay with their
// keys, whatever the keys have in common and however many blocks they fill.
func TestLoadSource_Order(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	entries := map[string]string{"": "empty", "a": "1", strings.Repeat("p", MaxKeyLen): strings.Repeat("v", MaxValueLen)}
	for range 20_000 {
		key := strings.Repeat("p", rng.IntN(40)) + strings.Repeat("\x01", rng.IntN(3)) + fmt.Sprint(rng.IntN(1000))
		entries[key] = strings.Repeat("v", rng.IntN(200)) + key
	}
	for i := range 64 { // small groups that agree for long and differ late
		entries[fmt.Sprintf("together %c agree for long, differ late %d", '0'+i%8, i)] = "v"
	}
	for i := range 8 {
		entries[fmt.Sprint("large", i)] = strings.Repeat("w", MaxValueLen-i)
	}
	roundTrip(t, entries)
}

// TestSourceWriter_Largest ensures that even an entry that grows most by quoting comes back.
func TestSourceWriter_Largest(t *testing.T) {
	roundTrip(t, map[string]string{strings.Repeat("\xff", MaxKeyLen): strings.Repeat("\x01\xff", MaxValueLen/2)})
}

// TestReadSource_ManyWarnings ensures that the warnings for a text of bad lines are bounded.
func TestReadSource_ManyWarnings(t *testing.T) {
	_, warnings, err := read(strings.Repeat("x\n", 5000), SourceOptions{Lenient: true})
	if err != nil || len(warnings) != maxWarnings+1 || !strings.Contains(warnings[maxWarnings].Text, "4000 more") {
		t.Errorf("%d warnings, %v", len(warnings), err)
	}
}

// roundTrip writes entries and reads them back.
func roundTrip(t *testing.T, entries map[string]string) {
	t.Helper()
	var text bytes.Buffer
	w := NewSourceWriter(&text)
	for k, v := range entries {
		if err := w.Entry([]byte(k), []byte(v)); err != nil {
			t.Fatal(err)
		}
	}
	s, warnings, err := LoadSource(&text, SourceOptions{})
	if err != nil || len(warnings) > 0 || s.Len() != len(entries) {
		t.Fatalf("%v %v", warnings, err)
	}
	var last []byte
	size, first := 0, true
	for k, v := range s.All() {
		if want, ok := entries[string(k)]; !ok || string(v) != want {
			t.Fatalf("%q came back as %q, was %q", k, v, want)
		}
		if !first && bytes.Compare(last, k) >= 0 {
			t.Fatalf("%q comes before %q", last, k)
		}
		last, first, size = k, false, size+len(k)+len(v)
	}
	if s.Bytes() != int64(size) {
		t.Errorf("Bytes is %d, want %d", s.Bytes(), size)
	}
}

// TestSourceWriter ensures that any table comes back exactly, and that what postmap can read is plain text.
func TestSourceWriter(t *testing.T) {
	roundTrip(t, map[string]string{
		"plain": "value with  blanks", "": "x", "empty": "", "Upper": "v", "two words": "v", "#hash": "v", " lead": "v",
		"\"open": "v", "\"q k\"": "v", "nl": "a\nb", "trail": "v ", "lead": " v", "latin": "caf\xe9", "caf\xe9": "v", "cr": "a\r", "back\\": "v", "colon:": "v",
	})
	var text bytes.Buffer
	w := NewSourceWriter(&text)
	w.Entry([]byte("a@b"), []byte("c d"))
	w.Entry([]byte("A@b"), []byte("c d"))
	if want := "a@b\tc d\n#postraft:entry \"A@b\" \"c d\"\n"; text.String() != want || w.Exotic != 1 {
		t.Errorf("%q, %d exotic", text.String(), w.Exotic)
	}
}

func FuzzSourceWriter(f *testing.F) {
	f.Add("key", "value", "Other \"k\\", "\nv")
	f.Fuzz(func(t *testing.T, k1, v1, k2, v2 string) {
		if strings.ContainsRune(k1+v1+k2+v2, 0) || k1 == k2 {
			return
		}
		roundTrip(t, map[string]string{k1: v1, k2: v2})
	})
}

// FuzzReadSource ensures that no text breaks the reader, that strict and lenient reading agree on text that
// is good, and that what was read from any text is written and read back the same.
func FuzzReadSource(f *testing.F) {
	for _, seed := range []string{
		"a b\n c\n#postraft:entry \"x\" \"y\"\n\"q\" v\n", "#postraft:entry \"\\xff\" \"\\n\" x\n", "a b\x00\n c", "A 1\na 1\nb\r\n", " x y\n\xe9 z\n\u00df v",
	} {
		f.Add(seed, true)
		f.Add(seed, false)
	}
	f.Fuzz(func(t *testing.T, text string, noFold bool) {
		count := func(opts SourceOptions) (n int, warnings []Problem, err error) {
			warnings, err = ReadSource(strings.NewReader(text), opts, func(e SourceEntry) error {
				n++
				if e.Line < 1 || CheckEntry(e.Key, e.Value) != nil {
					t.Errorf("entry %+v", e)
				}
				return nil
			})
			if err != nil && !errors.Is(err, ErrBadSource) {
				t.Error(err)
			}
			return n, warnings, err
		}
		strictly, warnings, err := count(SourceOptions{NoFold: noFold})
		leniently, _, _ := count(SourceOptions{NoFold: noFold, Lenient: true})
		if len(warnings) > 0 || leniently < strictly || err == nil && leniently != strictly {
			t.Errorf("%d entries, %d leniently, %v, %v", strictly, leniently, warnings, err)
		}
		s, _, err := LoadSource(strings.NewReader(text), SourceOptions{NoFold: noFold, Lenient: true})
		if err != nil {
			return
		}
		entries := map[string]string{}
		for k, v := range s.All() {
			entries[string(k)] = string(v)
		}
		if s.Len() != len(entries) || s.Len() > leniently {
			t.Errorf("%d entries, %d keys, of %d", s.Len(), len(entries), leniently)
		}
		roundTrip(t, entries)
	})
}

// BenchmarkLoadSource reads a million entries that are not in order, and reports what the Source holds on to.
func BenchmarkLoadSource(b *testing.B) {
	const n = 1_000_000
	var text bytes.Buffer
	for _, i := range rand.New(rand.NewPCG(1, 2)).Perm(n) {
		fmt.Fprintf(&text, "user%08d@example.com mailbox%08d@host.tld\n", i, i)
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	var s *Source
	for b.Loop() {
		var err error
		if s, _, err = LoadSource(bytes.NewReader(text.Bytes()), SourceOptions{Workers: 2}); err != nil || s.Len() != n {
			b.Fatal(err)
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/1e6, "MB-held")
	b.ReportMetric(float64(s.Bytes())/1e6, "MB-entries")
	runtime.KeepAlive(&text)
}

// BenchmarkSource_All measures going through the entries of a large text of random order in that of their keys.
func BenchmarkSource_All(b *testing.B) {
	const n = 1_000_000
	var text strings.Builder
	for _, i := range rand.Perm(n) {
		fmt.Fprintf(&text, "user%08d@example.com mailbox%08d@host.example.net\n", i, i)
	}
	s, _, err := LoadSource(strings.NewReader(text.String()), SourceOptions{Workers: runtime.GOMAXPROCS(0)})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		size := 0
		for key, value := range s.All() {
			size += len(key) + len(value)
		}
		if int64(size) != s.Bytes() {
			b.Fatalf("%d bytes, want %d", size, s.Bytes())
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/entry")
}

func BenchmarkAppendFold(b *testing.B) {
	for _, key := range []string{"Alice@Example.com", "zoë@straße.example"} {
		b.Run(key, func(b *testing.B) {
			b.ReportAllocs()
			raw, dst := []byte(key), make([]byte, 0, 64)
			for b.Loop() {
				dst = AppendFold(dst[:0], raw)
			}
		})
	}
}

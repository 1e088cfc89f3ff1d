package dict

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
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
			if tc.name != "bad directive" && (err != nil || (len(warnings) > 0) != (tc.bad != "")) {
				t.Errorf("lenient: %v, warnings %v", err, warnings)
			}
		})
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
	s, warnings, err := LoadSource(strings.NewReader("k 1\nK 2\n"), SourceOptions{Lenient: true})
	if err != nil || s.Len() != 1 || len(warnings) != 1 || string(s.value(s.refs[0])) != "1" {
		t.Errorf("lenient: %v %v", warnings, err)
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
	for k, v := range s.All() {
		if want, ok := entries[string(k)]; !ok || string(v) != want {
			t.Fatalf("%q came back as %q, was %q", k, v, want)
		}
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

func FuzzReadSource(f *testing.F) {
	f.Add("a b\n c\n#postraft:entry \"x\" \"y\"\n\"q\" v\n", true)
	f.Fuzz(func(t *testing.T, text string, lenient bool) {
		n := 0
		_, err := ReadSource(strings.NewReader(text), SourceOptions{Lenient: lenient}, func(e SourceEntry) error {
			n++
			if e.Line < 1 || CheckEntry(e.Key, e.Value) != nil {
				t.Errorf("entry %+v", e)
			}
			return nil
		})
		if err != nil && !errors.Is(err, ErrBadSource) {
			t.Error(err)
		}
		if s, _, err := LoadSource(strings.NewReader(text), SourceOptions{Lenient: lenient}); err == nil && s.Len() > n {
			t.Errorf("%d entries of %d", s.Len(), n)
		}
	})
}

// TestReadSource_Postmap ensures, with generated text, that the genuine postmap stores the same keys and
// values as the lenient reader.
func TestReadSource_Postmap(t *testing.T) {
	postmap, err := exec.LookPath("postmap")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("no postmap here")
		}
		t.Skip("no postmap here")
	}
	dir := t.TempDir()
	for name, content := range map[string]string{"main.cf": "compatibility_level = 2\n", "master.cf": ""} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	rng := rand.New(rand.NewPCG(7, 7))
	pieces := []string{"a", "B", "key", "Zoë", "straße", "\"", "\\", " ", "\t", "  ", "\n", "\n", "\n ", "#", "\r\n", "@ex.com", ":", "value", "\xe9", ",", "\n\n", "\n# c\n"}
	for round := range 60 {
		var text strings.Builder
		for range 200 {
			text.WriteString(pieces[rng.IntN(len(pieces))])
		}
		source := filepath.Join(dir, fmt.Sprint("t", round))
		if err := os.WriteFile(source, []byte(text.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command(postmap, "-c", dir, "lmdb:"+source).CombinedOutput(); err != nil {
			t.Fatalf("postmap: %v: %s", err, out)
		}
		out, err := exec.Command(postmap, "-c", dir, "-s", "lmdb:"+source).Output()
		if err != nil {
			t.Fatalf("postmap -s: %v", err)
		}
		s, _, err := LoadSource(strings.NewReader(text.String()), SourceOptions{Lenient: true})
		if err != nil {
			t.Fatal(err)
		}
		var ours strings.Builder
		for k, v := range s.All() {
			fmt.Fprintf(&ours, "%s\t%s\n", k, v)
		}
		theirs := strings.SplitAfter(string(out), "\n")
		slices.Sort(theirs)
		mine := strings.SplitAfter(ours.String(), "\n")
		slices.Sort(mine)
		if !slices.Equal(theirs, mine) {
			t.Fatalf("text %q\npostmap %q\nours    %q", text.String(), theirs, mine)
		}
	}
}

func BenchmarkLoadSource(b *testing.B) {
	const n = 1_000_000
	var text bytes.Buffer
	for _, i := range rand.Perm(n) {
		fmt.Fprintf(&text, "user%08d@example.com mailbox%08d@host.tld\n", i, i)
	}
	for b.Loop() {
		s, _, err := LoadSource(bytes.NewReader(text.Bytes()), SourceOptions{})
		if err != nil || s.Len() != n {
			b.Fatal(err)
		}
	}
}

package dict

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// A postmap is the genuine postmap(1) with a configuration of its own.
type postmap struct {
	path, dir string
	types     []string // of tables that it can build
}

// newPostmap skips the test where there is no postmap; with CI=true it fails instead.
func newPostmap(t *testing.T) *postmap {
	t.Helper()
	p := &postmap{dir: t.TempDir()}
	var err error
	if p.path, err = exec.LookPath("postmap"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("not compared with the genuine postmap: %v", err)
		}
		t.Skipf("not compared with the genuine postmap: %v", err)
	}
	for name, content := range map[string]string{
		"main.cf":   "compatibility_level = 3.6\nsmtputf8_enable = yes\n",
		"master.cf": "",
	} {
		p.write(t, name, content)
	}
	out, err := exec.Command("postconf", "-c", p.dir, "-m").Output()
	if err != nil {
		t.Fatalf("postconf -m: %v", err)
	}
	for _, typ := range []string{"lmdb", "hash"} { // not cdb, of which postmap lists nothing
		if slices.Contains(strings.Fields(string(out)), typ) {
			p.types = append(p.types, typ)
		}
	}
	if len(p.types) == 0 {
		t.Fatalf("this postmap builds no type of table that the test knows: %s", out)
	}
	return p
}

// write makes a file in the directory of p.
func (p *postmap) write(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(p.dir, name)
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	// Postfix reads a texthash file again and again while it was changed just now.
	if old := time.Now().Add(-time.Hour); os.Chtimes(path, old, old) != nil {
		t.Fatalf("cannot date back %s", path)
	}
	return path
}

// dump returns the sorted lines of "postmap -s", and what postmap said while it built and dumped.
func (p *postmap) dump(t *testing.T, typ, source string) (lines []string, said string) {
	t.Helper()
	if typ != "texthash" { // read from the text itself
		cmd := exec.Command(p.path, "-c", p.dir, typ+":"+source)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("postmap %s: %v: %s", typ, err, out)
		}
		said = string(out)
	}
	cmd := exec.Command(p.path, "-c", p.dir, "-s", typ+":"+source)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("postmap -s %s: %v: %s", typ, err, stderr.String())
	}
	lines = strings.SplitAfter(string(out), "\n")
	slices.Sort(lines)
	return lines, said + stderr.String()
}

// loaded returns the entries that the lenient LoadSource finds, in the form of dump, and its warnings.
func loaded(t *testing.T, text string) ([]string, []Problem) {
	t.Helper()
	s, warnings, err := LoadSource(strings.NewReader(text), SourceOptions{Lenient: true})
	if err != nil {
		t.Fatalf("text %q: %v", text, err)
	}
	var dump strings.Builder
	for k, v := range s.All() {
		fmt.Fprintf(&dump, "%s\t%s\n", k, v)
	}
	lines := strings.SplitAfter(dump.String(), "\n")
	slices.Sort(lines)
	return lines, warnings
}

var (
	saidOfLine = regexp.MustCompile(`(?m)^postmap: warning: .*, line (\d+): (?:expected format|record is in|unbalanced|non-UTF-8|duplicate)`)
	saidOfKey  = regexp.MustCompile(`(?m)^postmap: warning: .*: duplicate entry:`)
)

// TestReadSource_Postmap ensures, with generated text, that the genuine postmap stores the same keys and
// values as the lenient reader, whatever the type of the table, and warns of the same lines. Left out of the
// comparison of warnings: lines with a NUL byte and lines that continue nothing, of which postmap says less.
func TestReadSource_Postmap(t *testing.T) {
	p := newPostmap(t)
	rng := rand.New(rand.NewPCG(7, 7))
	pieces := []string{
		"a", "B", "key", "Zoë", "straße", "ẞ", "İ", "Ꭰ", "\"", "\\", " ", "\t", "  ", "\n", "\n", "\n", "\n ", "#",
		"\r\n", "\v", "\f", "\r", "@Ex.com", ":", "value", "\xe9", "\xed\xa0\x80", "\u00a0", "\u0085", ",", "\n\n", "\n# c\n", "\n \n", "\x00",
	}
	for round := range 90 {
		known := pieces
		if round%3 > 0 {
			known = pieces[:len(pieces)-1] // without NUL
		}
		var b strings.Builder
		for range 200 {
			b.WriteString(known[rng.IntN(len(known))])
		}
		text := b.String()
		typ := append(p.types, "texthash")[round%(len(p.types)+1)]
		theirs, said := p.dump(t, typ, p.write(t, fmt.Sprint("t", round), text))
		ours, warnings := loaded(t, text)
		if !slices.Equal(theirs, ours) {
			t.Fatalf("%s, text %q\npostmap %q\nours    %q", typ, text, theirs, ours)
		}
		if strings.Contains(text, "\x00") {
			continue
		}
		var theirLines, ourLines []string
		for _, m := range saidOfLine.FindAllStringSubmatch(said, -1) {
			theirLines = append(theirLines, m[1])
		}
		repeats := 0
		for _, w := range warnings {
			switch {
			case strings.HasPrefix(w.Text, "white space at the start"):
			case strings.HasPrefix(w.Text, "duplicate") && typ != "texthash": // without line number
				repeats++
			default:
				ourLines = append(ourLines, fmt.Sprint(w.Line))
			}
		}
		slices.Sort(theirLines)
		slices.Sort(ourLines)
		theirLines, ourLines = slices.Compact(theirLines), slices.Compact(ourLines)
		if n := len(saidOfKey.FindAllString(said, -1)); !slices.Equal(theirLines, ourLines) || typ != "texthash" && n != repeats {
			t.Fatalf("%s, text %q\npostmap warns of lines %q and %d keys: %s\nwe of %q and %d", typ, text, theirLines, n, said, ourLines, repeats)
		}
	}
}

// TestFold_Postmap ensures that every character is folded as the genuine postmap folds it.
func TestFold_Postmap(t *testing.T) {
	p := newPostmap(t)
	// So few that the text is below lmdb_map_size: when it grows, postmap 3.7 stores keys unfolded.
	const portion = 1 << 16
	for from := rune(0); from <= utf8.MaxRune; from += portion {
		if from >= 0x30000 && from < 0xe0000 {
			continue // planes without characters
		}
		var b strings.Builder
		for r := max(from, '!'); r < from+portion; r++ {
			if utf8.ValidRune(r) && r != '"' && r != '\\' && r != '#' {
				fmt.Fprintf(&b, "%c%x %x\n", r, r, r) // the number keeps keys apart
			}
		}
		theirs, _ := p.dump(t, p.types[0], p.write(t, fmt.Sprintf("u%x", from), b.String()))
		ours, _ := loaded(t, b.String())
		if !slices.Equal(theirs, ours) {
			for i := range min(len(theirs), len(ours)) {
				if theirs[i] != ours[i] {
					t.Fatalf("from U+%04X: postmap %q, ours %q", from, theirs[i], ours[i])
				}
			}
			t.Fatalf("from U+%04X: postmap stores %d entries, we %d", from, len(theirs), len(ours))
		}
	}
}

// TestSourceWriter_Postmap ensures that postmap reads the plain part of what SourceWriter writes as it was.
func TestSourceWriter_Postmap(t *testing.T) {
	p := newPostmap(t)
	rng := rand.New(rand.NewPCG(11, 11))
	pieces := []string{"a", "b", "\"", "\\", " ", "\t", "#", "@", "é", "\r", "x", "y", "B", "\n"}
	random := func() []byte {
		var s string
		for range 1 + rng.IntN(6) {
			s += pieces[rng.IntN(len(pieces))]
		}
		return []byte(s)
	}
	var text strings.Builder
	w := NewSourceWriter(&text)
	seen := map[string]bool{}
	var want []string
	for range 2000 {
		key, value := random(), random()
		if seen[string(key)] {
			continue
		}
		seen[string(key)] = true
		exotic := w.Exotic
		if err := w.Entry(key, value); err != nil {
			t.Fatal(err)
		}
		if w.Exotic == exotic {
			want = append(want, fmt.Sprintf("%s\t%s\n", key, value))
		}
	}
	want = append(want, "")
	slices.Sort(want)
	got, said := p.dump(t, p.types[0], p.write(t, "written", text.String()))
	if !slices.Equal(got, want) || said != "" {
		t.Errorf("postmap reads %d entries, want %d; it says %q", len(got), len(want), said)
	}
}

package pattern

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"postraft/dict"
)

// genuine asks the installed postmap(1) for keys in a table of this text. It returns the value of each key
// found and the lines that it warns about.
func genuine(t *testing.T, dir, typ, text string, keys []string) (values map[string]string, lines []int) {
	t.Helper()
	path := filepath.Join(dir, "table")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("postmap", "-c", dir, "-u", "-q", "-", typ+":"+path)
	cmd.Stdin = strings.NewReader(strings.Join(keys, "\n") + "\n")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var status *exec.ExitError
	if err != nil && (!asExit(err, &status) || status.ExitCode() != 1 || strings.Contains(stderr.String(), "fatal")) {
		t.Fatalf("postmap: %v\n%s\n%s", err, stderr.String(), text)
	}
	values = map[string]string{}
	for line := range strings.Lines(stdout.String()) {
		key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		values[key] = value
	}
	for _, m := range warned.FindAllStringSubmatch(stderr.String(), -1) {
		n, _ := strconv.Atoi(m[1])
		if strings.Contains(m[2], "recursion at the same") || strings.Contains(m[2], "limit exceeded") {
			continue // of a lookup
		}
		if !slices.Contains(lines, n) {
			lines = append(lines, n)
		}
	}
	slices.Sort(lines)
	return values, lines
}

var warned = regexp.MustCompile(`map \S+, line (\d+): (.*)`)

func asExit(err error, to **exec.ExitError) bool {
	e, ok := err.(*exec.ExitError)
	*to = e
	return ok
}

// rounds is how many tables the differential tests compare: POSTRAFT_PATTERN_ROUNDS, or the default.
func rounds(t *testing.T, byDefault int) int {
	if s := os.Getenv("POSTRAFT_PATTERN_ROUNDS"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatalf("POSTRAFT_PATTERN_ROUNDS: %v", err)
		}
		return n
	}
	return byDefault
}

// postfixDir makes a configuration for postmap, or skips the test where it is not installed.
func postfixDir(t *testing.T) string {
	t.Helper()
	if _, err := exec.LookPath("postmap"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("not compared with the genuine postmap: %v", err)
		}
		t.Skipf("not compared with the genuine postmap: %v", err)
	}
	dir := t.TempDir()
	for name, text := range map[string]string{"main.cf": "compatibility_level = 3.6\n", "master.cf": ""} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// A generator makes tables and keys for them.
type generator struct {
	*rand.Rand
	typ string
}

func pick[T any](g *generator, list ...T) T { return list[g.IntN(len(list))] }

// TestDifferential ensures that tables answer every key as the genuine postmap does, and warn about the same
// lines. POSTRAFT_PATTERN_ROUNDS and POSTRAFT_PATTERN_SEED choose more than the default.
func TestDifferential(t *testing.T) {
	dir := postfixDir(t)
	seed := uint64(1)
	if s := os.Getenv("POSTRAFT_PATTERN_SEED"); s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		seed = n
	}
	total := 0
	for _, typ := range []string{dict.TypeCIDR, dict.TypeRegexp, dict.TypePCRE} {
		t.Run(typ, func(t *testing.T) {
			c := comparison{generator: &generator{rand.New(rand.NewPCG(seed, 7)), typ}, dir: dir}
			for round := range rounds(t, 100) {
				c.round(t, round)
				if t.Failed() && os.Getenv("POSTRAFT_PATTERN_ALL") == "" {
					t.FailNow()
				}
			}
			t.Logf("%d lookups, %d found, %d lines with warnings, %d over the limit", c.lookups, c.found, c.warnings, c.limits)
			if c.limits > c.lookups/1000 {
				t.Errorf("%d of %d lookups ran into the limit", c.limits, c.lookups)
			}
			if c.found < c.lookups/4 || c.found > c.lookups*9/10 {
				t.Errorf("%d of %d lookups found something: that tells too little", c.found, c.lookups)
			}
			total += c.lookups
		})
	}
	t.Logf("%d lookups compared", total)
	if least := 150_000; total < least && os.Getenv("POSTRAFT_PATTERN_ROUNDS") == "" {
		t.Errorf("%d lookups: at least %d are to be compared", total, least)
	}
}

// A comparison counts what tables of one type were asked.
type comparison struct {
	*generator
	dir                              string
	lookups, found, warnings, limits int
}

// round compares one table. It tells the first difference.
func (c *comparison) round(t *testing.T, round int) {
	text, keys := c.table(), c.keys()
	values, lines := genuine(t, c.dir, c.typ, text, keys)
	r, notes, err := CompileLenient(c.typ, []byte(text))
	if err != nil {
		t.Fatalf("round %d: %v\n%s", round, err, text)
	}
	var mine []int
	for _, p := range notes {
		ours := strings.HasPrefix(p.Text, "white space") || strings.HasPrefix(p.Text, "NUL byte") // postmap does not name the line, or does not tell
		if !ours && !slices.Contains(mine, p.Line) {
			mine = append(mine, p.Line)
		}
	}
	c.warnings += len(lines)
	if !slices.Equal(lines, mine) {
		for _, p := range notes {
			if !slices.Contains(lines, p.Line) && slices.Contains(mine, p.Line) {
				t.Errorf("round %d: %s line %d is none for us alone: %s: %q", round, c.typ, p.Line, p.Text, strings.SplitAfter(text, "\n")[p.Line-1])
			}
		}
		for _, n := range lines {
			if !slices.Contains(mine, n) {
				t.Errorf("round %d: %s line %d is none for postmap alone: %q", round, c.typ, n, strings.SplitAfter(text, "\n")[n-1])
			}
		}
		t.Logf("round %d:\n%s", round, numbered(text))
		return
	}
	for _, key := range keys {
		want, ok := values[key]
		m, err := r.Match([]byte(key), 0)
		if err != nil {
			if c.limits++; c.limits <= 3 {
				t.Logf("round %d: key %q: %v\n%s", round, key, err, numbered(text))
			}
			continue
		}
		c.lookups++
		if ok {
			c.found++
		}
		if m.Found != ok || string(m.Value) != want {
			t.Errorf("round %d: %s key %q: %q %v by line %d %q, postmap has %q %v\n%s", round, c.typ, key, m.Value, m.Found, m.Line, m.Rule, want, ok, numbered(text))
			return
		}
	}
}

func numbered(text string) string {
	var b strings.Builder
	n := 0
	for line := range strings.Lines(text) {
		n++
		fmt.Fprintf(&b, "%4d %s", n, line)
	}
	return b.String()
}

var calls = regexp.MustCompile(`\(\?([R&+-]?[0-9&R]|P>)|\\g[<']`)

// table makes the text of a table.
func (g *generator) table() string {
	var b strings.Builder
	for i := range 5 + g.IntN(60) {
		result := fmt.Sprintf("r%d%s", i, g.result())
		negated := pick(g, "", "", "", "", "", "!", "! ", "!!", "", "", "", "!\n\t")
		first := g.pattern()
		if calls.MatchString(first) { // of one that calls itself for ever PCRE2 may say that it does not match, or that it cannot know
			negated = ""
		}
		switch g.IntN(24) {
		case 0, 1, 2:
			fmt.Fprintf(&b, "%s %s%s\n", pick(g, "if", "IF", "If"), negated, first)
		case 3, 4, 5:
			b.WriteString(pick(g, "endif\n", "ENDIF\n", "endif  \n", "endif\n", "endif x\n"))
		case 6:
			b.WriteString(pick(g, "# comment\n", "\n", "   \n", "\t# x\n", " continued\n", "word x\n", "/x\n", "ifx /a/ b\n", "1.2.3.4\n", "#\r\n", "\r\n", "\v\n", "# a\x00b\n", "\xa0x y\n", "if\n", "endif!\n", " \n# x\n  y\n"))
		case 7:
			if g.typ == dict.TypeRegexp {
				fmt.Fprintf(&b, "%s%s!%s %s\n", negated, first, g.pattern(), result)
				break
			}
			fallthrough
		default:
			fmt.Fprintf(&b, "%s%s%s%s%s\n", negated, first, pick(g, " ", "\t", "  ", "\n ", "\n# between\n\n\t", "\v", "\r "), result, pick(g, "", "", "", " ", "\r", "\t\r", "\x00 lost", "\n\tand on\n  on"))
		}
	}
	return b.String()
}

func (g *generator) result() string {
	if g.typ == dict.TypeCIDR {
		return pick(g, "", " $1", " more text", "é", " \xe9 # no comment")
	}
	if g.IntN(3) > 0 {
		return pick(g, "", "", "<$1>", "<${1}$(2)>", "<$1><$2>")
	}
	return pick(g, "", "", "", "<$1>", "<$1>", "<${1}>", "<$(1)><$2>", "<${2}>", "<$1><$2><$3>", "$$", " a $$1 b", "$1x", "$0", "$", "${}", "${1", "$(a)", "${1}y", "$12", "$-", "é$1", "<$01>", "$$$1", "$$$$", "${ 1}", "$(1", "$(1}", "${1}${1}", "$1$2$1", "<${1}$(2)>", "${1?x}", "$99999")
}

func (g *generator) pattern() string {
	switch g.typ {
	case dict.TypeCIDR:
		return g.network()
	case dict.TypePCRE:
		return g.delimited(g.pcre(topDepth), "imsxAEUXq", "i", "", "", "s", "m", "x", "A", "U", "im", "E")
	default:
		if g.IntN(12) == 0 {
			return g.delimited(g.posix(topDepth, true), "imx", "x", "x", "xi", "mx")
		}
		return g.delimited(g.posix(topDepth, false), "imy", "i", "", "", "", "m", "im")
	}
}

func (g *generator) delimited(pat, all string, flags ...string) string {
	f := pick(g, flags...)
	if g.IntN(40) == 0 {
		f += string(all[g.IntN(len(all))])
	}
	d := pick(g, "/", "/", "/", "/", ";", ",", "\"")
	return d + strings.ReplaceAll(pat, d, `\`+d) + d + f
}

func (g *generator) keys() []string {
	var keys []string
	for range 700 {
		var key string
		if g.typ == dict.TypeCIDR {
			key = g.address()
		} else {
			for range 1 + g.IntN(9) {
				key += pick(g, "a", "b", "c", "d", "A", "B", "foo", "Foo", "bar", "@", ".", "-", "_", " ", "1", "2", "12", "ab", "abc", "aa", "x", "\xe9", "z", "é", ":", "ex", "Z", "\\", "/", "\t")
			}
			key = strings.Trim(key, " \t")
		}
		if key != "" && !strings.Contains(key, "\t") {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

package local_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"postraft/dict"
	"postraft/dict/local"
)

// A postmap is the genuine postmap(1) with a configuration of its own.
type postmap struct {
	t         *testing.T
	path, dir string
	wrap      []string // what runs it
}

// newPostmap skips the test where there is no postmap; with CI=true it fails instead.
func newPostmap(t *testing.T) *postmap {
	t.Helper()
	path, err := exec.LookPath("postmap")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("not compared with the genuine postmap: %v", err)
		}
		t.Skipf("not compared with the genuine postmap: %v", err)
	}
	p := &postmap{t: t, path: path, dir: t.TempDir()}
	p.write("main.cf", "compatibility_level = 3.6\nsmtputf8_enable = yes\n")
	p.write("master.cf", "")
	return p
}

// write makes a file that has not been written to for a while.
func (p *postmap) write(name, text string) string {
	return writeOld(p.t, filepath.Join(p.dir, name), text)
}

func writeOld(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(path, old, old); err != nil {
		t.Fatal(err)
	}
	return path
}

// ask looks keys up and returns what was found, a line each, or that it failed. A compound table fails for postmap
// as soon as one inside it cannot be opened, and for daemons when that one is asked: early says that it is so.
func (p *postmap) ask(table string, keys []string) (found string, failed, early bool) {
	p.t.Helper()
	args := append(p.wrap, p.path, "-c", p.dir, "-q", "-", table)
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdin = strings.NewReader(strings.Join(keys, "\n") + "\n")
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		p.t.Fatalf("postmap -q - %q: %v", table, err)
	}
	if strings.Contains(said.String(), "fatal:") {
		return "", true, !strings.Contains(said.String(), "query error") && strings.Contains(table, "map:{")
	}
	return out.String(), false, false
}

// answer does the same with a Set.
func answer(set *local.Set, table string, keys []string) (found string, failed bool) {
	o := local.Options{UTF8: true}
	t := set.Open(table, o)
	if t == nil {
		return "", true
	}
	var out strings.Builder
	for _, key := range keys {
		value, ok, err := local.Lookup(t, []byte(key), o)
		if err != nil {
			return "", true
		}
		if ok {
			fmt.Fprintf(&out, "%s\t%s\n", key, value)
		}
	}
	return out.String(), false
}

// A maker makes tables and keys.
type maker struct {
	*rand.Rand
	p     *postmap
	files int
	keys  []string // that tables were made of
}

var bits = []string{
	"a", "b", "c", "A", "B", "ä", "Ä", "ß", "İ", "\xff", "@", ".", "x", "Y", `"`, `\`, " ", "\t", "=", ",", ":", "{", "}", "#", "$", "-", "1", "\v",
}

// text is made of a few bits, of which the first ones are harmless.
func (m *maker) text(least, most, of int) string {
	var b strings.Builder
	for range least + m.IntN(most-least+1) {
		b.WriteString(bits[m.IntN(of)])
	}
	return b.String()
}

// word is harmless most of the time.
func (m *maker) word() string {
	if m.IntN(12) == 0 {
		return m.text(0, 5, len(bits))
	}
	return m.text(1, 2, 9)
}

// key remembers what it makes.
func (m *maker) key() string {
	k := m.word()
	if len(m.keys) > 0 && m.IntN(3) == 0 {
		k = m.keys[m.IntN(len(m.keys))]
	}
	m.keys = append(m.keys, k)
	return k
}

func (m *maker) braces(words []string) string {
	sep := []string{" ", ",", ", ", " \t"}[m.IntN(4)]
	s := "{" + strings.Join(words, sep) + "}"
	switch m.IntN(40) {
	case 0:
		return s[1:]
	case 1:
		return s[:len(s)-1]
	case 2:
		return s + m.word()
	}
	return s
}

func (m *maker) some(most int, f func() string) (words []string) {
	for range m.IntN(most) + 1 {
		words = append(words, f())
	}
	return words
}

func (m *maker) table(depth int) string {
	kinds := 11
	if depth > 2 {
		kinds = 8
	}
	return m.kind(m.IntN(kinds), depth)
}

// kind makes a table of one kind; those from 8 on hold others.
func (m *maker) kind(kind, depth int) string {
	switch kind {
	case 0:
		if m.IntN(2) == 0 {
			return "static:" + m.braces([]string{m.word(), m.word()})
		}
		return "static:" + m.word()
	case 1, 2:
		return "inline:" + m.braces(m.some(6, func() string {
			pair := m.key() + []string{"=", " = ", "="}[m.IntN(3)] + m.key()
			if m.IntN(2) == 0 {
				pair = "{" + pair + []string{"", " ", " more"}[m.IntN(3)] + "}"
			}
			return pair
		}))
	case 3:
		return "texthash:" + m.textHash()
	case 4:
		value := m.text(1, 3, 9) // one word: which of several comes is not to be told
		return "randmap:" + m.braces(m.some(3, func() string { return value }))
	case 5:
		return []string{"unix:passwd.byname", "unix:group.byname", "unix:nosuch", "fail:x", "nosuch:x", "static:v", "static:w"}[m.IntN(7)]
	case 6:
		return fmt.Sprintf("regexp:{{/^%s(.*)$/ %s$1}, {!/%s/ %s}}", m.text(0, 2, 6), m.text(0, 2, 5), m.text(1, 2, 6), m.text(1, 2, 6))
	case 7:
		return fmt.Sprintf("pcre:{{/(%s)(?=%s)/i <$1>}, if /%s/, {/./ %s}, endif}", m.text(1, 2, 6), m.text(0, 1, 6), m.text(0, 2, 6), m.text(1, 2, 6))
	case 8, 9:
		return "pipemap:" + m.braces(m.some(3, func() string { return m.table(depth + 1) }))
	default:
		return "unionmap:" + m.braces(m.some(3, func() string { return m.table(depth + 1) }))
	}
}

// textHash makes a file without a key that comes twice, which postmap -q takes and daemons do not.
func (m *maker) textHash() string {
	seen := map[string]bool{}
	var b strings.Builder
	for range m.IntN(12) {
		key := m.key()
		folded := func() string { return string(dict.Fold([]byte(key))) }
		if seen[folded()] || strings.ContainsAny(key, " \t\v\"\\") {
			key = fmt.Sprintf("k%d", len(m.keys))
			m.keys = append(m.keys, key)
		}
		seen[folded()] = true
		switch m.IntN(9) {
		case 0:
			b.WriteString(" \t# comment\n\n")
		case 1:
			b.WriteString(fmt.Sprintf("\"q %d\"%s v\n", len(seen), m.text(0, 2, 9)))
		case 2:
			b.WriteString(key + "\tlong\n  " + m.text(1, 3, 9) + "\n# between\n\tend\n")
			continue
		}
		b.WriteString(key + []string{" ", "\t ", "\r "}[m.IntN(3)] + m.text(0, 4, len(bits)) + []string{"\n", "\r\n", " \n"}[m.IntN(3)])
	}
	m.files++
	name := fmt.Sprintf("text%d", m.files)
	if m.IntN(30) == 0 {
		return filepath.Join(m.p.dir, "nosuch")
	}
	return m.p.write(name, b.String())
}

// TestDifferential ensures that tables made at random, and all kinds inside each other, answer as those of the
// genuine postmap(1) do, and fail where those fail.
func TestDifferential(t *testing.T) {
	p := newPostmap(t)
	set := local.New(local.Config{Files: ruleFiles()})
	var mu sync.Mutex // guards what follows
	failures, hits, lookups := 0, 0, map[string]int{}
	tables := 260
	if n, err := strconv.Atoi(os.Getenv("POSTRAFT_LOCAL_TABLES")); err == nil {
		tables = n
	}
	first, _ := strconv.Atoi(os.Getenv("POSTRAFT_LOCAL_SEED"))
	places := make(chan struct{}, 48) // postmap sleeps for a second before it fails
	var all sync.WaitGroup
	for seed := range tables {
		places <- struct{}{}
		all.Go(func() {
			defer func() { <-places }()
			m := &maker{Rand: rand.New(rand.NewPCG(uint64(first+seed), 7)), p: p, files: seed * 100}
			table := m.kind([]int{0, 1, 3, 8, 10, 1, 8, 10, m.IntN(9)}[seed%9], 0)
			keys := m.lookups()
			want, wantFailed, early := p.ask(table, keys)
			got, failed := answer(set, table, keys)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case early && !failed:
				failures++
			case failed != wantFailed || got != want:
				t.Errorf("seed %d: %q: failed %v, postmap %v\n%s", first+seed, table, failed, wantFailed, firstDifference(got, want))
			case failed:
				failures++
			default:
				kind, _, _ := strings.Cut(table, ":")
				lookups[kind] += len(keys)
				lookups["all"] += len(keys)
				hits += strings.Count(got, "\n")
			}
		})
	}
	all.Wait()
	t.Logf("%d tables, of which %d fail; lookups compared: %v; %d found", tables, failures, lookups, hits)
	for kind, least := range map[string]int{"static": 5000, "inline": 5000, "texthash": 5000, "unionmap": 5000, "pipemap": 5000, "all": 60_000} {
		if lookups[kind] < least {
			t.Errorf("%d lookups of kind %s: at least %d are to be compared", lookups[kind], kind, least)
		}
	}
	if failures < 10 || hits < 2000 {
		t.Errorf("%d failures and %d hits are too few to tell anything", failures, hits)
	}
}

// lookups returns keys to ask for.
func (m *maker) lookups() []string {
	keys := []string{"root", "daemon", "mail", "nobody", "ROOT"}
	for len(keys) < 500 {
		key := m.word()
		if len(m.keys) > 0 && m.IntN(2) == 0 {
			key = m.keys[m.IntN(len(m.keys))]
		}
		switch m.IntN(8) {
		case 0:
			key = strings.ToUpper(key)
		case 1:
			key = strings.ToLower(key)
		}
		keys = append(keys, key)
	}
	return keys
}

func firstDifference(got, want string) string {
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range min(len(g), len(w)) {
		if g[i] != w[i] {
			return fmt.Sprintf(" got %q\nwant %q", g[i], w[i])
		}
	}
	return fmt.Sprintf(" got %d lines, want %d", len(g), len(w))
}

// TestDifferential_Accounts ensures that odd files of accounts are read as the C library reads them.
func TestDifferential_Accounts(t *testing.T) {
	p := newPostmap(t)
	if exec.Command("unshare", "-m", "true").Run() != nil {
		t.Skip("not compared with accounts of its own: no private mount namespace here")
	}
	for seed := range 12 {
		r := rand.New(rand.NewPCG(uint64(seed), 3))
		field := func() string { return []string{"", "x", "A b", "1", "ab", "Ä", " z ", "*"}[r.IntN(8)] }
		var passwd, group strings.Builder
		passwd.WriteString("root:x:0:0:root:/root:/bin/sh\npostfix:x:101:101::/:/bin/false\nnobody:x:65534:65534::/:/bin/false\n")
		group.WriteString("root:x:0:\npostfix:x:101:\npostdrop:x:102:\n")
		keys := []string{"root", "", "nosuch", "+", "-u1"}
		for i := range 60 {
			name := fmt.Sprintf("%su%d", []string{"", "", "", "U", " ", "#", "+", "-"}[r.IntN(8)], i%40)
			keys = append(keys, name, strings.TrimSpace(name), strings.ToUpper(name))
			fields := []string{name, field(), fmt.Sprint(r.IntN(70000)), fmt.Sprint(r.IntN(70000)), field(), field(), field() + []string{"", ":more"}[r.IntN(2)]}
			if r.IntN(10) == 0 {
				fields[2+r.IntN(2)] = []string{"", "x", "01", "4294967295"}[r.IntN(4)]
			}
			if r.IntN(8) == 0 {
				fields = fields[:4+r.IntN(3)]
			}
			passwd.WriteString(strings.Join(fields, ":") + "\n" + []string{"", "\n", " \n", "# x\n"}[r.IntN(4)])
			users := []string{field(), field(), "u1"}[:r.IntN(4)]
			group.WriteString(fmt.Sprintf("%s:%s:%d:%s\n", name, field(), r.IntN(70000), strings.Join(users, ",")))
		}
		cfg := local.Config{Passwd: p.write("passwd", passwd.String()), Group: p.write("group", group.String()), NSSwitch: p.write("nsswitch", "passwd: files\ngroup: files\n")}
		p.wrap = []string{"unshare", "-m", "sh", "-c", `mount --bind "$0" /etc/passwd && mount --bind "$1" /etc/group && mount --bind "$2" /etc/nsswitch.conf && shift 2 && exec "$@"`,
			cfg.Passwd, cfg.Group, cfg.NSSwitch}
		set := local.New(cfg)
		for _, table := range []string{"unix:passwd.byname", "unix:group.byname"} {
			want, wantFailed, _ := p.ask(table, keys)
			if got, failed := answer(set, table, keys); got != want || failed != wantFailed {
				t.Errorf("seed %d: %s: failed %v %v\n%s", seed, table, failed, wantFailed, firstDifference(got, want))
			}
			if strings.Count(want, "\n") < 20 {
				t.Errorf("seed %d: %s: postmap found next to nothing: %q", seed, table, want)
			}
		}
	}
}

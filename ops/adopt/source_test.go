package adopt

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"postraft/dict"
	"postraft/ops"
)

// TestLoad_Genuine ensures that what a genuine Postfix would answer is what is taken: the text only where the database
// was made of it, and rules only where both skip the same lines.
func TestLoad_Genuine(t *testing.T) {
	g := newGenuine(t)
	same := g.write("same", "A@b.c one\n\"q t\"@x  y\tz\na@b.c two\nnoval\nlong value\n  goes on\n")
	stale := g.write("stale", "a 1\nb 2\nc 3\n")
	gone := g.write("gone", "a 1\n")
	never := g.write("never", "a 1\n")
	aliases := g.write("aliases", "root: me\n")
	private := g.write("private", "a b\n")
	empty := g.write("empty", "# nothing\n")
	for _, table := range []string{"hash:" + same, "lmdb:" + stale, "btree:" + gone, "hash:" + private, "hash:" + empty} {
		g.postmap("postmap", table)
	}
	g.postmap("postalias", "hash:"+aliases)
	g.write("stale", "a 1\nb changed\nd 4\n")
	os.Remove(gone)
	os.Chmod(private, 0o600)
	text := g.write("text", "a 1\nb 2\n")
	nets := g.write("nets", "10.0.0.0/8 OK\n1.2.3.4/33 no\n")
	odd := g.write("odd", "/a(*COMMIT)/ b\n")
	for _, test := range []struct{ table, want string }{
		{"hash:" + same, "text 3 entries, 36 bytes, 2 warnings"},
		{"lmdb:" + stale, "database 3 entries, 6 bytes, 0 warnings: 1 entries more, 1 less, 1 with another value"},
		{"btree:" + gone, "database 1 entries, 2 bytes, 0 warnings"},
		{"hash:" + never, "error: open database " + never + ".db: No such file"},
		{"hash:" + private, "text 1 entries, 2 bytes, 0 warnings, private"},
		{"hash:" + empty, "text 0 entries, 0 bytes, 0 warnings"},
		{"texthash:" + text, "text 2 entries, 4 bytes, 0 warnings"},
		{"texthash:/nowhere", "error: open /nowhere: no such file"},
		{"hash:relative", "error: its name is relative"},
		{"cidr:" + nets, "text 1 entries, 28 bytes, 1 warnings"},
		{"pcre:" + odd, "error: " + odd + ", line 1: at offset 10: (*COMMIT) is not served: Postfix takes it"},
	} {
		name, _ := dict.ParseName(test.table)
		s, err := load(t.Context(), g, name, true)
		got := ""
		if err != nil {
			got = "error: " + err.Error()
		} else {
			got = fmt.Sprintf("%s %d entries, %d bytes, %d warnings", s.Kind, s.Entries, s.Bytes, len(s.Warnings))
			if s.Private {
				got += ", private"
			}
			for _, n := range s.Notes {
				_, n, _ = strings.Cut(n, "made of:")
				got += ":" + n
			}
		}
		if !strings.HasPrefix(got, test.want) || err == nil && len(s.Notes) == 0 && got != test.want {
			t.Errorf("%s: %s, want %s", test.table, got, test.want)
		}
	}
	s, err := loadAliases(t.Context(), g, dict.Name{Type: "hash", Map: aliases}, true)
	if err != nil || s.Kind != SourceDatabase || !strings.Contains(fmt.Sprint(entries(s)), "root=me") {
		t.Errorf("aliases: %v, %v", s, err)
	}
}

// entries returns the entries of a source as words.
func entries(s *Source) (words []string) {
	for k, v := range s.all {
		words = append(words, string(k)+"="+string(v))
	}
	return words
}

// TestLoad_Unlisted ensures that a text stands for a database that cannot be listed only if that answers with all of
// it, and that a database whose letters are compared with case comes in folded.
func TestLoad_Unlisted(t *testing.T) {
	path := t.TempDir() + "/v"
	if err := os.WriteFile(path, []byte("a 1\nb 2\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	answers := "a\t1\nb\t2\n"
	postfix := scripted(func(command string, args []string, stdin string) (string, string, error) {
		if args[0] == "-s" {
			return "", "postmap: fatal: table cdb:/x.cdb: sequence operation is not supported\n", &exec.ExitError{}
		}
		if stdin != "a\nb\n" {
			t.Errorf("asked for %q", stdin)
		}
		return answers, "", nil
	})
	name := dict.Name{Type: "cdb", Map: path}
	s, err := load(t.Context(), postfix, name, true)
	if err != nil || s.Kind != SourceText || len(s.Notes) != 1 {
		t.Errorf("%+v, %v", s, err)
	}
	answers = "b\t3\n"
	if _, err := load(t.Context(), postfix, name, true); err == nil || !strings.Contains(err.Error(), "2 entries") {
		t.Errorf("%v", err)
	}
	for utf8, want := range map[bool]string{true: "[A=2 \u00c4b=1]", false: "[A=2 \u00e4b=1]"} {
		source, err := readListing([]byte("\u00c4b\t1\nA\t2\n"), utf8)
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(entries(&Source{all: source.All()})); got != want {
			t.Errorf("utf8 %v: %s, want %s", utf8, got, want)
		}
	}
	if _, err := readListing([]byte("no tab\n"), true); !errors.Is(err, dict.ErrBadSource) {
		t.Errorf("a line without a TAB: %v", err)
	}
}

// TestPlan_WholeWay ensures that import and verification work, that they find what differs, and that a raft table
// with something else in it refuses all.
func TestPlan_WholeWay(t *testing.T) {
	g := newGenuine(t, "virtual_alias_maps = hash:$config_directory/virtual", "smtpd_client_restrictions = check_client_access cidr:$config_directory/nets",
		"header_checks = pcre:$config_directory/headers", "smtp_sasl_password_maps = hash:$config_directory/secret")
	virtual := g.write("virtual", "Info@Example.com a@x\nStra\u00dfe b@x\n\"a b\"@x c\n")
	g.postmap("postmap", "hash:"+virtual)
	g.write("nets", "if !10.1.0.0/16\n10.0.0.0/8 OK\nendif\n2001:db8::/32 six\n")
	g.write("headers", "/^Subject: .*(lottery|prize)s?\\b/ HOLD $1\n/^X-(?!ok)\\w+:/ WARN\n")
	secret := g.write("secret", "h u:p\n")
	g.postmap("postmap", "hash:"+secret)
	os.Chmod(secret, 0o600)
	agent := &fakeAgent{tables: map[string]*fakeTable{}}
	fresh := func(o Options) *Plan {
		t.Helper()
		s, err := Read(t.Context(), g)
		if err != nil {
			t.Fatal(err)
		}
		p, err := NewPlan(s, o)
		if err == nil {
			err = p.Load(t.Context(), g)
		}
		if err == nil {
			err = p.Look(t.Context(), agent)
		}
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	p := fresh(Options{})
	if got := len(p.Shared()); got != 3 {
		t.Errorf("%d tables are shared", got)
	}
	for i := range 2 { // a second time changes nothing
		if err := p.Import(t.Context(), agent); err != nil {
			t.Fatal(err)
		}
		if err := p.Verify(t.Context(), g, agent); err != nil {
			t.Fatal(err)
		}
		for _, table := range p.Proved() {
			c := table.Check
			if c == nil || c.Absent < absentKeys || c.Found < table.Source.Entries || len(c.Differences) > 0 || table.State != Equal {
				t.Errorf("%s: %+v", table.Name, c)
			}
			if i > 0 && table.Counts.Added+table.Counts.Changed+table.Counts.Removed > 0 {
				t.Errorf("%s: %+v", table.Name, table.Counts)
			}
		}
		if len(p.Proved()) != 3 {
			t.Errorf("%d tables are proved", len(p.Proved()))
		}
		p = fresh(Options{})
	}
	// What a raft table says otherwise is found: another value, a key that is lost, one too many, a rule.
	agent.spoil = func(table, key string, v ops.Value) ops.Value {
		switch {
		case key == "strasse", key == "10.255.255.255":
			return ops.Value{}
		case key == "info@example.com":
			v.Value = []byte("other")
		case strings.HasPrefix(key, "x0"):
			return ops.Value{Found: true, Value: []byte("y")}
		}
		return v
	}
	if err := p.Verify(t.Context(), g, agent); err != nil {
		t.Fatal(err)
	}
	found := map[string]int{}
	for _, table := range p.Shared() {
		for _, d := range table.Check.Differences {
			found[strings.ToLower(d.Key)]++
		}
	}
	for _, key := range []string{"strasse", "10.255.255.255", "info@example.com"} {
		if found[key] == 0 {
			t.Errorf("the difference at %s was not found: %v", key, found)
		}
	}
	if len(found) < 4 || len(p.Proved()) != 0 {
		t.Errorf("%v; proved: %d", found, len(p.Proved()))
	}
	agent.spoil = nil

	agent.tables["virtual"].entries["info@example.com"] = "changed"
	agent.tables["nets"].typ = dict.TypeHash
	p = fresh(Options{Only: []string{"hash:" + virtual}})
	err := p.Import(t.Context(), agent)
	if err == nil || !strings.Contains(err.Error(), "would add 0, change 1, remove 0") {
		t.Errorf("conflict: %v", err)
	}
	p = fresh(Options{Only: []string{"hash:" + virtual}, Replace: true})
	if err := p.Import(t.Context(), agent); err != nil || agent.tables["virtual"].entries["info@example.com"] != "a@x" {
		t.Errorf("replace: %v", err)
	}
	if err := fresh(Options{Replace: true}).Import(t.Context(), agent); err == nil || !strings.Contains(err.Error(), "another type") {
		t.Errorf("another type: %v", err)
	}
	if p := fresh(Options{Only: []string{"hash:" + secret}}); len(p.Shared()) != 1 {
		t.Error("a private table that was named is not shared")
	}
}

// TestVerifyKeys ensures that there are always enough keys, none of the absent ones is held, and rules get keys that
// match each of them.
func TestVerifyKeys(t *testing.T) {
	rules := &Source{Type: dict.TypePCRE, text: []byte("/^a[bc]{2}(x|yy)+@\\d\\.test$/ 1\nif !/^q/\n/(?<=foo)bar\\.baz/ 2\nendif\n,/path/, 3\n")}
	nets := &Source{Type: dict.TypeCIDR, text: []byte("10.1.0.0/16 a\n[2001:db8::]/32 b\n255.255.255.255 c\n::/0 d\n")}
	for _, sources := range [][]*Source{{rules}, {nets}, {rules, nets}} {
		keys, absent := verifyKeys(sources, []*Source{rules, nets})
		if absent < absentKeys || len(keys) <= absent {
			t.Errorf("%d keys, %d of them absent", len(keys), absent)
		}
		seen := map[string]bool{}
		for _, key := range keys {
			if seen[key] {
				t.Errorf("%s twice", key)
			}
			seen[key] = true
		}
		for _, want := range []string{"abbx@0.test", "ABBX@0.TEST", "foobar.baz", "/path/", "10.1.0.0", "10.1.255.255", "10.0.255.255", "10.2.0.0", "2001:db8::", "2001:db9::", "255.255.255.255"} {
			if !seen[want] {
				t.Errorf("%s is not asked for", want)
			}
		}
	}
	if keys := samples("((a{100}){10}){1}"); len(keys) == 0 || len(keys[0]) > 2000 {
		t.Error("samples of a repeated group")
	}
}

// TestAskPostfix ensures that answers find their keys, whatever the keys hold, and that failures are errors.
func TestAskPostfix(t *testing.T) {
	answer := func(out, said string, err error) scripted {
		return func(string, []string, string) (string, string, error) { return out, said, err }
	}
	keys := []string{"a", "a\tb", "none", "A b", "z"}
	got, err := askPostfix(t.Context(), answer("a\t1\na\tb\t2\nA b\t\n", "", nil), "hash:x", keys)
	if err != nil || fmt.Sprint(got) != "[{true 1} {true 2} {false } {true } {false }]" {
		t.Errorf("%v, %v", got, err)
	}
	exit := &exec.ExitError{}
	if got, err := askPostfix(t.Context(), answer("", "postmap: warning: x\n", exit), "hash:x", keys); err != nil || got[0].Found {
		t.Errorf("nothing found: %v, %v", got, err)
	}
	for _, bad := range []scripted{answer("", "postmap: fatal: table x: query error\n", exit), answer("a\t1\n", "", exit), answer("q\t1\n", "", nil), answer("", "", errors.New("it does not run"))} {
		if got, err := askPostfix(t.Context(), bad, "hash:x", keys); err == nil {
			t.Errorf("%v", got)
		}
	}
}

// TestParsePair ensures that pairs are read as the plan prints them.
func TestParsePair(t *testing.T) {
	for word, want := range map[string]string{
		"hash:/a=b":      "hash:/a proxy:raft:b []",
		"hash:/a=raft:b": "hash:/a proxy:raft:b []",
		"pipemap:{hash:/a inline:{b=c}}=>proxy:pipemap:{raft:a inline:{b=c}}": "pipemap:{hash:/a inline:{b=c}} proxy:pipemap:{raft:a inline:{b=c}} []",
		"hash:/a=>proxy:hash:/a": "hash:/a proxy:hash:/a [hash:/a]",
		"unionmap:{hash:/a,cidr:/b}=>proxy:unionmap:{hash:/a,cidr:/b}": "unionmap:{hash:/a,cidr:/b} proxy:unionmap:{hash:/a,cidr:/b} [hash:/a cidr:/b]",
		"hash:/a": "ERROR", "a=b": "ERROR", "hash:/a=b/c": "ERROR", "hash:/a=>x": "ERROR", "": "ERROR",
	} {
		pair, err := ParsePair(word)
		got := "ERROR"
		if err == nil {
			got = fmt.Sprint(pair.Old, " ", pair.New, " ", pair.Aliased())
		}
		if got != want {
			t.Errorf("%s: %s, want %s", word, got, want)
		}
	}
}

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestRules_Commands walks through the life of tables whose keys are patterns, on a node that runs for real.
func TestRules_Commands(t *testing.T) {
	n := startAgent(t)
	file := func(text string) string {
		path := filepath.Join(t.TempDir(), "rules")
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	nets := "# our networks\n192.0.2.0/24   OK\n\n!10.0.0.0/8\n   REJECT not ours\n10.1.0.0/16 DUNNO\n"
	if out := n.ok("table", "create", "nets", "--type", "cidr"); !strings.Contains(out, "nets: created") {
		t.Errorf("create: %q", out)
	}
	if out := n.ok("table", "import", "nets", file(nets)); out != "nets: 6 added, 0 changed, 0 removed, 0 unchanged\n" {
		t.Errorf("import: %q", out)
	}
	if out := n.ok("table", "import", "nets", file(nets)); out != "nets: 0 added, 0 changed, 0 removed, 6 unchanged\n" {
		t.Errorf("import of the same: %q", out)
	}
	if out := n.ok("table", "export", "nets"); out != nets {
		t.Errorf("export: %q, want what was imported", out)
	}
	for key, want := range map[string]string{"192.0.2.77": "OK", "10.1.2.3": "DUNNO", "172.16.0.1": "REJECT not ours"} {
		if out := n.ok("get", "nets", key); out != want+"\n" {
			t.Errorf("get %s: %q, want %q", key, out, want)
		}
	}
	for _, key := range []string{"10.2.0.1", "::1", "word"} {
		if r := n.run("get", "nets", key); r.code != exitNotFound || r.out+r.err != "" {
			t.Errorf("get %s: %+v, want exit 1 and silence", key, r)
		}
	}
	n.fails(exitConfig, []string{"table nets", "cannot be updated entry by entry", "postraft table import NAME FILE"}, "put", "nets", "1.2.3.4", "x")
	n.fails(exitConfig, []string{"table nets", "cannot be updated entry by entry", "postraft table import NAME FILE"}, "delete", "nets", "1.2.3.4")
	n.fails(exitData, []string{"line 1: bad mask length", "line 3: no lookup result", "nothing was changed"}, "table", "import", "nets", file("1.2.3.4/40 x\n\n1.2.3.4\n"))
	n.fails(exitData, []string{"cannot be merged"}, "table", "import", "nets", file(nets), "--merge")

	if r := n.run("table", "import", "senders", "--type", "pcre", "--lenient", file("/^(\\w+)-info@EXAMPLE\\.com$/ $1@example.net\n/(/ bad\n/\\bfoo\\b/i Foo\n")); r.code != exitOK || !strings.Contains(r.err, "line 2") {
		t.Errorf("lenient import: %+v", r)
	}
	if out := n.ok("get", "senders", "Sales-Info@Example.com"); out != "Sales@example.net\n" {
		t.Errorf("get keeps the case of the key: %q", out)
	}
	out := n.ok("get", "--explain", "senders", "Sales-Info@Example.com")
	for _, word := range []string{"Sales-Info@Example.com", "Sales@example.net", `line 1: /^(\w+)-info`, "as of index", "on the leader"} {
		if !strings.Contains(out, word) {
			t.Errorf("explain does not say %q: %s", word, out)
		}
	}
	if r := n.run("--json", "get", "--explain", "senders", "a Foo"); r.code != exitNotFound || !strings.Contains(r.out, `"found": false`) {
		t.Errorf("explain of what no rule matches: %+v", r)
	}
	if r := n.run("table", "diff", "nets", file(strings.Replace(nets, "OK", "DUNNO", 1)+"::/0 v6\n")); r.code != exitNotFound || r.out != "-2\t192.0.2.0/24   OK\n+2\t192.0.2.0/24   DUNNO\n+7\t::/0 v6\n" {
		t.Errorf("diff: %+v", r)
	}
	if r := n.run("table", "diff", "nets", file(nets)); r.code != exitOK || r.out != "" {
		t.Errorf("diff of the same: %+v", r)
	}
	if out := n.ok("list", "senders"); !strings.HasPrefix(out, "00000001\t/^(") {
		t.Errorf("list: %q", out)
	}
	n.fails(exitData, []string{"exists", "cidr"}, "table", "import", "nets", file("/a/ b\n"), "--type", "regexp")
}

// TestExplain_Hash ensures that a lookup in a table of fixed keys is explained with its folding.
func TestExplain_Hash(t *testing.T) {
	n := startAgent(t)
	n.ok("table", "create", "h")
	n.ok("put", "h", "info@example.com", "here")
	out := n.ok("get", "--explain", "h", "INFO@Example.com")
	for _, word := range []string{"info@example.com (folded)", "here", "the entry of this key"} {
		if !strings.Contains(out, word) {
			t.Errorf("explain does not say %q: %s", word, out)
		}
	}
	if r := n.run("get", "--explain", "h", "nosuch"); r.code != exitNotFound || !strings.Contains(r.out, "no such key") {
		t.Errorf("explain of nothing: %+v", r)
	}
}

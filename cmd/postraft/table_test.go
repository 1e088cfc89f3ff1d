package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// fields sorts the names in a JSON object.
func fields(v map[string]any) string {
	var names []string
	for k := range v {
		names = append(names, k)
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

// TestTable_Commands walks through everything that can be done with tables on a node that runs for real.
func TestTable_Commands(t *testing.T) {
	n := startAgent(t)
	file := func(text string) string {
		path := filepath.Join(t.TempDir(), "source")
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	t.Run("create", func(t *testing.T) {
		n := n.cli.in(t)
		if out := n.ok("table", "create", "made"); out != "made: created; Postfix names it proxy:raft:made\n" {
			t.Errorf("got %q", out)
		}
		n.fails(exitData, []string{"table create made:", "exists"}, "table", "create", "made")
		n.fails(exitData, []string{"a/b"}, "table", "create", "a/b")
		n.fails(exitData, []string{"paper"}, "table", "create", "x", "--type", "paper")
		n.fails(exitUsage, []string{"want: postraft table create NAME"}, "table", "create")
	})
	t.Run("set", func(t *testing.T) {
		n := n.cli.in(t)
		n.ok("table", "create", "cache", "--expire-after", "37d", "--max-entries", "2")
		for _, k := range []string{"a", "b", "c"} {
			n.ok("put", "cache", k, "v")
		}
		want := map[string]any{"max_entries": 2.0, "expire_after_ms": 37 * 86400e3, "write_deadline_ms": 0.0, "max_staleness_ms": 0.0}
		if got := n.object("table", "info", "cache"); !reflect.DeepEqual(got["settings"], want) || got["entries"] != 2.0 || got["evicted"] != 1.0 {
			t.Errorf("table info --json: %v", got)
		}
		if out := n.ok("table", "info", "cache"); !strings.Contains(out, "write deadline  100ms (not set)\n") || !strings.Contains(out, "expire after    37d\n") {
			t.Errorf("table info: %q", out)
		}
		if out := n.ok("table", "set", "cache", "--max-entries", "off", "--write-deadline", "1s", "--max-staleness", "2w"); out != "table           cache\nexpire after    37d\nexpired         0\nevicted         1\nwrite deadline  1s\nmax staleness   14d\n" {
			t.Errorf("table set: %q", out)
		}
		if got := n.object("table", "set", "cache", "--write-deadline", "off"); got["index"] == nil {
			t.Errorf("table set --json: %v", got)
		}
		file := filepath.Join(t.TempDir(), "snapshot")
		n.ok("snapshot", "save", file)
		n.ok("table", "drop", "cache")
		n.ok("snapshot", "restore", file, "--table", "cache")
		if out := n.ok("table", "info", "cache"); !strings.Contains(out, "max staleness   14d\n") {
			t.Errorf("table info after a restore: %q", out)
		}
		n.fails(exitUsage, []string{"nothing to set"}, "table", "set", "cache")
		n.fails(exitUsage, []string{"--expire-after", "90s"}, "table", "set", "cache", "--expire-after", "7")
		n.fails(exitData, []string{"10ms to 5s"}, "table", "set", "cache", "--write-deadline", "1m")
		n.fails(exitNotFound, []string{"no such raft table"}, "table", "set", "nosuch", "--max-entries", "1")
		n.fails(exitData, []string{"max-staleness only"}, "table", "create", "rules", "--type", "pcre", "--max-entries", "1")
		n.ok("table", "drop", "cache")
	})
	t.Run("put, get, delete", func(t *testing.T) {
		n := n.cli.in(t)
		n.ok("put", "made", "Info@Example.COM", "a value")
		if out := n.ok("get", "made", "INFO@example.com"); out != "a value\n" {
			t.Errorf("get: %q", out)
		}
		if out := n.ok("get", "--consistent", "made", "info@example.com"); out != "a value\n" {
			t.Errorf("get --consistent: %q", out)
		}
		n.ok("put", "--no-fold", "made", "Exact", "1")
		if r := n.run("get", "made", "Exact"); r.code != exitNotFound || r.out+r.err != "" {
			t.Errorf("get of a key that is not there: %+v, want exit 1 and silence", r)
		}
		if out := n.ok("get", "--no-fold", "made", "Exact"); out != "1\n" {
			t.Errorf("get --no-fold: %q", out)
		}
		if got := n.object("get", "made", "info@example.com"); !reflect.DeepEqual(got, map[string]any{"table": "made", "found": true, "key": "info@example.com", "value": "a value"}) {
			t.Errorf("get --json: %v", got)
		}
		if r := n.run("--json", "get", "made", "nosuch"); r.code != exitNotFound || !strings.Contains(r.out, `"found": false`) {
			t.Errorf("get --json of nothing: %+v", r)
		}
		n.ok("delete", "made", "INFO@example.com")
		n.fails(exitNotFound, []string{`postraft: delete made: there is no key "info@example.com"`}, "delete", "made", "info@example.com")
		// A table that is missing is never taken for a key that is missing.
		for _, args := range [][]string{{"get", "nosuch", "k"}, {"get", "--consistent", "nosuch", "k"}, {"put", "nosuch", "k", "v"}, {"delete", "nosuch", "k"}} {
			n.fails(exitData, []string{args[0] + " ", "table nosuch: no such raft table", "postraft table list"}, args...)
		}
		n.fails(exitData, []string{"at most"}, "put", "made", strings.Repeat("k", 20000), "v")
		n.fails(exitData, nil, "put", "made", "k\x00", "v")
	})
	t.Run("import", func(t *testing.T) {
		n := n.cli.in(t)
		source := file("# sample\na  1\nB\t2\n  more\nc 3\n")
		var r struct {
			Table                              string
			Added, Changed, Removed, Unchanged int
			DryRun                             bool `json:"dry_run"`
		}
		n.document(&r, "table", "import", "--dry-run", "t", source)
		if got := fmt.Sprintf("%+v", r); got != "{Table:t Added:3 Changed:0 Removed:0 Unchanged:0 DryRun:true}" {
			t.Errorf("dry run: %s", got)
		}
		n.fails(exitNotFound, []string{"there is no table t"}, "table", "info", "t")
		if out := n.ok("table", "import", "t", source); out != "t: 3 added, 0 changed, 0 removed, 0 unchanged\n" {
			t.Errorf("import: %q", out)
		}
		if out := n.ok("list", "t"); out != "a\t1\nb\t2  more\nc\t3\n" {
			t.Errorf("list: %q", out)
		}
		if r := n.runIn("a 1\nc 4\nd 5\n", "table", "import", "t", "-"); r.out != "t: 1 added, 1 changed, 1 removed, 1 unchanged\n" {
			t.Errorf("import again: %+v", r)
		}
		if r := n.runIn("a 9\n", "table", "import", "--merge", "t", "-"); r.out != "t: 0 added, 1 changed, 0 removed, 0 unchanged\n" {
			t.Errorf("import --merge: %+v", r)
		}
		if out := n.ok("table", "import", "--dry-run", "t", source); out != "t: 1 added, 2 changed, 1 removed, 0 unchanged (dry run: nothing was changed)\n" {
			t.Errorf("dry run: %q", out)
		}
		bad := file("good 1\nlonely\ndup 1\ndup 2\n")
		n.fails(exitData, []string{"table import t: " + bad + ": ", "line 2: ", "nothing was changed", "--lenient"}, "table", "import", "t", bad)
		dup := file("dup 1\nother 1\nDUP 2\n")
		n.fails(exitData, []string{"line 3: ", "line 1"}, "table", "import", "t", dup)
		if out := n.ok("list", "t"); out != "a\t9\nc\t4\nd\t5\n" {
			t.Errorf("a refused import changed the table: %q", out)
		}
		lenient := n.run("table", "import", "--lenient", "t", bad)
		if lenient.code != 0 || lenient.out != "t: 2 added, 0 changed, 3 removed, 0 unchanged\n" || strings.Count(lenient.err, "postraft: warning: ") != 2 {
			t.Errorf("import --lenient: %+v", lenient)
		}
		n.fails(exitData, []string{"/nonexistent"}, "table", "import", "t", "/nonexistent")
	})
	t.Run("import with a limit", func(t *testing.T) {
		n := n.cli.in(t)
		ten := strings.Split("a 1,b 1,c 1,d 1,e 1,f 1,g 1,h 1,i 1,j 1", ",")
		n.runIn(strings.Join(ten, "\n")+"\n", "table", "import", "limited", "-", "--max-change", "20%") // nothing is there: no limit
		seven := file(strings.Join(ten[:7], "\n") + "\n")
		refused := []string{"0 of 10 entries would be changed and 3 removed, and 20 % may be", "nothing was changed", "--force"}
		n.fails(exitData, refused, "table", "import", "limited", seven, "--max-change", "20%")
		n.fails(exitData, refused, "table", "import", "limited", seven, "--max-change", "20", "--dry-run")
		n.fails(exitUsage, []string{"percentage"}, "table", "import", "limited", seven, "--max-change", "much")
		if out := n.ok("table", "import", "limited", seven, "--max-change", "30%"); out != "limited: 0 added, 0 changed, 3 removed, 7 unchanged\n" {
			t.Errorf("within the limit: %q", out)
		}
		if out := n.ok("table", "import", "limited", file("z 1\n"), "--max-change", "30%", "--force"); out != "limited: 1 added, 0 changed, 7 removed, 0 unchanged\n" {
			t.Errorf("forced: %q", out)
		}
		n.ok("table", "drop", "limited")
	})
	t.Run("watch, history, restore", func(t *testing.T) {
		n := n.cli.in(t)
		n.runIn("k 1\n", "table", "import", "w", "-")
		var info struct{ Version uint64 }
		n.document(&info, "table", "info", "w")
		n.ok("put", "w", "K", "2")
		n.ok("delete", "w", "k")
		r := n.run("--timeout", "1s", "history", "w", "K")
		if r.code != 0 || !regexp.MustCompile(`(?s)put +import +n1 +- +1\n.*put +command +n1 +1 +2\n.*delete +command +n1 +2 +-\n`).MatchString(r.out) {
			t.Errorf("history: %+v", r)
		}
		if out := n.ok("history", "w", "other"); !strings.HasPrefix(out, "INDEX") {
			t.Errorf("history of a key without one: %q", out)
		}
		n.fails(exitNotFound, []string{"there is no table nosuch"}, "history", "nosuch", "k")
		n.fails(exitNotFound, []string{"there is no table nosuch"}, "--json", "history", "nosuch", "k")
		if out := n.ok("table", "restore", "w", "--at-version", fmt.Sprint(info.Version)); !regexp.MustCompile(`^w: as at index \d+, in place of version \d+: 1 added, 0 changed, 0 removed, 0 unchanged\n$`).MatchString(out) {
			t.Errorf("restore: %q", out)
		}
		if out := n.ok("get", "w", "k"); out != "1\n" {
			t.Errorf("get: %q", out)
		}
		n.fails(exitNotFound, []string{"no such raft table"}, "watch", "nosuch")
		n.fails(exitUsage, []string{"the newest index is"}, "table", "restore", "w", "--at-version", "99999999")
		n.ok("table", "drop", "w")
	})
	t.Run("diff", func(t *testing.T) {
		n := n.cli.in(t)
		n.runIn("a 1\nb 2\nc 3\n", "table", "import", "d", "-")
		if r := n.runIn("c 3\nb 2\na 1\n", "table", "diff", "d", "-"); r != (result{}) {
			t.Errorf("diff of equal tables: %+v", r)
		}
		if r := n.runIn("a 1\nb 9\nx 0\n", "table", "diff", "d", "-"); r != (result{1, "-b\t2\n+b\t9\n-c\t3\n+x\t0\n", ""}) {
			t.Errorf("diff: %+v", r)
		}
		if r := n.runIn("a 1\nb 9\nc 3\n", "--json", "table", "diff", "d", "-"); r.code != 1 || strings.Join(strings.Fields(r.out), "") != `[{"key":"b","old":"2","new":"9"}]` {
			t.Errorf("diff --json: %+v", r)
		}
		if r := n.runIn("a 1\n", "table", "diff", "nosuch", "-"); r != (result{1, "+a\t1\n", ""}) {
			t.Errorf("diff with no table: %+v", r)
		}
		if out := n.ok("list", "d"); out != "a\t1\nb\t2\nc\t3\n" {
			t.Errorf("diff changed the table: %q", out)
		}
	})
	t.Run("export", func(t *testing.T) {
		n := n.cli.in(t)
		n.ok("table", "create", "odd")
		for _, kv := range [][2]string{{"plain", "v"}, {"Capital", "v"}, {"with blank", "v"}, {"#hash", "v"}, {"empty", ""}, {"\xff\xfe", "\x80"}, {"line", "a\nb"}} {
			n.ok("put", "--no-fold", "odd", "--", kv[0], kv[1])
		}
		text := n.ok("table", "export", "odd")
		if r := n.runIn(text, "table", "import", "copy", "-"); r.code != 0 {
			t.Fatalf("import of an export: %+v", r)
		}
		var odd, copied map[string]any
		n.document(&odd, "table", "info", "odd")
		n.document(&copied, "table", "info", "copy")
		if odd["digest"] != copied["digest"] || odd["entries"] != 7.0 {
			t.Errorf("export and import: %v became %v", odd, copied)
		}
		n.fails(exitNotFound, []string{"no such raft table"}, "table", "export", "nosuch")
	})
	t.Run("list", func(t *testing.T) {
		n := n.cli.in(t)
		n.runIn("a.x 1\na.y 2\nb 3\n", "table", "import", "l", "-")
		if out := n.ok("list", "l", "--prefix", "a."); out != "a.x\t1\na.y\t2\n" {
			t.Errorf("list --prefix: %q", out)
		}
		var rows []map[string]string
		n.document(&rows, "list", "l", "--prefix", "b")
		if !reflect.DeepEqual(rows, []map[string]string{{"key": "b", "value": "3"}}) {
			t.Errorf("list --json: %v", rows)
		}
		n.document(&rows, "list", "odd", "--prefix", "\xff")
		if len(rows) != 1 || rows[0]["key_base64"] != "//4=" || rows[0]["value_base64"] != "gA==" {
			t.Errorf("list --json of what is not UTF-8: %v", rows)
		}
		n.document(&rows, "list", "l", "--prefix", "none")
		if len(rows) != 0 {
			t.Errorf("empty list: %v", rows)
		}
		n.fails(exitNotFound, []string{"no such raft table"}, "list", "nosuch")
	})
	t.Run("info, list of tables, drop", func(t *testing.T) {
		n := n.cli.in(t)
		var tables []map[string]any
		n.document(&tables, "table", "list")
		if len(tables) != 6 || fields(tables[0]) != "bytes digest entries name type version" || tables[0]["name"] != "copy" {
			t.Errorf("table list --json: %v", tables)
		}
		if got := n.object("table", "info", "l"); got["entries"] != 3.0 || got["type"] != "hash" || got["bytes"] != 10.0 {
			t.Errorf("table info --json: %v", got)
		}
		if out := n.ok("table", "list"); strings.Count(out, "\n") != 7 || !strings.HasPrefix(out, "TABLE ") {
			t.Errorf("table list: %q", out)
		}
		if out := n.ok("table", "info", "l"); !strings.Contains(out, "entries  3\n") {
			t.Errorf("table info: %q", out)
		}
		n.ok("table", "drop", "l")
		n.fails(exitNotFound, []string{"table drop l:"}, "table", "drop", "l")
		n.fails(exitNotFound, []string{"there is no table l", "postraft table list"}, "table", "info", "l")
	})
}

// TestTable_CutImport ensures that an upload which breaks off changes nothing on a node that runs for real,
// though all of its frames up to then are good.
func TestTable_CutImport(t *testing.T) {
	n := startAgent(t)
	n.runIn("a 1\nb 2\n", "table", "import", "t", "-")
	for _, merge := range []string{"false", "true"} {
		conn, err := net.Dial("unix", filepath.Join(n.runDir, adminSocket))
		if err != nil {
			t.Fatal(err)
		}
		body := "e\x01a\x019" // one entry, and no end of the stream
		fmt.Fprintf(conn, "POST /v1/table/import?name=t&merge=%s HTTP/1.1\r\nHost: agent\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", merge, len(body), body)
		reply, err := io.ReadAll(conn)
		conn.Close()
		if err != nil || !strings.HasPrefix(string(reply), "HTTP/1.1 503 ") || !strings.Contains(string(reply), "broke off") {
			t.Errorf("reply to a cut import: %v %s", err, reply)
		}
		if out := n.ok("list", "t"); out != "a\t1\nb\t2\n" {
			t.Errorf("a cut import changed the table: %q", out)
		}
	}
}

func (c cli) in(t *testing.T) cli { return cli{t, c.runDir} }

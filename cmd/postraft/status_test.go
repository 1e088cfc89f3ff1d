package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"postraft/cluster/clustertest"
	"postraft/ops"
)

// TestStatus_ForAPerson ensures that warnings come first, and that what is not there is not printed.
func TestStatus_ForAPerson(t *testing.T) {
	var out output
	a := &app{out: &out}
	s := ops.Status{
		Name: "n2", ID: "n2/1", Version: "1.2", State: "follower", Role: "voter", Leader: "n1", Term: 3, CommitIndex: 12, LastLogIndex: 13, TablesIndex: 10, Behind: 2,
		Ready: true, Voters: []string{"n1", "n2"}, LastContactMS: 35, Alive: []string{"n1", "n2"}, Failed: []string{"n3"}, Address: "a:1", Gossip: "a:2",
		Warnings: []string{"members that do not answer: n3"}, Tables: []ops.TableInfo{{Name: "virtual", Type: "hash", Entries: 4, Bytes: 144, Version: 9}},
	}
	if err := a.printStatus(s); err != nil {
		t.Fatal(err)
	}
	want := `WARNING: members that do not answer: n3

node     n2 (n2/1), postraft 1.2
role     voter, follower, term 3
leader   n1, heard of 35ms ago
lookups  answered
behind   2 entries (tables show 10, committed 12, in the log 13)
voters   n1 n2
members  2 alive, 1 failed: n3
address  a:1, gossip a:2

TABLE    TYPE  ENTRIES  BYTES  VERSION
virtual  hash  4        144    9
`
	if out.String() != want {
		t.Errorf("got\n%swant\n%s", out.String(), want)
	}
	out.buf.Reset()
	s.Warnings, s.Tables, s.Leader, s.State, s.Role, s.Ready, s.NotReady = nil, nil, "", "candidate", "", false, "why"
	if err := a.printStatus(s); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"role     candidate, term 3\n", "leader   none for 35ms\n", "lookups  not answered: why\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("there is no %q in\n%s", want, out.String())
		}
	}
}

// TestIndex_OfEveryChange ensures that every command that changes tables prints an index that this node shows at once,
// each greater than the one before, and that nobody waits for ever for one that does not come.
func TestIndex_OfEveryChange(t *testing.T) {
	n := startAgent(t)
	source, snapshot := filepath.Join(n.dir, "source"), filepath.Join(n.dir, "snapshot")
	if err := os.WriteFile(source, []byte("b 2\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	last := 0.0
	for _, args := range [][]string{
		{"table", "create", "t"}, {"put", "t", "a", "1"}, {"delete", "t", "a"}, {"table", "import", "t", source}, {"snapshot", "save", snapshot},
		{"put", "t", "c", "1"}, {"snapshot", "restore", snapshot}, {"table", "drop", "t"},
	} {
		index, ok := n.object(args...)["index"].(float64)
		if args[1] == "save" {
			continue
		}
		if !ok || index <= last {
			t.Errorf("%v: index %v after %v", args, index, last)
		}
		last = index
		n.ok("status", "--wait-index", fmt.Sprint(index), "--timeout", "1s")
	}
	if out := n.ok("put", "x", "a", "1", "--help"); !strings.Contains(out, "put TABLE KEY VALUE") {
		t.Errorf("help: %s", out)
	}
	n.ok("table", "create", "u")
	if out := n.ok("put", "u", "a", "1"); out != "" {
		t.Errorf("put without --json says %q", out)
	}
	if got := n.object("table", "import", "u", source, "--dry-run"); got["index"] != nil {
		t.Errorf("a dry run has the index %v", got["index"])
	}
	if got := n.object("status", "--wait-index", "1"); got["name"] != "n1" || got["warnings"] == nil || got["last_contact_ms"] != 0.0 || got["role"] != "voter" {
		t.Errorf("status after waiting: %v", got)
	}
	n.fails(exitTempFail, []string{"postraft: status: index 100000 is not shown after 100ms by 1 of 1 members: n1 (", " behind)", "--timeout"}, "status", "--wait-index", "100000", "--timeout", "100ms")
	n.fails(exitUsage, []string{"wait-index"}, "status", "--wait-index", "many")
}

// TestStatus_All ensures that a change can be waited for on all members, that those that lag are named, and that one
// that is away holds nobody up.
func TestStatus_All(t *testing.T) {
	dir := shortDir(t)
	c := startChild(t, nil, "dev", "--dir", dir, "--base-port", fmt.Sprint(clustertest.FreePorts(t, 9)))
	at := func(i int) cli { return cli{t, filepath.Join(dir, fmt.Sprintf("n%d", i), "run")} }
	for i := 1; i <= 3; i++ {
		at(i).waitFor("node is ready", func(s map[string]any) bool { return s["ready"] == true && len(s["voters"].([]any)) == 3 })
	}
	at(1).waitFor("the sample table", func(s map[string]any) bool { return len(s["tables"].([]any)) == 1 })
	index := fmt.Sprint(at(1).object("put", "virtual_alias", "k", "v")["index"])
	if out := at(2).ok("status", "--wait-index", index, "--all"); strings.Count(out, "shown") != 3 {
		t.Errorf("all: %s", out)
	}
	for i := 1; i <= 3; i++ {
		if out := at(i).ok("get", "virtual_alias", "k"); out != "v\n" {
			t.Errorf("n%d: %q", i, out)
		}
	}
	var waited struct {
		Index   uint64
		Reached bool
		Members []ops.Reached
	}
	at(3).document(&waited, "status", "--wait-index", index, "--all")
	if !waited.Reached || len(waited.Members) != 3 || fmt.Sprint(waited.Index) != index {
		t.Errorf("JSON: %+v", waited)
	}
	at(1).fails(exitTempFail, []string{"by 3 of 3 members: n1 (", "n2 (", "n3 ("}, "status", "--wait-index", "100000", "--all", "--timeout", "200ms")
	if out := at(1).ok("status", "--all"); !strings.HasPrefix(out, "NAME  ROLE   LEADER  ALIVE  APPLIED  BEHIND\nn1    voter") {
		t.Errorf("lags: %s", out)
	}
	var lags []map[string]any
	at(1).document(&lags, "status", "--all")
	if len(lags) != 3 || lags[0]["behind"] == nil {
		t.Errorf("lags: %v", lags)
	}
	c.end(syscall.SIGTERM)
}

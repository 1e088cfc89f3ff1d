package main

import (
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestRecover ensures that a data directory is recovered only when its agent is stopped, its name is right and
// the operator agrees, and that its agent then runs with every entry.
func TestRecover(t *testing.T) {
	n := startAgent(t)
	n.runIn("k 1\n", "table", "import", "a", "-")
	data := filepath.Join(n.dir, "data")
	here := []string{"recover", "--data-dir", data, "--name", "n1"}
	n.fails(exitData, []string{"another agent uses this data directory"}, append(here, "--yes")...)
	if code, _ := n.child.end(syscall.SIGTERM); code != exitOK {
		t.Fatalf("agent ended with %d", code)
	}
	n.fails(exitUsage, []string{"belongs to the node n1, not to n2"}, "recover", "--data-dir", data, "--name", "n2", "--yes")
	n.fails(exitData, []string{"no state of a cluster"}, "recover", "--data-dir", t.TempDir(), "--name", "n1", "--yes")
	if r := n.runIn("no\n", here...); r.code != exitUsage || !strings.Contains(r.err, "nothing was changed") {
		t.Errorf("not confirmed: %+v", r)
	}
	if r := n.runIn("yes\n", here...); r.code != exitOK || !strings.Contains(r.out, "n1 is a cluster of its own now") {
		t.Errorf("confirmed: %+v", r)
	}
	info := n.object(append(here, "--yes")...)
	if fields(info) != "applied_index id last_log_index name recovered servers snapshot_index tables" || info["recovered"] != true {
		t.Errorf("recover --json: %v", info)
	}
	again := startAgentIn(t, n.dir)
	if out := again.ok("get", "a", "k"); out != "1\n" {
		t.Errorf("get: %q", out)
	}
	again.ok("put", "a", "k", "2")
}

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"postraft/cluster/clustertest"
)

// TestAgent_WatchFile ensures that an agent imports the files of its settings, again when they have changed, and not when
// too much is gone or a rule is bad; that the command does the same; and that the history tells.
func TestAgent_WatchFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "our virtual, and {more}")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("a 1\nb 1\nc 1\nd 1\n")
	rules := filepath.Join(t.TempDir(), "networks")
	if err := os.WriteFile(rules, []byte("192.0.2.0/24 OK\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	n := startAgent(t, "--watch-file", "{ virtual = "+path+" }", "--watch-file", "cidr:networks="+rules, "--watch-max-change", "50%")
	has := func(want string) {
		t.Helper()
		clustertest.Eventually(t, "the table is as wanted", func() error {
			if r := n.run("list", "virtual"); r.out != want {
				return fmt.Errorf("it is %+v", r)
			}
			return nil
		})
	}
	has("a\t1\nb\t1\nc\t1\nd\t1\n")
	write("a 1\nb 2\n")
	clustertest.Eventually(t, "the agent refuses a large change", func() error { return n.child.said("1 of 4 entries would be changed and 2 removed") })
	has("a\t1\nb\t1\nc\t1\nd\t1\n")
	write("a 1\nb 2\nc 1\n")
	has("a\t1\nb\t2\nc\t1\n")
	finds := func(table, key, want string) {
		t.Helper()
		clustertest.Eventually(t, "the rules are as wanted", func() error {
			if r := n.run("get", table, key); r.out != want {
				return fmt.Errorf("%s: %+v", table, r)
			}
			return nil
		})
	}
	finds("networks", "192.0.2.1", "OK\n")
	if err := os.WriteFile(rules, []byte("192.0.2.0/24 OK\n192.0.2.0/33 OK\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	clustertest.Eventually(t, "the agent names the bad rule", func() error { return n.child.said("line 2: bad mask length") })
	finds("networks", "192.0.2.1", "OK\n")
	if out := n.ok("status"); !strings.Contains(out, "WARNING: watch_file: "+rules+" is not imported into table networks: line 2") {
		t.Errorf("status: %s", out)
	}
	if err := os.WriteFile(rules, []byte("192.0.2.0/24 OK\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	clustertest.Eventually(t, "the status is free of it", func() error {
		if out := n.ok("status"); strings.Contains(out, "WARNING") {
			return fmt.Errorf("status: %s", out)
		}
		return nil
	})
	if out := n.ok("history", "virtual", "b"); !strings.Contains(out, "watch-file  n1    1       2\n") {
		t.Errorf("history: %s", out)
	}

	senders := filepath.Join(t.TempDir(), "senders")
	if err := os.WriteFile(senders, []byte("/^a/ REJECT\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	startChild(t, []string{"POSTRAFT_RUN_DIR=" + n.runDir}, "table", "watch-file", "senders", senders, "--type", "regexp")
	finds("senders", "abc", "REJECT\n")
}

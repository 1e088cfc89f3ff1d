package main

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"postraft/cluster/clustertest"
)

// TestAgent_WatchFile ensures that an agent imports a file of its settings, again when it has changed, and not when
// too much of it is gone.
func TestAgent_WatchFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "virtual")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("a 1\nb 1\nc 1\nd 1\n")
	n := startAgent(t, "--watch-file", "virtual="+path, "--watch-max-change", "50%")
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
}

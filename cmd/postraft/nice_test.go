package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"postraft/cluster/clustertest"
)

// TestImport_Nice ensures that an import has the low priority that the manual promises, with all of its threads.
func TestImport_Nice(t *testing.T) {
	n := startAgent(t)
	source := filepath.Join(n.dir, "source")
	if err := unix.Mkfifo(source, 0o600); err != nil { // the import waits for what comes
		t.Fatal(err)
	}
	command := startChild(t, nil, "--run-dir", n.runDir, "table", "import", "t", source)
	clustertest.Eventually(t, "all threads are nice", func() error {
		tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", command.cmd.Process.Pid))
		if err != nil || len(tasks) == 0 {
			return fmt.Errorf("no threads: %v", err)
		}
		for _, task := range tasks {
			text, err := os.ReadFile(filepath.Join(task, "stat"))
			if err != nil {
				return err
			}
			if nice := statFields(text)[16]; nice != fmt.Sprint(bulkNice) {
				return fmt.Errorf("thread %s has niceness %s", filepath.Base(task), nice)
			}
		}
		return nil
	})
	if err := os.WriteFile(source, []byte("k v\n"), 0); err != nil {
		t.Fatal(err)
	}
	if code := command.exit(); code != exitOK {
		t.Errorf("it ended with %d", code)
	}
}

// TestLeaveProcessor ensures that a command that is busy for a while leaves a processor to the others, unless there is one
// only.
func TestLeaveProcessor(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(3))
	for _, want := range []int{2, 1, 1} {
		if leaveProcessor(); runtime.GOMAXPROCS(0) != want {
			t.Fatalf("%d processors, want %d", runtime.GOMAXPROCS(0), want)
		}
	}
}

// statFields returns the fields of proc(5)'s stat behind the name, the state first.
func statFields(text []byte) []string {
	return strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
}

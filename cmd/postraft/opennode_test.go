package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"postraft/cluster/clustertest"
	"postraft/cluster/trust"
)

// TestAgent_StartsOnFullDisk ensures that an agent that is started on a full disk waits for room instead of ending.
func TestAgent_StartsOnFullDisk(t *testing.T) {
	dir := shortDir(t)
	if err := os.WriteFile(filepath.Join(dir, "secret"), []byte(trust.NewSecret()), 0o600); err != nil {
		t.Fatal(err)
	}
	full := filepath.Join(dir, "data", "id.tmp") // the first file that a new node writes
	if err := os.MkdirAll(filepath.Dir(full), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/dev/full", full); err != nil {
		t.Fatal(err)
	}
	runDir := filepath.Join(dir, "run")
	agent := startChild(t, []string{"POSTRAFT_CONFIG=" + os.DevNull},
		"agent", "--name", "n1", "--data-dir", filepath.Join(dir, "data"), "--run-dir", runDir, "--secret-file", filepath.Join(dir, "secret"),
		"--bind", clustertest.FreePort(t), "--gossip", clustertest.FreePort(t), "--bootstrap-expect", "1", "--http", "")
	clustertest.Eventually(t, "the agent waits", func() error {
		if said := agent.out.String(); !strings.Contains(said, "the start waits") {
			return fmt.Errorf("it says %q", said)
		}
		return nil
	})
	if err := os.Remove(full); err != nil {
		t.Error(err)
	}
	(&cli{t, runDir}).waitFor("the agent is ready", func(s map[string]any) bool { return s["ready"] == true })
}

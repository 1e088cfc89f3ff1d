package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"postraft/cluster/clustertest"
)

// TestDev_Cluster ensures that dev brings up three nodes that answer Postfix's protocol, that every command that
// needs the leader works on every node, and that all ends with the signal.
func TestDev_Cluster(t *testing.T) {
	dir := filepath.Join(shortDir(t), "a b")
	began := time.Now()
	c := startChild(t, []string{"POSTRAFT_VOTERS=nonsense, which is not for the children"}, "dev", "--dir", dir, "--base-port", strconv.Itoa(clustertest.FreePorts(t, 9)))
	at := func(i int) cli { return cli{t, filepath.Join(dir, fmt.Sprintf("n%d", i), "run")} }
	for i := 1; i <= 3; i++ {
		at(i).waitFor("node is ready with the sample table", func(s map[string]any) bool {
			return s["ready"] == true && s["leader"] != "" && len(s["voters"].([]any)) == 3 && len(s["tables"].([]any)) == 1
		})
	}
	t.Logf("three nodes are up after %v", time.Since(began))
	if info, err := os.Stat(filepath.Join(dir, "secret")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("secret: %v %v", info, err)
	}
	for i := 1; i <= 3; i++ {
		p := dialProxymap(t, filepath.Join(at(i).runDir, "proxymap"))
		if got := p.lookup("raft:virtual_alias", "sales@example.com"); got != "status=0 value=carol@example.com" {
			t.Errorf("lookup on n%d: %s", i, got)
		}
		// Writes on any node, seen at once there.
		key := fmt.Sprintf("k%d", i)
		at(i).ok("put", "virtual_alias", key, "v")
		if got := p.lookup("raft:virtual_alias", key); got != "status=0 value=v" {
			t.Errorf("lookup after put on n%d: %s", i, got)
		}
		if got := at(i%3+1).ok("get", "--consistent", "virtual_alias", key); got != "v\n" {
			t.Errorf("consistent get on another node: %q", got)
		}
		table := fmt.Sprintf("t%d", i)
		if r := at(i).runIn("a 1\n", "table", "import", table, "-"); r.code != 0 {
			t.Errorf("import on n%d: %+v", i, r)
		}
		at(i%3+1).ok("snapshot", "save", filepath.Join(t.TempDir(), "s"))
		at(i%3+1).ok("table", "drop", table)
	}

	leader := at(1).object("status")["leader"]
	other := "n1"
	if leader == "n1" {
		other = "n2"
	}
	for i := 1; i <= 3; i++ { // from the leader, from the follower that gets it, from the third
		if out := at(i).ok("transfer-leader", other); out != other+" leads\n" {
			t.Errorf("transfer-leader on n%d: %q", i, out)
		}
	}
	if out := at(3).ok("transfer-leader"); out == other+" leads\n" || !strings.HasSuffix(out, " leads\n") {
		t.Errorf("transfer-leader without a name: %q", out)
	}

	if out := at(3).ok("leave"); out != "n3 has left the cluster; its agent stops\n" {
		t.Errorf("leave: %q", out)
	}
	clustertest.Eventually(t, "the agent of the node that left has stopped", func() error {
		if r := at(3).run("status"); r.code != exitNoAgent {
			return fmt.Errorf("exit %d", r.code)
		}
		return nil
	})
	clustertest.Eventually(t, "dev tells of it", func() error {
		if out := c.out.String(); !strings.Contains(out, "n3 has ended (exit status 0)") {
			return fmt.Errorf("it said %s", out)
		}
		return nil
	})
	for i := 1; i <= 2; i++ {
		at(i).waitFor("two voters remain", func(s map[string]any) bool { return len(s["voters"].([]any)) == 2 && s["leader"] != "" })
	}

	if code, took := c.end(syscall.SIGTERM); code != 0 || took > 6*time.Second {
		t.Errorf("SIGTERM: exit %d after %v", code, took)
	}
	for i := 1; i <= 3; i++ {
		at(i).fails(exitNoAgent, nil, "status")
	}
	out := c.out.String()
	for _, want := range []string{"3 nodes are up after", " --run-dir '" + at(2).runDir + "' list virtual_alias\n", "pr get virtual_alias info@example.com", "Ctrl-C ends all"} {
		if !strings.Contains(out, want) {
			t.Errorf("dev did not say %q:\n%s", want, out)
		}
	}
}

// TestDev_Refused ensures that dev says what is in its way.
func TestDev_Refused(t *testing.T) {
	c := cli{t, "/nonexistent"}
	c.fails(exitUsage, []string{"--nodes 0"}, "dev", "--nodes", "0")
	c.fails(exitUsage, []string{"would not fit"}, "dev", "--dir", "/tmp/"+strings.Repeat("x", 120))
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	c.fails(exitConfig, []string{"port " + port + " is not free", "--base-port"}, "dev", "--dir", shortDir(t), "--base-port", port)
}

// TestKeygenAndVersion ensures that the commands that need no agent work without one.
func TestKeygenAndVersion(t *testing.T) {
	c := cli{t, "/nonexistent"}
	if a, b := c.ok("keygen"), c.ok("keygen"); len(a) != 44 || a == b {
		t.Errorf("keygen: %q, %q", a, b)
	}
	if got := c.object("version"); got["version"] != version || fields(got) != "go platform version" {
		t.Errorf("version: %v", got)
	}
	for _, shell := range []string{"bash", "zsh", "fish"} {
		if out := c.ok("completion", shell); !strings.Contains(out, "postraft") {
			t.Errorf("completion %s: %q", shell, out)
		}
	}
}

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postraft/ops"
)

// newSite makes the configuration of a Postfix instance that nobody runs, with tables.
func newSite(t *testing.T) string {
	t.Helper()
	if _, err := os.Stat(ops.PostfixCommand("postmap")); err != nil {
		t.Skip("NOT RUN: there is no Postfix")
	}
	dir := shortDir(t)
	for name, text := range map[string]string{
		"main.cf": "compatibility_level = 3.6\nmyhostname = mx.test\nmynetworks = 127.0.0.0/8\nvirtual_alias_maps = hash:$config_directory/virtual\n" +
			"transport_maps = proxy:texthash:$config_directory/transport\nsmtpd_client_restrictions = check_client_access cidr:$config_directory/nets\n" +
			"alias_maps = hash:$config_directory/aliases\naddress_verify_map = btree:$data_directory/verify\nheader_checks = pcre:$config_directory/odd\n",
		"master.cf": "smtp inet n - n - - smtpd\nproxymap unix - - n - - proxymap\nproxywrite unix - - n - 1 proxymap\n",
		"virtual":   "Info@Example.com a@x\nnone\n", "transport": "x.test smtp:[y.test]\n", "nets": "10.0.0.0/8 OK\n", "odd": "/a(*COMMIT)/ b\n", "aliases": "root: me\n",
	} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		past := time.Now().Add(-time.Hour) // Postfix waits for files that are being written to
		if err := os.Chtimes(path, past, past); err != nil {
			t.Fatal(err)
		}
	}
	for _, table := range [][2]string{{"postmap", "virtual"}, {"postalias", "aliases"}} {
		if out, err := exec.Command(ops.PostfixCommand(table[0]), "-c", dir, "hash:"+filepath.Join(dir, table[1])).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v", out, err)
		}
	}
	return dir
}

// has fails the test unless text has all of the words.
func has(t *testing.T, text string, words ...string) {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(text, w) {
			t.Errorf("no %q in\n%s", w, text)
		}
	}
}

// TestAdopt_Plan ensures that a plan is shown without an agent and changes nothing, and that what needs the agent
// says so.
func TestAdopt_Plan(t *testing.T) {
	site := newSite(t)
	c := cli{t, shortDir(t)}
	before, err := os.ReadDir(site)
	if err != nil {
		t.Fatal(err)
	}
	out := c.ok("adopt", "--config-dir", site)
	has(t, out, "the raft tables were not looked at: no agent at "+c.runDir, "hash:"+site+"/virtual", "proxy:raft:virtual", "stays: local(8) refuses proxy: here",
		"(*COMMIT) is not served", "line 2: want: key, white space, value", "--caches shares it", "Nothing was changed",
		"postconf -c "+site+" -e 'virtual_alias_maps = proxy:raft:virtual'", "postconf -c "+site+" -e 'virtual_alias_maps = hash:$config_directory/virtual'",
		"postraft adopt --verify --run-dir "+c.runDir+" --config-dir "+site, "watch_file = transport="+site+"/transport")
	after, err := os.ReadDir(site)
	if err != nil || len(after) != len(before) {
		t.Errorf("%d files, there were %d: %v", len(after), len(before), err)
	}
	out = c.ok("adopt", "--config-dir", site, "--alias", "--only", "transport_maps", "--caches", "--prefix", "s.")
	has(t, out, "alias =\n    texthash:"+site+"/transport=s.transport", "--verify --run-dir "+c.runDir+" --config-dir "+site+" 'texthash:"+site+"/transport=>proxy:texthash:"+site+"/transport'")
	if strings.Contains(out, "-e 'transport_maps") || strings.Contains(out, "-e 'virtual_alias_maps") {
		t.Errorf("a line too many:\n%s", out)
	}
	has(t, c.ok("adopt", "--config-dir", site, "--caches", "--only", "address_verify_map"), "proxy:raft:verify", "address_verify_map = proxy:raft:verify", "cleanup_interval = 0")

	c.fails(exitNoAgent, []string{"no agent at"}, "adopt", "--config-dir", site, "--yes")
	c.fails(exitNoAgent, []string{"no agent at"}, "adopt", "--config-dir", site, "--lines", "change")
	c.fails(exitNotFound, []string{"no way back"}, "adopt", "--config-dir", site, "--lines", "back", "--only", "alias_maps")
	c.fails(exitUsage, []string{"main.cf"}, "adopt", "--config-dir", "/nowhere")
	c.fails(exitUsage, []string{"want change or back"}, "adopt", "--config-dir", site, "--lines", "x")
	c.fails(exitUsage, []string{"is called so"}, "adopt", "--config-dir", site, "--only", "nothing")
	c.fails(exitUsage, []string{"TYPE:NAME=TABLE"}, "adopt", "--config-dir", site, "--name", "x")
	c.fails(exitUsage, []string{"want: postraft adopt"}, "adopt", "x")
	c.fails(exitUsage, []string{"want: postraft adopt"}, "adopt", "--verify")
	c.fails(exitUsage, []string{"is not a table"}, "adopt", "--verify", "x=y")
	c.fails(exitTempFail, []string{"cannot be taken"}, "adopt", "--config-dir", site, "--verify", "texthash:/nowhere=x")
}

// TestAdopt_Import ensures that tables are imported and verified, again without harm, and that neither another table
// of that name nor different answers go unnoticed.
func TestAdopt_Import(t *testing.T) {
	site := newSite(t)
	n := startAgent(t)
	adopt := func(args ...string) string {
		t.Helper()
		return n.ok(append([]string{"adopt", "--config-dir", site}, args...)...)
	}
	has(t, adopt(), "agent n1 with 0 raft tables", "proxy:raft:virtual: to be made")
	n.fails(exitData, []string{"does not hold what it should", "--yes"}, "adopt", "--config-dir", site, "--lines", "change")
	if got := n.ok("table", "list", "--json"); got != "[]\n" {
		t.Errorf("a plan has made %s", got)
	}
	out := adopt("--yes")
	has(t, out, "virtual: 1 added, 0 changed, 0 removed, 0 unchanged", "all answers are equal", "proxy:raft:nets: imported")
	if got := n.ok("get", "virtual", "INFO@example.com"); got != "a@x\n" {
		t.Errorf("get: %q", got)
	}
	has(t, adopt("--yes"), "virtual: 0 added, 0 changed, 0 removed, 1 unchanged")
	has(t, adopt(), "proxy:raft:virtual: there, equal")
	for line := range strings.Lines(adopt("--lines", "change") + adopt("--lines", "back")) {
		if !strings.HasPrefix(line, "postconf ") && !strings.HasPrefix(line, "postfix ") {
			t.Errorf("not for the shell: %s", line)
		}
	}
	var document struct {
		Imported bool
		Agent    string
		Tables   []struct {
			Raft, State string
			Check       *struct{ Keys, Absent, Differ int }
		}
	}
	n.document(&document, "adopt", "--config-dir", site, "--yes")
	checked := 0
	for _, table := range document.Tables {
		if c := table.Check; c != nil && c.Keys > c.Absent && c.Absent >= 1000 && c.Differ == 0 && table.State == "equal" {
			checked++
		}
	}
	if !document.Imported || document.Agent != "n1" || checked != 3 {
		t.Errorf("%d tables checked in %+v", checked, document)
	}

	n.ok("put", "virtual", "more@example.com", "x")
	has(t, adopt(), "CONFLICT, there with other entries: 0 would be added, 0 changed, 1 removed")
	n.fails(exitData, []string{"would add 0, change 0, remove 1", "--replace"}, "adopt", "--config-dir", site, "--yes")
	has(t, adopt("--yes", "--name", "hash:"+site+"/virtual=mx2.virtual", "--only", "mx2.virtual"), "mx2.virtual: 1 added", "virtual_alias_maps = proxy:raft:mx2.virtual")
	has(t, adopt("--yes", "--replace"), "virtual: 0 added, 0 changed, 1 removed, 1 unchanged")
	n.ok("table", "drop", "virtual")
	n.ok("table", "create", "virtual", "--type", "pcre")
	n.fails(exitData, []string{"of another type"}, "adopt", "--config-dir", site, "--yes", "--replace")
	has(t, adopt(), "CONFLICT, there as another type")
}

// TestAdopt_Verify ensures that answers that differ are shown with their key and exit 1, and that aliases have to be
// in effect.
func TestAdopt_Verify(t *testing.T) {
	site := newSite(t)
	n := startAgent(t)
	text := "texthash:" + filepath.Join(site, "transport")
	other := filepath.Join(site, "other")
	if err := os.WriteFile(other, []byte("x.test smtp:[z.test]\nx0x.test more\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	has(t, n.ok("adopt", "--config-dir", site, "--verify", text+"=>"+text), "all answers are equal")
	r := n.run("adopt", "--config-dir", site, "--verify", text+"=>texthash:"+other)
	if r.code != exitNotFound || r.err != "" {
		t.Errorf("exit %d, %s", r.code, r.err)
	}
	has(t, r.out, "DIFFER", `"x.test": `+text+` says "smtp:[y.test]", texthash:`+other+` says "smtp:[z.test]"`, `"X.TEST"`, `"x0x.test": `+text+` says nothing`)
	r = n.run("adopt", "--json", "--config-dir", site, "--verify", text+"=>texthash:"+other)
	if r.code != exitNotFound {
		t.Errorf("exit %d, %s", r.code, r.err)
	}
	has(t, r.out, `"differ": 3`, `"postfix": null`)
	n.fails(exitConfig, []string{"the agent has no alias for " + text, "postraft.cf"}, "adopt", "--config-dir", site, "--verify", text+"=>proxy:"+text)
}

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"postraft/cluster/clustertest"
	"postraft/dict"
)

// TestMirrors_Refused ensures that what cannot be a mirror is refused at the start.
func TestMirrors_Refused(t *testing.T) {
	for text, want := range map[string]string{
		"virtual":                      "want TABLE=TYPE:PATH",
		"virtual=lmdb:relative":        "absolute path",
		"a/b=lmdb:/x":                  "table name",
		"virtual=mysql:/x":             "cannot be kept",
		"a=lmdb:/x, b=hash:/x":         "there twice",
		"virtual=lmdb:/etc/../x":       "absolute path",
		"virtual=pipemap:{raft:b}":     "absolute path",
		"a=lmdb:/x\nwatch_file = a=/x": "would write over the source",

		"{a = lmdb:/x y}\nwatch_file = {a = /x y}": "would write over the source",
		"{a=lmdb:/x y":   "table name",
		"{a=lmdb:/x y}z": "table name",
	} {
		if _, _, err := loaded(t, "mirror = "+text+"\n", nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

// TestMirrors_Kept ensures that local tables follow a raft table, that Postfix reads them, that a failure is told and
// tried again, and that nothing else stays in the directory.
func TestMirrors_Kept(t *testing.T) {
	if _, err := exec.LookPath("postmap"); err != nil {
		t.Skipf("no postmap: %v", err)
	}
	dir := shortDir(t)
	conf := filepath.Join(dir, "conf")
	for _, d := range []string{conf, filepath.Join(dir, "lmdb")} {
		os.Mkdir(d, 0o755)
	}
	os.WriteFile(filepath.Join(conf, "main.cf"), []byte("compatibility_level = 3.6\n"), 0o644)
	lmdb, text, late := filepath.Join(dir, "lmdb", "v"), filepath.Join(dir, "v.text"), filepath.Join(dir, "late", "r")
	os.WriteFile(filepath.Join(dir, "lmdb", ".v.postraft-1.lmdb"), []byte("left over"), 0o644)
	n := startAgent(t, "--postfix-config", conf, "--mirror", "virtual=lmdb:"+lmdb, "--mirror", "virtual=texthash:"+text+",rules=cidr:"+late)
	query := func(table, key, want string) {
		t.Helper()
		clustertest.Eventually(t, table+" shows "+key, func() error {
			out, _ := exec.Command("postmap", "-c", conf, "-q", key, table).CombinedOutput()
			if got := strings.TrimSuffix(string(out), "\n"); got != want {
				return fmt.Errorf("%q, want %q", got, want)
			}
			return nil
		})
	}
	if got := n.ok("status"); !strings.Contains(got, "failed: ") {
		clustertest.Eventually(t, "a mirror of no table is told", func() error {
			if got := n.ok("status"); !strings.Contains(got, "failed: there is no such raft table") {
				return fmt.Errorf("%s", got)
			}
			return nil
		})
	}
	os.WriteFile(filepath.Join(dir, "lmdb", ".v.postraft-2.lmdb"), []byte("of a postmap that outlived its agent"), 0o644)
	n.ok("table", "create", "virtual")
	n.ok("put", "virtual", "k", "v 1")
	query("lmdb:"+lmdb, "k", "v 1")
	query("texthash:"+text, "k", "v 1")
	n.ok("put", "virtual", "k", "v 2")
	n.ok("put", "virtual", "l", "w")
	query("lmdb:"+lmdb, "k", "v 2")
	query("lmdb:"+lmdb, "l", "w")
	os.Remove(text)
	os.Remove(lmdb + ".lmdb")
	query("texthash:"+text, "l", "w")
	query("lmdb:"+lmdb, "l", "w")
	if r := n.runIn("192.0.2.0/24 REJECT\n", "table", "import", "rules", "--type", "cidr", "-"); r.code != 0 {
		t.Fatalf("import: %+v", r)
	}
	clustertest.Eventually(t, "a directory that is not there is told", func() error {
		if got := n.ok("status"); !strings.Contains(got, "no such file or directory") || !strings.Contains(got, "lmdb:"+lmdb) {
			return fmt.Errorf("%s", got)
		}
		return nil
	})
	os.Mkdir(filepath.Join(dir, "late"), 0o755)
	query("cidr:"+late, "192.0.2.7", "REJECT")
	clustertest.Eventually(t, "all mirrors are current", func() error {
		s := n.object("status")
		for _, m := range s["mirrors"].([]any) {
			if m.(map[string]any)["current"] != true {
				return fmt.Errorf("%v", m)
			}
		}
		return nil
	})
	n.ok("table", "drop", "virtual")
	clustertest.Eventually(t, "a table that was dropped is told", func() error {
		if got := n.ok("status"); strings.Count(got, "there is no such raft table") != 2 || !strings.Contains(got, lmdb+" stays as it is") {
			return fmt.Errorf("%s", got)
		}
		return nil
	})
	query("lmdb:"+lmdb, "l", "w")
	var left []string
	for _, d := range []string{dir, filepath.Join(dir, "lmdb"), filepath.Join(dir, "late")} {
		names, _ := filepath.Glob(filepath.Join(d, ".*"))
		left = append(left, names...)
	}
	if len(left) > 0 {
		t.Errorf("left over: %v", left)
	}
}

// FuzzTableWords ensures that no word of the settings alias, mirror and watch_file does harm, and that what is taken
// is a name of a raft table with a table or a file of Postfix's.
func FuzzTableWords(f *testing.F) {
	for _, word := range []string{"virtual=lmdb:/etc/postfix/virtual", "proxy:hash:/a=b=virtual", "inline:{a=b}=raft:virtual", "=", ":", "a=:/", "a=lmdb:/../x", "a={"} {
		f.Add(word)
	}
	f.Fuzz(func(t *testing.T, word string) {
		if table, target, err := parseMirror(word); err == nil && (dict.CheckTableName(table) != nil || !filepath.IsAbs(target.Map)) {
			t.Errorf("mirror %q: %q %v", word, table, target)
		}
		if asked, table, err := parseAlias(word); err == nil && (dict.CheckTableName(table) != nil || !strings.Contains(asked, ":")) {
			t.Errorf("alias %q: %q %q", word, asked, table)
		}
		if f, err := parseWatchFile(word); err == nil && (dict.CheckTableName(f.table) != nil || f.path == "") {
			t.Errorf("watch_file %q: %+v", word, f)
		}
		checkMirrors([]string{word, word})
		parseAliases([]string{word, word})
	})
}

package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestSnapshot_Commands ensures that a saved file is whole, can be inspected and restored, in all and in part,
// and that a damaged one changes nothing.
func TestSnapshot_Commands(t *testing.T) {
	n := startAgent(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "all.snap")
	n.runIn("k 1\n", "table", "import", "a", "-")
	n.runIn("k 2\n", "table", "import", "b", "-")
	if out := n.ok("snapshot", "save", file); !strings.Contains(out, file+": sound; log index") || !strings.Contains(out, "\na ") {
		t.Errorf("save: %q", out)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 1 {
		t.Errorf("save left %v, %v", left, err)
	}
	info := n.object("snapshot", "inspect", file)
	if fields(info) != "created file index node tables term version" || info["node"] != "n1" || len(info["tables"].([]any)) != 2 {
		t.Errorf("inspect --json: %v", info)
	}
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if r := n.run("snapshot", "save", "-"); r.code != 0 || !strings.HasPrefix(r.out, "postraft snapshot\n") {
		t.Errorf("save to standard output: exit %d, %s", r.code, r.err)
	}

	away := cli{t, "/nonexistent"}
	away.fails(exitNoAgent, []string{"snapshot save"}, "snapshot", "save", file)
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("a save that failed left %v, %v", left, err)
	}
	if now, err := os.ReadFile(file); err != nil || string(now) != string(whole) {
		t.Errorf("a save that failed changed the old file: %v", err)
	}

	n.ok("put", "a", "k", "new")
	n.ok("put", "b", "k", "new")
	n.ok("table", "create", "c")
	for name, bad := range map[string][]byte{
		"cut":     whole[:len(whole)-3],
		"changed": append(append([]byte{}, whole[:len(whole)/2]...), append([]byte{whole[len(whole)/2] ^ 1}, whole[len(whole)/2+1:]...)...),
		"foreign": []byte("#!/bin/sh\n"),
	} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, bad, 0o644); err != nil {
			t.Fatal(err)
		}
		n.fails(exitData, []string{"snapshot inspect " + path, "bad snapshot"}, "snapshot", "inspect", path)
		n.fails(exitData, []string{"snapshot restore " + path, "bad snapshot", "nothing was changed"}, "snapshot", "restore", path)
	}
	n.fails(exitData, []string{"nosuch"}, "snapshot", "restore", file, "--table", "nosuch")
	n.fails(exitUsage, []string{"the table a is named twice", "name it once"}, "snapshot", "restore", file, "--table", "a", "--table", "b", "--table", "a")
	for _, args := range [][]string{{"table", "import", "a", dir}, {"table", "diff", "a", dir}, {"snapshot", "inspect", dir}} {
		n.fails(exitData, []string{dir + " is a directory\n"}, args...)
	}
	n.fails(exitData, []string{"/nonexistent"}, "snapshot", "inspect", "/nonexistent")
	denied := &failure{"snapshot save x", fileError(&fs.PathError{Op: "open", Path: "x", Err: fs.ErrPermission})}
	if line, code := describe(nil, denied); code != exitNoPerm || !strings.Contains(line, "as root") {
		t.Errorf("a file that others may not read: %d, %s", code, line)
	}
	n.fails(exitData, []string{"/nonexistent"}, "snapshot", "save", "/nonexistent/file")
	if out := n.ok("get", "a", "k"); out != "new\n" {
		t.Errorf("a refused restore changed the table: %q", out)
	}

	if out := n.ok("snapshot", "restore", file, "--table", "a"); out != "a: restored\n" {
		t.Errorf("restore --table: %q", out)
	}
	if a, b := n.ok("get", "a", "k"), n.ok("get", "b", "k"); a != "1\n" || b != "new\n" {
		t.Errorf("after restore --table a: a is %q, b is %q", a, b)
	}
	if got := n.object("snapshot", "restore", file); len(got["tables"].([]any)) != 2 {
		t.Errorf("restore --json: %v", got)
	}
	if b := n.ok("get", "b", "k"); b != "2\n" {
		t.Errorf("after restore: b is %q", b)
	}
	n.fails(exitNotFound, []string{"there is no table c"}, "table", "info", "c")
}

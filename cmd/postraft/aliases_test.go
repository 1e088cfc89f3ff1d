package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"postraft/cluster/clustertest"
	"postraft/cluster/trust"
)

// TestAliases_Parse ensures that aliases are taken from lists, and that what cannot be one is refused.
func TestAliases_Parse(t *testing.T) {
	s, _, err := loaded(t, "alias = hash:/etc/postfix/virtual=virtual,\n  proxy:inline:{ {a = b} c=d }=raft:other\n", nil)
	if err != nil {
		t.Fatal(err)
	}
	got, err := parseAliases(s.aliases)
	if err != nil || fmt.Sprint(got) != "map[hash:/etc/postfix/virtual:virtual inline:{ {a = b} c=d }:other]" {
		t.Errorf("got %v, %v", got, err)
	}
	for text, want := range map[string]string{
		"x":                   "want TYPE:NAME=TABLE",
		"x=y":                 "want TYPE:NAME=TABLE",
		"hash:=y":             "want TYPE:NAME=TABLE",
		"raft:x=y":            "its own name already",
		"hash:/x=a/b":         "table name",
		"hash:/x=a hash:/x=b": "hash:/x stands for a and for b",
		"hash:/" + strings.Repeat("x", 9000) + "=a": "at most",
	} {
		if _, _, err := loaded(t, "alias = "+text+"\n", nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40s: %v, want %q", text, err, want)
		}
	}
}

// TestAliases_Served ensures that an agent answers for a table of an unchanged main.cf, shows so, and takes over
// other aliases on SIGHUP.
func TestAliases_Served(t *testing.T) {
	dir := shortDir(t)
	if err := os.WriteFile(filepath.Join(dir, "secret"), []byte(trust.NewSecret()), 0o600); err != nil {
		t.Fatal(err)
	}
	conf := filepath.Join(dir, "postraft.cf")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(conf, []byte("bootstrap_expect = 1\nproxy_read_maps = proxy:hash:/v, proxy:hash:/w\nproxy_write_maps = proxy:hash:/v\n"+text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("alias = hash:/v=virtual\n")
	read, rw := filepath.Join(dir, "read"), filepath.Join(dir, "write")
	n := startAgentIn(t, dir, "--config", conf, "--proxymap-socket", read, "--proxywrite-socket", rw, "--mail-version", "3.7.11")
	n.ok("table", "create", "virtual")
	n.ok("put", "virtual", "k", "v")
	r, w := dialProxymap(t, read), dialProxymap(t, rw)
	if got := r.lookup("hash:/v", "k"); got != "status=0 value=v" {
		t.Errorf("lookup: %s", got)
	}
	if got := w.ask("request", "update", "table", "hash:/v", "flags", "0", "key", "k", "value", "w"); got != "status=0" {
		t.Errorf("update: %s", got)
	}
	if got := n.ok("get", "virtual", "k"); got != "w\n" {
		t.Errorf("get: %s", got)
	}
	if got := n.ok("status"); !strings.Contains(got, "\nALIAS    TABLE\nhash:/v  virtual\n") {
		t.Errorf("status: %s", got)
	}
	if got := n.ok("table", "info", "virtual"); !strings.Contains(got, "\nalias    hash:/v\n") {
		t.Errorf("table info: %s", got)
	}
	if got := n.object("table", "info", "virtual"); fmt.Sprint(got["aliases"]) != "[hash:/v]" || got["name"] != "virtual" {
		t.Errorf("table info: %v", got)
	}
	write("alias = hash:/w=virtual\n")
	n.cmd.Process.Signal(syscall.SIGHUP)
	clustertest.Eventually(t, "SIGHUP brings another alias", func() error {
		if got := r.lookup("hash:/w", "k"); got != "status=0 value=w" {
			return fmt.Errorf("%s", got)
		}
		return nil
	})
	if got := r.lookup("hash:/v", "k"); got != "status=4 value=" {
		t.Errorf("lookup of a former alias: %s", got)
	}
}

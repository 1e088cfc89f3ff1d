package main

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"postraft/cluster/clustertest"
)

// TestLocals_Served ensures that an agent answers local tables without the stock proxymap(8), with raft tables and
// aliases inside, and sees files that change.
func TestLocals_Served(t *testing.T) {
	dir := shortDir(t)
	file := filepath.Join(dir, "text")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("b 1\n")
	read := filepath.Join(dir, "read")
	pipe, alias, text := "pipemap:{raft:virtual texthash:"+file+"}", "unionmap:{hash:/v static:x}", "texthash:"+file
	rules := "unionmap:{pcre:{{/^(q)@/ REJECT $1}} cidr:{{192.0.2.0/24 OK}}}"
	n := startAgent(t, "--proxymap-socket", read, "--mail-version", "3.7.11", "--alias", "hash:/v=virtual",
		"--proxy-read-maps", "proxy:"+pipe+" proxy:"+alias+" proxy:"+text+" proxy:unix:passwd.byname proxy:"+rules)
	n.ok("table", "create", "virtual")
	n.ok("put", "virtual", "a", "b")
	r := dialProxymap(t, read)
	for _, tt := range []struct{ table, key, want string }{
		{text, "b", "status=0 value=1"}, // it waits until the file has been left alone
		{pipe, "a", "status=0 value=1"},
		{pipe, "b", "status=1 value="},
		{alias, "a", "status=0 value=b,x"},
		{alias, "b", "status=0 value=x"},
		{rules, "q@x.test", "status=0 value=REJECT q"},
		{rules, "z", "status=1 value="},
		{"unix:passwd.byname", "no-such-user", "status=1 value="},
	} {
		if got := r.lookup(tt.table, tt.key); got != tt.want {
			t.Errorf("%s %s: %s, want %s", tt.table, tt.key, got, tt.want)
		}
	}
	write("b 2\n")
	clustertest.Eventually(t, "the changed file is seen", func() error {
		if got := r.lookup(pipe, "a"); got != "status=0 value=2" {
			return fmt.Errorf("%s", got)
		}
		return nil
	})
}

package proxy_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"postraft/proxy"
)

// TestParseApproval ensures that the lists of main.cf are read as proxymap(8) reads them.
func TestParseApproval(t *testing.T) {
	file := filepath.Join(t.TempDir(), "list")
	if err := os.WriteFile(file, []byte("# proxy:raft:no\nproxy:raft:f1\n  proxy:raft:f2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		list string
		want []string
	}{
		{"", nil},
		{"proxy:raft:a, proxy:raft:b\tproxy:raft:c\nproxy:raft:d", []string{"raft:a", "raft:b", "raft:c", "raft:d"}},
		{"raft:a hash:/etc/x proxy:nocolon permit_mynetworks", nil},
		{"proxy:proxy:raft:a", []string{"raft:a"}},
		{"check_client_access { proxy:raft:a, timeout=3 } reject", []string{"raft:a"}},
		{"{ proxy:raft:a proxy:raft:b }", []string{"raft:a"}},
		{"unionmap:{proxy:raft:a, { proxy:raft:b x }, hash:c}", []string{"raft:a", "raft:b"}},
		{"pipemap:{proxy:raft:a,unionmap:{proxy:raft:b}}", []string{"raft:a", "raft:b"}},
		{"proxy:unionmap:{static:x, proxy:raft:a}", []string{"unionmap:{static:x, proxy:raft:a}"}},
		{"randmap:{proxy:raft:a}", nil},
		{"proxy:inline:{a=b, c=d}", []string{"inline:{a=b, c=d}"}},
		{file, []string{"raft:f1", "raft:f2"}},
		{"{{{{", nil},
		{"}} proxy:raft:a", []string{"raft:a"}},
	} {
		got := proxy.ParseApproval(tc.list).Tables()
		slices.Sort(got)
		if !slices.Equal(got, tc.want) {
			t.Errorf("%q approves %q, want %q", tc.list, got, tc.want)
		}
		for _, table := range tc.want {
			if !proxy.ParseApproval(tc.list).Allows(table) {
				t.Errorf("%q does not allow %q", tc.list, table)
			}
		}
	}
	if proxy.ApproveAllRaft().Allows("hash:x") || !proxy.ApproveAllRaft().Allows("raft:x") {
		t.Error("ApproveAllRaft")
	}
}

// TestAtLeast ensures that versions are compared by number.
func TestAtLeast(t *testing.T) {
	for version, want := range map[string]bool{"3.5.25": false, "3.6.0": true, "3.11.6": true, "3.12-20260821": true, "2.11": false, "4.0": true, "": true} {
		if proxy.AtLeast(version, 3, 6) != want {
			t.Errorf("%q", version)
		}
	}
}

// TestAskPostfix ensures that an instance is asked with its parameters expanded and overrides applied.
func TestAskPostfix(t *testing.T) {
	postconf, err := exec.LookPath("postconf")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("no Postfix here")
		}
		t.Skip("no Postfix here")
	}
	dir := t.TempDir()
	main := "compatibility_level = 2\nvirtual_alias_maps = proxy:raft:virtual\nmine = proxy:raft:mine\nqueue_directory = /q\n" +
		"proxy_write_maps = $mine\nsmtpd_recipient_restrictions = check_recipient_access { proxy:raft:access, timeout=3 }\n"
	if err := os.WriteFile(filepath.Join(dir, "main.cf"), []byte(main), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "master.cf"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	i, err := proxy.AskPostfix(context.Background(), postconf, dir, []string{"relay_domains=proxy:raft:relay"})
	if err != nil {
		t.Fatal(err)
	}
	read, write := proxy.ParseApproval(i.ReadMaps), proxy.ParseApproval(i.WriteMaps)
	for _, table := range []string{"raft:virtual", "raft:access", "raft:relay", "unix:passwd.byname"} {
		if !read.Allows(table) {
			t.Errorf("%s is not approved by %q", table, i.ReadMaps)
		}
	}
	if !write.Allows("raft:mine") || write.Allows("raft:virtual") || i.QueueDirectory != "/q" || i.MailOwner == "" || !proxy.AtLeast(i.MailVersion, 3, 4) {
		t.Errorf("%+v", i)
	}
	if _, err := proxy.AskPostfix(context.Background(), postconf, "/nonexistent", nil); err == nil {
		t.Error("an instance that is not there was asked without an error")
	}
}

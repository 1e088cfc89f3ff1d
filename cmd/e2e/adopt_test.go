package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"postraft/dict"
)

// adoptable are the tables of a site: its files, by type and name.
func adoptable() map[string]string {
	var virtual, recipients, people strings.Builder
	for i := range 300 {
		fmt.Fprintf(&virtual, "Alias%d@alias.test\tbox%d@relay.test, Other%d@relay.test\n", i, i%40, i)
		fmt.Fprintf(&recipients, "box%d@relay.test\tx\n", i)
		fmt.Fprintf(&people, "person%d@alias.test staff%d\n", i, i%3)
	}
	virtual.WriteString("\"quoted key\"@alias.test\tbox1@relay.test\n  , box2@relay.test\nno-value\nalias1@alias.test twice@relay.test\nStra\u00dfe@alias.test box3@relay.test\n")
	return map[string]string{
		"hash:virtual":       virtual.String(),
		"lmdb:recipients":    recipients.String(),
		"lmdb:people":        people.String(),
		"hash:senders":       "spam@sender.test REJECT not you\nsender2.test REJECT\n.sender3.test DEFER\n",
		"btree:site/virtual": "gone@relay.test elsewhere@else.test\n",
		"texthash:extra":     "extra.test discard:\n",
		"cidr:clients.cidr":  "# ours\n10.0.0.0/8 OK\nif !192.168.0.0/16\n172.16.0.0/12 REJECT inside\n2001:db8::/32 REJECT six\nendif\n192.168.1.1 DUNNO\n0.0.0.0/33 never\n",
		"pcre:headers.pcre":  "/^Subject:.*\\b(lottery|prize)\\b/ HOLD about a $1\n/^List-Id:(?!.*example\\.org)/ WARN list of strangers\n",
		"regexp:helo":        "/^(.*)\\.bad\\.test$/ REJECT $1\n!/\\./ REJECT no dot\n",
	}
}

// adoptDocument is what the test reads of postraft adopt --json.
type adoptDocument struct {
	Imported bool     `json:"imported"`
	FrontEnd []string `json:"front_end"`
	Change   []string `json:"change"`
	Back     []string `json:"back"`
	Verify   string   `json:"verify"`
	Reload   string   `json:"reload"`
	Tables   []struct {
		Table  string `json:"table"`
		Raft   string `json:"raft"`
		Source string `json:"source"`
		State  string `json:"state"`
		Why    string `json:"stays_because"`
		Check  *struct {
			Keys, Found, Absent, Differ int
		} `json:"check"`
	} `json:"tables"`
}

// TestAdopt ensures that a site with tables of many types, some of them nested, comes onto raft tables by the lines
// that postraft adopt prints, gets the same answers for every key before and after, and can go back.
func TestAdopt(t *testing.T) {
	needPostfix(t)
	nodes := newCluster(t)
	s := newSink(t)
	p := newPostfix(t, nodes[0].runDir(), s.port)
	p.master.Stock = true
	p.master.SMTPOpts = "\n  -o smtpd_helo_restrictions=check_helo_access,regexp:$config_directory/helo"
	for name, value := range map[string]string{
		"virtual_alias_maps":        "hash:$config_directory/virtual, pipemap:{lmdb:$config_directory/people, inline:{staff0=box0@relay.test, {staff1 = box1@relay.test}}}",
		"relay_recipient_maps":      "proxy:lmdb:" + p.config() + "/recipients",
		"relocated_maps":            "btree:$site_directory/virtual",
		"site_directory":            "$config_directory/site",
		"transport_maps":            "proxy:unionmap:{texthash:$config_directory/extra, inline:{inline.test=discard:}}",
		"smtpd_restriction_classes": "strangers",
		"strangers":                 "check_sender_access hash:$config_directory/senders",
		"smtpd_sender_restrictions": "permit_sasl_authenticated, strangers",
		"smtpd_client_restrictions": "check_client_access cidr:$config_directory/clients.cidr",
		"header_checks":             "pcre:$config_directory/headers.pcre",
		"proxy_write_maps":          "",
		"smtp_tls_policy_maps":      "static:none",
		"alias_maps":                "hash:" + p.config() + "/aliases",
		"local_recipient_maps":      "proxy:unix:passwd.byname $alias_maps",
		"smtpd_helo_required":       "yes",
		"mail_name":                 "it's a $myhostname",
		"default_process_limit":     "1", // no second smtpd that is still starting while main.cf changes
		"smtpd_data_restrictions":   "check_sender_access hash:$config_directory/senders",
	} {
		p.settings[name] = value
	}
	p.configure()
	aged(t, filepath.Join(p.config(), "main.cf"))
	if err := os.Mkdir(filepath.Join(p.config(), "site"), 0o755); err != nil {
		t.Fatal(err)
	}
	postmap := func(stdin, program string, args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), installed().command(program), append([]string{"-c", p.config()}, args...)...)
		cmd.Stdin = strings.NewReader(stdin)
		var said strings.Builder
		cmd.Stderr = &said
		out, _ := cmd.Output() // 1 is also: nothing found
		if strings.Contains(said.String(), "fatal: ") {
			t.Fatalf("%s %s: %s", program, strings.Join(args, " "), said.String())
		}
		return string(out)
	}
	var keys []string
	for table, text := range adoptable() {
		typ, file, _ := strings.Cut(table, ":")
		path := filepath.Join(p.config(), file)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		aged(t, path)
		switch typ {
		case "hash", "lmdb", "btree":
			postmap("", "postmap", typ+":"+path)
		}
		if _, err := dict.ReadSource(strings.NewReader(text), dict.SourceOptions{Lenient: true}, func(e dict.SourceEntry) error {
			if typ != "pcre" && typ != "regexp" {
				keys = append(keys, string(e.Key), strings.ToUpper(string(e.Key)))
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(filepath.Join(p.config(), "recipients")); err != nil { // only the database is left
		t.Fatal(err)
	}
	os.WriteFile(filepath.Join(p.config(), "aliases"), []byte("postmaster: root\n"), 0o644)
	postmap("", "postalias", "hash:"+filepath.Join(p.config(), "aliases"))
	keys = append(keys, "10.1.2.3", "11.0.0.1", "172.16.0.1", "172.32.0.0", "192.168.1.1", "192.168.1.2", "2001:db8::1", "2001:db9::", "::",
		"a.bad.test", "A.Bad.Test", "nodot", "some.test", "Subject: you won the LOTTERY", "Subject: x", "List-Id: <a.example.org>", "List-Id: <b.test>")
	for i := range 1000 {
		keys = append(keys, fmt.Sprintf("absent%d@alias.test", i))
	}
	// Every table of main.cf and master.cf, as Postfix would open it.
	tables := func() (words []string) {
		for _, param := range []string{"virtual_alias_maps", "relay_recipient_maps", "relocated_maps", "transport_maps", "strangers", "smtpd_data_restrictions",
			"smtpd_client_restrictions", "header_checks"} {
			words = append(words, dict.Words(strings.TrimSpace(postmap("", "postconf", "-xh", param)))...)
		}
		_, helo, _ := strings.Cut(strings.TrimSpace(postmap("", "postconf", "-Px")), "smtpd_helo_restrictions = ")
		words = append(words, dict.Words(helo)...)
		return slices.DeleteFunc(words, func(w string) bool { return !strings.Contains(w, ":") })
	}
	answers := func() (all []string) {
		for _, table := range tables() {
			all = append(all, postmap(strings.Join(keys, "\n")+"\n", "postmap", "-q", "-", table))
		}
		return all
	}
	p.start()
	aged(t, filepath.Join(p.config(), "main.cf"))
	if got := len(tables()); got != 10 {
		t.Fatalf("%d tables: %q", got, tables())
	}
	mainBefore, masterBefore := postmap("", "postconf", "-n"), postmap("", "postconf", "-M")
	before := answers()
	p.wantRcpt("spam@sender.test", "box1@relay.test", "554 5.7.1")

	runDir := filepath.Join(nodes[0].dir, "run {of} an agent") // master.cf has it in braces
	if err := os.Symlink(nodes[0].runDir(), runDir); err != nil {
		t.Fatal(err)
	}
	adopt := func(args ...string) (d adoptDocument) {
		t.Helper()
		out, status := command(t, "", program(t, "postraft"), append([]string{"adopt", "--json", "--run-dir", runDir, "--config-dir", p.config()}, args...)...)
		if status != 0 {
			t.Fatalf("adopt %q: exit status %d\n%s", args, status, out)
		}
		if err := json.Unmarshal([]byte(out), &d); err != nil {
			t.Fatalf("%v in %s", err, out)
		}
		return d
	}
	plan := adopt()
	if plan.Imported || nodes[0].must("", "table", "list", "--json") != "[]\n" {
		t.Error("without --yes something was imported")
	}
	done := adopt("--yes")
	shared := 0
	for _, table := range done.Tables {
		if table.Raft == "" {
			continue
		}
		shared++
		c := table.Check
		if c == nil || c.Differ != 0 || c.Absent < 1000 || c.Found == 0 {
			t.Errorf("%s: check %+v", table.Table, c)
		}
		if want := map[bool]string{true: "database", false: "text"}[table.Raft == "recipients"]; table.Source != want {
			t.Errorf("%s is taken from its %s, want %s", table.Table, table.Source, want)
		}
	}
	if shared != 9 || !done.Imported || !slices.Equal(plan.Change, done.Change) || !slices.Equal(plan.Back, done.Back) {
		t.Errorf("%d tables are shared; %+v", shared, done)
	}
	if now := postmap("", "postconf", "-n") + postmap("", "postconf", "-M"); now != mainBefore+masterBefore {
		t.Errorf("adopt changed the configuration:\n%s", now)
	}

	shell := func(lines ...string) {
		t.Helper()
		script := "set -e\nPATH=" + installed().commands + ":" + filepath.Dir(program(t, "postraft")) + ":$PATH\n" + strings.Join(lines, "\n") + "\n"
		if out, status := command(t, script, "/bin/sh"); status != 0 {
			t.Fatalf("exit status %d of\n%s\n%s", status, script, out)
		}
	}
	shell(append(append(done.FrontEnd, done.Change...), done.Reload)...)
	if left := strings.Join(tables(), " "); strings.Contains(left, p.config()) || strings.Count(left, "raft:") != 10 {
		t.Errorf("tables after the change: %s", left)
	}
	aged(t, filepath.Join(p.config(), "main.cf"))
	shell(done.Verify)
	after := answers()
	for i := range before {
		if after[i] != before[i] {
			t.Errorf("%s answers\n%s\nit was\n%s", tables()[i], tail(after[i], 20), tail(before[i], 20))
		}
	}
	if again := adopt("--yes"); len(again.Change)+len(again.FrontEnd) != 0 {
		t.Errorf("after the change there is more to change: %+v", again)
	}
	p.wantRcpt("spam@sender.test", "box1@relay.test", "554 5.7.1")
	p.wantRcpt("a@sender.test", "alias7@alias.test", "250")
	p.wantRcpt("a@sender.test", "person1@alias.test", "250")
	p.wantRcpt("a@sender.test", "gone@relay.test", "550")
	p.wantRcpt("a@sender.test", "root@local.test", "250")

	p.quiet("panic:", "throttling", "fatal:")

	// A daemon that master starts between a change of main.cf and the reload asks for tables that are not approved yet, and
	// ends: that is Postfix's own, whoever serves proxymap.
	shell(append(done.Back, done.Reload)...)
	if now := postmap("", "postconf", "-n"); now != mainBefore {
		t.Errorf("main.cf after the way back:\n%s\nit was\n%s", now, mainBefore)
	}
	if now := postmap("", "postconf", "-M"); now != masterBefore {
		t.Errorf("master.cf after the way back:\n%s\nit was\n%s", now, masterBefore)
	}
	if back := answers(); !slices.Equal(back, before) {
		t.Error("the answers after the way back are others")
	}
	p.quiet("panic:", "throttling")
}

// aged makes a file one of an hour ago: Postfix's programs wait for one that is being written to.
func aged(t *testing.T, path string) {
	t.Helper()
	past := time.Now().Add(-time.Hour)
	if err := os.Chtimes(path, past, past); err != nil {
		t.Fatal(err)
	}
}

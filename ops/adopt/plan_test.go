package adopt

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"postraft/ops"
)

// TestPlan_Outcomes ensures that each table is judged by its type and by the parameters that come to it.
func TestPlan_Outcomes(t *testing.T) {
	for _, test := range []struct {
		lines   []string
		options Options
		want    []string // table: raft table, or the beginning of why it stays
	}{
		{[]string{"virtual_alias_maps = hash:$config_directory/virtual, proxy:lmdb:/etc/postfix/people"}, Options{},
			[]string{"hash:/etc/postfix/virtual: virtual", "lmdb:/etc/postfix/people: people"}},
		{[]string{"transport_maps = hash:/x/t proxy:hash:/x/t", "relocated_maps = hash:/x/t"}, Options{Prefix: "mx-"}, []string{"hash:/x/t: mx-t"}},
		{[]string{"virtual_alias_maps = hash:/x/a, ldap:/l, static:y, regexp:{{/a/ b}}, raft:r, proxy:raft:s, proxy:unix:passwd.byname, sqlite:/q"}, Options{},
			[]string{"hash:/x/a: a", "ldap:/l: asked of a server", "static:y: in the configuration", "regexp:{{/a/ b}}: in the configuration", "raft:r: a raft table already",
				"raft:s: a raft table already", "unix:passwd.byname: the accounts", "sqlite:/q: a database of another kind"}},
		{[]string{"alias_maps = hash:/etc/aliases", "local_recipient_maps = $alias_maps"}, Options{}, []string{"hash:/etc/aliases: local(8) refuses"}},
		{[]string{"alias_maps = $mine", "mine = hash:/a"}, Options{}, []string{"hash:/a: alias_maps uses it: local(8) refuses"}},
		{[]string{"alias_maps = hash:/a", "virtual_alias_maps = hash:/a"}, Options{}, []string{"hash:/a: a"}},
		{[]string{"virtual_mailbox_maps = hash:/m", "virtual_uid_maps = hash:/u"}, Options{}, []string{"hash:/m: virtual(8) refuses", "hash:/u: virtual(8) refuses"}},
		{[]string{"virtual_mailbox_maps = hash:/m", "virtual_transport = lmtp:unix:/d", "service lmtp unix - - n - - lmtp"}, Options{}, []string{"hash:/m: m"}},
		{[]string{"virtual_mailbox_maps = hash:/m", "virtual_transport = nobody-knows"}, Options{}, []string{"hash:/m: virtual(8) refuses"}},
		{[]string{"mailbox_command_maps = hash:/m", "authorized_flush_users = hash:/f", "smtp_tls_session_cache_database = btree:/s"}, Options{},
			[]string{"hash:/f: read by commands", "hash:/m: local(8) refuses", "btree:/s: a cache of this host"}},
		{[]string{"default address_verify_map = btree:/var/v", "default authorized_mailq_users = static:anyone"}, Options{}, []string{"btree:/var/v: a cache of this host"}},
		{[]string{"default address_verify_map = btree:/var/v"}, Options{Caches: true}, []string{"btree:/var/v: v"}},
		{[]string{"virtual_alias_maps = hash:/a", "relocated_maps = hash:/b", "transport_maps = $more", "more = hash:/c"}, Options{Only: []string{"transport_maps", "hash:/a"}},
			[]string{"hash:/c: c", "hash:/b: not chosen", "hash:/a: a"}},
		{[]string{"virtual_alias_maps = hash:/a", "submission/inet/smtpd_client_restrictions = check_client_access,cidr:/nets"}, Options{Only: []string{"smtpd_client_restrictions"}},
			[]string{"hash:/a: not chosen", "cidr:/nets: nets"}},
		{[]string{"proxy_read_maps = proxy:hash:/elsewhere", "alias_database = hash:/etc/aliases"}, Options{}, nil},
		{[]string{"virtual_alias_maps = hash:/a"}, Options{Names: map[string]string{"hash:/a": "other"}}, []string{"hash:/a: other"}},
	} {
		p := plan(t, test.options, test.lines...)
		var got []string
		for _, table := range p.Tables {
			got = append(got, table.Name.String()+": "+table.Raft+table.Stays)
		}
		ok := len(got) == len(test.want)
		for i := 0; ok && i < len(got); i++ {
			ok = strings.HasPrefix(sorted(got)[i], sorted(test.want)[i])
		}
		if !ok {
			t.Errorf("%q:\n%s\nwant\n%s", test.lines, strings.Join(sorted(got), "\n"), strings.Join(sorted(test.want), "\n"))
		}
	}
}

// TestPlan_Expressions ensures that a table which only a conditional expression makes up is shown and left alone.
func TestPlan_Expressions(t *testing.T) {
	s := parse("a = ${x?{hash:/a}:{hash:/b}} hash:/c$nothing\nx = 1\nring = hash:$ring\n", "a = hash:/a hash:/c\nx = 1\nring = hash:hash:\n", "a = 1\n", "", "", "")
	p, err := NewPlan(s, Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range p.Tables {
		if by := table.Name.String(); by == "hash:/c" != (table.Raft == "c") || by == "hash:/a" && !strings.Contains(table.Stays, "expression") {
			t.Errorf("%s: %q, %q", by, table.Raft, table.Stays)
		}
	}
	if len(p.Tables) < 2 {
		t.Errorf("%d tables", len(p.Tables))
	}
}

// TestPlan_Names ensures that names are valid, differ, and depend on nothing but the tables.
func TestPlan_Names(t *testing.T) {
	long := "/" + strings.Repeat("d/", 20) + strings.Repeat("x", 200)
	for tables, want := range map[string]string{
		"hash:/etc/postfix/virtual":               "virtual",
		"hash:/a/virtual hash:/b/virtual":         "a_virtual b_virtual",
		"hash:/x/a/virtual hash:/y/a/virtual":     "x_a_virtual y_a_virtual",
		"hash:/x/virtual lmdb:/x/virtual cidr:/c": "x_virtual.hash x_virtual.lmdb c",
		"hash:/x/v;ä.cidr":                        "v__.cidr",
		"hash:" + long:                            "?",
		"hash:/a_b hash:/a.b hash:/a;b":           "?",
	} {
		seen := map[string]bool{}
		var got []string
		for _, table := range plan(t, Options{}, "virtual_alias_maps = "+tables).Tables {
			got = append(got, table.Raft)
			seen[table.Raft] = true
		}
		if len(seen) != len(got) || want != "?" && strings.Join(got, " ") != want {
			t.Errorf("%s: %q, want %s", tables, got, want)
		}
	}
}

// TestPlan_Refused ensures that wishes that cannot be met are errors.
func TestPlan_Refused(t *testing.T) {
	for want, o := range map[string]Options{
		"no parameter that holds a table":  {Only: []string{"hash:/nowhere"}},
		"it cannot be shared: local(8)":    {Only: []string{"hash:/etc/aliases"}},
		"no table that can be shared":      {Names: map[string]string{"hash:/etc/aliases": "x"}},
		"only A-Z":                         {Names: map[string]string{"hash:/v": "a/b"}},
		"hash:/v and hash:/w would both":   {Names: map[string]string{"hash:/w": "v"}},
		"/: only A-Z a-z 0-9 . _ - are al": {Prefix: "a/"},
	} {
		_, err := NewPlan(site(t, "alias_maps = hash:/etc/aliases", "virtual_alias_maps = hash:/v hash:/w"), o)
		if err == nil || !strings.Contains(strings.ReplaceAll(err.Error(), `"a/v"`, "/"), want) {
			t.Errorf("%+v: %v, want %q", o, err, want)
		}
	}
}

// TestSteps_Values ensures that only the words of shared tables change, in the form that Postfix and the agent
// understand there.
func TestSteps_Values(t *testing.T) {
	for _, test := range []struct{ before, after string }{
		{"hash:$config_directory/v,  texthash:/t", "proxy:raft:v,  proxy:raft:t"},
		{"proxy:hash:/v", "proxy:raft:v"},
		{"permit, check_client_access !cidr:/c, reject", "permit, check_client_access !proxy:raft:c, reject"},
		{"check_x { hash:/v, a = b }, pcre:/p", "check_x { proxy:raft:v, a = b }, proxy:raft:p"},
		{"pipemap:{hash:/v, inline:{a=b}}", "pipemap:{proxy:raft:v, inline:{a=b}}"},
		{"proxy:pipemap:{hash:/v, inline:{a=b}}", "proxy:pipemap:{raft:v, inline:{a=b}}"},
		{"proxy:unionmap:{hash:/v,pipemap:{lmdb:/w proxy:hash:/v}}", "proxy:unionmap:{raft:v,pipemap:{raft:w raft:v}}"},
		{"proxy:unionmap:{hash:/v,mysql:/m,static:a}", "unionmap:{proxy:raft:v,proxy:mysql:/m,static:a}"},
		{"unionmap:{hash:/v,proxy:mysql:/m}", "unionmap:{proxy:raft:v,proxy:mysql:/m}"},
		{"ldap:/l hash:/v $relocated_maps it's", "ldap:/l proxy:raft:v $relocated_maps it's"},
	} {
		p := plan(t, Options{}, "virtual_alias_maps = "+test.before)
		s, err := p.Steps(t.Context(), p.Shared(), StepsConfig{Approved: approveAll})
		if err != nil {
			t.Fatal(err)
		}
		want := []string{"postconf -e " + Quote("virtual_alias_maps = "+test.after)}
		back := "postconf -e " + Quote("virtual_alias_maps = "+test.before)
		if fmt.Sprint(s.Change) != fmt.Sprint(want) || s.Back[0] != back {
			t.Errorf("%s:\n%q, want\n%q; back: %s", test.before, s.Change, want, s.Back[0])
		}
	}
}

// TestSteps_Refused ensures that rules which the agent would read otherwise are asked of the agent nowhere.
func TestSteps_Refused(t *testing.T) {
	p := plan(t, Options{}, "header_checks = proxy:pcre:/odd", "virtual_alias_maps = hash:/v proxy:pipemap:{hash:/w,pcre:/odd,inline:{a=b}} proxy:texthash:/stays pipemap:{proxy:pcre:/odd,static:x}")
	for _, table := range p.Tables {
		if table.Name.Map == "/odd" {
			table.stay("refused", "")
			table.refused = true
		}
		if table.Name.Map == "/stays" {
			table.stay("not chosen", "")
		}
	}
	s, err := p.Steps(t.Context(), p.Shared(), StepsConfig{Approved: approveAll})
	if err != nil {
		t.Fatal(err)
	}
	want := "postconf -e 'header_checks = pcre:/odd'\n" +
		"postconf -e 'virtual_alias_maps = proxy:raft:v pipemap:{proxy:raft:w,pcre:/odd,inline:{a=b}} proxy:texthash:/stays pipemap:{pcre:/odd,static:x}'"
	if got := strings.Join(s.Change, "\n"); got != want {
		t.Errorf("\n%s\nwant\n%s", got, want)
	}
	if len(s.Notes) != 1 || !strings.HasSuffix(s.Notes[0], ": /stays") {
		t.Errorf("notes %q", s.Notes)
	}
}

// TestSteps_Alias ensures that with aliases only what is not proxied changes in main.cf.
func TestSteps_Alias(t *testing.T) {
	p := plan(t, Options{Alias: true}, "virtual_alias_maps = proxy:hash:/v hash:/w", "transport_maps = proxy:pipemap:{hash:/t,inline:{a=b}}", "relocated_maps = proxy:pipemap:{hash:/r,mysql:/m}")
	s, err := p.Steps(t.Context(), p.Shared(), StepsConfig{Approved: approveAll})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"postconf -e 'relocated_maps = pipemap:{proxy:raft:r,proxy:mysql:/m}'",
		"postconf -e 'virtual_alias_maps = proxy:hash:/v proxy:raft:w'",
	}
	if strings.Join(sorted(s.Change), "\n") != strings.Join(want, "\n") {
		t.Errorf("change: %q", s.Change)
	}
	if got := fmt.Sprint(s.Aliases); got != "[alias =     hash:/t=t     hash:/v=v]" {
		t.Errorf("aliases: %s", got)
	}
	want = []string{"hash:/v=>proxy:hash:/v", "hash:/w=w", "pipemap:{hash:/t,inline:{a=b}}=>proxy:pipemap:{hash:/t,inline:{a=b}}", "pipemap:{hash:/r,mysql:/m}=>pipemap:{proxy:raft:r,proxy:mysql:/m}"}
	for _, pair := range want {
		if !strings.Contains(s.Check, Quote(pair)) {
			t.Errorf("check has no %s: %s", pair, s.Check)
		}
	}
	if strings.Contains(s.Check, "hash:/v=v") || strings.Contains(s.Check, "hash:/t=t") {
		t.Errorf("check: %s", s.Check)
	}
	p.Aliases([]ops.Alias{{Name: "hash:/v", Table: "there"}, {Name: "hash:/none", Table: "x"}})
	if v := p.byName["hash:/v"]; v.Raft != "" || !strings.Contains(v.Stays, "raft table there already") {
		t.Errorf("%+v", v)
	}
}

// TestSteps_Approval ensures that what proxymap would deny is added to its list, and taken from it on the way back.
func TestSteps_Approval(t *testing.T) {
	p := plan(t, Options{Caches: true}, "smtpd_data_restrictions = check_sender_access hash:/s", "address_verify_map = btree:/var/cache", "postscreen_access_list = proxy:unionmap:{cidr:/c}")
	var asked []string
	s, err := p.Steps(t.Context(), p.Shared(), StepsConfig{RunDir: "/r", ConfigDir: "/c d", Approved: func(_ context.Context, overrides []string) (read, write func(string) bool, err error) {
		asked = overrides
		no := func(string) bool { return false }
		return no, no, nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	all := strings.Join(s.Change, "\n")
	for _, want := range []string{
		"postconf -c '/c d' -e 'proxy_read_maps = $virtual_alias_maps proxy:raft:s proxy:unionmap:{raft:c}'",
		"postconf -c '/c d' -e 'proxy_write_maps = $address_verify_map proxy:raft:cache'",
		"postconf -c '/c d' -e 'address_verify_map = proxy:raft:cache'",
	} {
		if !strings.Contains(all, want) {
			t.Errorf("no line %s in\n%s", want, all)
		}
	}
	if !strings.Contains(strings.Join(s.Back, "\n"), "postconf -c '/c d' -X proxy_read_maps\n") {
		t.Errorf("back: %q", s.Back)
	}
	if len(asked) != 3 || !strings.Contains(fmt.Sprint(asked), "smtpd_data_restrictions=check_sender_access proxy:raft:s") {
		t.Errorf("asked with %q", asked)
	}
	if !strings.Contains(s.Check, "--run-dir /r --config-dir '/c d' 'unionmap:{cidr:/c}=>proxy:unionmap:{raft:c}'") && !strings.Contains(s.Check, "hash:/s=s 'unionmap:{cidr:/c}=>proxy:unionmap:{raft:c}'") {
		t.Errorf("check: %s", s.Check)
	}
	if strings.Contains(s.Check, "cache") || len(s.Notes) != 1 {
		t.Errorf("check: %s, notes %q", s.Check, s.Notes)
	}
}

// TestSteps_Master ensures that values and services of master.cf are changed and brought back by what postconf takes
// there, which is no white space in a value.
func TestSteps_Master(t *testing.T) {
	p := plan(t, Options{}, "submission/inet/smtpd_client_restrictions = check_client_access cidr:/c", "a-b/unix/virtual_alias_maps = pipemap:{hash:/v inline:{{a = b c}}}",
		"service local-x unix - - n - - proxymap", "service proxymap-local unix - - n - - proxymap -n proxymap")
	s, err := p.Steps(t.Context(), p.Shared(), StepsConfig{Approved: approveAll, RunDir: "/run/x"})
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		got  []string
		want string
	}{
		{s.Change, `postconf -Pe submission/inet/smtpd_client_restrictions=check_client_access,proxy:raft:c
postconf -e 'postraft_a_b_unix_virtual_alias_maps = pipemap:{proxy:raft:v inline:{{a = b c}}}'
postconf -Pe 'a-b/unix/virtual_alias_maps=$postraft_a_b_unix_virtual_alias_maps'`},
		{s.FrontEnd, `postconf -Me 'proxymap/unix=proxymap unix - - n - 1 postraft-proxymap --run-dir /run/x -o passthrough_service=proxymap-local'
postconf -Me 'proxywrite-local/unix=proxywrite-local unix - - n - 1 proxymap -n proxywrite'
postconf -Me 'proxywrite/unix=proxywrite unix - - n - 1 postraft-proxymap --run-dir /run/x -o passthrough_service=proxywrite-local'`},
		{s.Back, `postconf -Pe submission/inet/smtpd_client_restrictions=check_client_access,cidr:/c
postconf -e 'postraft_a_b_unix_virtual_alias_maps = pipemap:{hash:/v inline:{{a = b c}}}'
postconf -Pe 'a-b/unix/virtual_alias_maps=$postraft_a_b_unix_virtual_alias_maps'
postconf -Me 'proxymap/unix=proxymap unix - - n - - proxymap'
postconf -Me 'proxywrite/unix=proxywrite unix - - n - 1 proxymap'
postconf -MX proxywrite-local/unix`},
	} {
		if strings.Join(test.got, "\n") != test.want {
			t.Errorf("\n%s\nwant\n%s", strings.Join(test.got, "\n"), test.want)
		}
	}
	for dir, want := range map[string]string{
		"/run/x y": " --run-dir {{/run/x y}}", "/run/{x}": " --run-dir {{/run/{x}}}", "/run/a,b": " --run-dir /run/a,b",
		"/run/{x y": "", "/run/x}": "", "/run/x ": "", "/run/x\ny": "",
	} {
		got, err := StepsConfig{RunDir: dir}.runDirOption()
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v, want %q", dir, got, err, want)
		}
	}
	done := plan(t, Options{}, "virtual_alias_maps = hash:/v", "service x unix - - n - - x", "default proxymap_service_name = x")
	done.Settings.services = []service{{"x/unix", strings.Fields("x unix - - n - 1 postraft-proxymap")}, {"proxywrite/unix", strings.Fields("proxywrite unix - - n - 1 /usr/lib/postraft-proxymap")}}
	if s, err := done.Steps(t.Context(), done.Shared(), StepsConfig{Approved: approveAll}); err != nil || len(s.FrontEnd) != 0 {
		t.Errorf("with the front end there: %q, %v", s.FrontEnd, err)
	}
}

func sorted(s []string) []string { return slices.Sorted(slices.Values(s)) }

package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestMail_PatternTables ensures that a genuine Postfix is told that the keys of rules are patterns, finds what
// they say on every node, may not update them, and obeys them in a session.
func TestMail_PatternTables(t *testing.T) {
	nodes, p, _ := newMailHost(t, func(p *postfix) {
		p.settings["smtpd_client_restrictions"] = "check_client_access proxy:raft:nets"
		p.settings["smtpd_sender_restrictions"] = "check_sender_access proxy:raft:rules, check_sender_access proxy:raft:senders"
		p.settings["proxy_read_maps"] = "$virtual_alias_maps $relay_recipient_maps $relocated_maps proxy:raft:senders proxy:raft:nets proxy:raft:rules proxy:raft:posix proxy:unix:passwd.byname"
		p.settings["proxy_write_maps"] += " proxy:raft:nets"
	})
	nodes[0].must("if 127.0.0.0/8\n!127.0.0.1 REJECT local\n127.0.0.0/8 DUNNO\nendif\n::/0 six\n", "table", "import", "nets", "-", "--type", "cidr")
	nodes[1].must("/^(?!ok)(\\w+)-bulk@/ 554 5.7.1 no bulk from $1\n", "table", "import", "rules", "-", "--type", "pcre")
	nodes[2].must("/^(.*)@(.*)\\.test$/ <$2:$1>\n", "table", "import", "posix", "-", "--type", "regexp")
	lookup := func(table, key, want string, wantStatus int) {
		t.Helper()
		within(t, 5*time.Second, "postmap -q "+key+" "+table, func() error {
			if out, status := p.postmap("-q", key, "raft:"+table); out != want || status != wantStatus {
				return fmt.Errorf("%q, exit status %d; want %q, %d", out, status, want, wantStatus)
			}
			return nil
		})
	}
	lookup("posix", "Some.Body@Sub.TEST", "<Sub:Some.Body>\n", 0) // with the case of the key
	lookup("nets", "127.0.0.9", "REJECT local\n", 0)
	lookup("nets", "127.0.0.1", "DUNNO\n", 0)
	lookup("nets", "fe80::1", "six\n", 0)
	lookup("nets", "10.0.0.1", "", 1)
	lookup("rules", "ok-bulk@x.test", "", 1)

	p.wantRcpt("Sales-Bulk@sender.test", "box@relay.test", "554 5.7.1")
	p.wantRcpt("a@sender.test", "box@relay.test", "250")

	if out, status := p.postmap("-d", "127.0.0.1", "raft:nets"); status == 0 {
		t.Errorf("postmap -d: %q, exit status %d", out, status)
	}
	c := p.client("proxymap")
	defer c.close()
	reply, err := c.ask("request", "open", "table", "raft:nets", "flags", "0")
	if err != nil || fmt.Sprint(reply) != "[0 32]" {
		t.Errorf("open: %q, %v, want the flag PATTERN", reply, err)
	}
	if out := nodes[2].must("", "get", "--explain", "nets", "127.9.9.9"); !strings.Contains(out, "line 2: !127.0.0.1 REJECT local") {
		t.Errorf("explain: %s", out)
	}
	p.quiet("panic:", "throttling")
}

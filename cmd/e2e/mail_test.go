package e2e

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"postraft/proxy/handoff"
)

// The tests in this file are about the whole: a genuine Postfix and a cluster of three agents.

const (
	virtualSource = `# aliases
alias@alias.test	box@relay.test
"quoted key"@alias.test	box@relay.test
@alias.test	catchall@relay.test
`
	recipientsSource = "box@relay.test x\ncatchall@relay.test x\n"
)

// newMailHost returns a cluster with tables in it and a Postfix at its first node. Its tests measure times, so
// they run alone.
func newMailHost(t *testing.T, change func(*postfix)) ([]*node, *postfix, *sink) {
	t.Helper()
	needPostfix(t)
	nodes := newCluster(t)
	nodes[2].must(virtualSource, "table", "import", "virtual", "-")
	nodes[1].must(recipientsSource, "table", "import", "recipients", "-")
	nodes[0].must("spam@sender.test REJECT not you\n", "table", "import", "senders", "-")
	nodes[0].must("gone@relay.test elsewhere\n", "table", "import", "relocated", "-")
	s := newSink(t)
	p := newPostfix(t, nodes[0].runDir(), s.port)
	if change != nil {
		change(p)
	}
	p.start()
	return nodes, p, s
}

// TestMail ensures that a genuine Postfix takes, refuses, rewrites and delivers mail by replicated tables.
func TestMail(t *testing.T) {
	nodes, p, s := newMailHost(t, func(p *postfix) {
		// verify(8) keeps its cache in a table of the cluster: it opens, updates and scans it.
		p.settings["address_verify_map"] = "proxy:raft:verify"
		p.settings["proxy_write_maps"] += " $address_verify_map"
		p.settings["smtpd_recipient_restrictions"] = "check_recipient_access inline:{probed@relay.test=reject_unverified_recipient}"
		p.settings["address_verify_cache_cleanup_interval"] = "3s"
	})
	lookup := func(key, want string, wantStatus int) {
		t.Helper()
		if out, status := p.postmap("-q", key, "raft:virtual"); out != want || status != wantStatus {
			t.Errorf("postmap -q %s: %q, exit status %d; want %q, %d", key, out, status, want, wantStatus)
		}
	}
	lookup("alias@alias.test", "box@relay.test\n", 0)
	lookup("ALIAS@Alias.Test", "box@relay.test\n", 0)
	lookup(`"quoted key"@alias.test`, "box@relay.test\n", 0)
	lookup("nobody@elsewhere.test", "", 1)

	p.wantRcpt("a@sender.test", "box@relay.test", "250")
	p.wantRcpt("a@sender.test", "other@relay.test", "550 5.1.1")
	p.wantRcpt("spam@sender.test", "box@relay.test", "554 5.7.1")
	p.wantRcpt("a@sender.test", "root@local.test", "250") // unix:passwd.byname, by the stock service
	p.wantRcpt("a@sender.test", "no-such-user@local.test", "550 5.1.1")

	for marker, rcpt := range map[string][2]string{
		"by-alias":    {"alias@alias.test", "box@relay.test"},
		"by-catchall": {"anybody@alias.test", "catchall@relay.test"},
	} {
		if reply, err := p.send(rcpt[0], marker); err != nil || !strings.HasPrefix(reply, "250") {
			t.Fatalf("message to %s: %q, %v", rcpt[0], reply, err)
		}
		within(t, 20*time.Second, "delivery to "+rcpt[0], func() error {
			d, err := s.received(marker)
			if err == nil && fmt.Sprint(d.recipients) != fmt.Sprint([]string{rcpt[1]}) {
				t.Fatalf("message to %s delivered to %s", rcpt[0], d.recipients)
			}
			return err
		})
	}

	if out, status := p.postmap("-q", "x", "raft:secret"); !strings.Contains(out, "not configured for table") || status != 1 {
		t.Errorf("unapproved table: %q, exit status %d", out, status)
	}
	p.logged("postfix/postraft-proxymap[", "warning: to approve this table for read-only access, list proxy:raft:secret in main.cf:proxy_read_maps")

	// Deleting by postmap is seen by every node.
	if out, status := p.postmap("-d", "alias@alias.test", "raft:virtual"); status != 0 {
		t.Errorf("postmap -d: %q, exit status %d", out, status)
	}
	lookup("alias@alias.test", "", 1)
	if out, status := p.postmap("-d", "alias@alias.test", "raft:virtual"); status != 1 {
		t.Errorf("postmap -d of a missing key: %q, exit status %d", out, status)
	}
	within(t, 2*time.Second, "delete on another node", func() error {
		if out, status := nodes[1].run("", "get", "virtual", "alias@alias.test"); status != 1 {
			return fmt.Errorf("get: %q, exit status %d", out, status)
		}
		return nil
	})

	// The probe of an address ends up in verify's cache, which verify scans to clean it.
	nodes[0].must("", "put", "recipients", "probed@relay.test", "x")
	within(t, 20*time.Second, "verified recipient", func() error {
		reply, err := p.rcpt("a@sender.test", "probed@relay.test")
		if err == nil && !strings.HasPrefix(reply, "250") {
			err = fmt.Errorf("reply %q", reply)
		}
		return err
	})
	for _, key := range []string{"probed@relay.test", "_LAST_CACHE_CLEANUP_COMPLETED_"} {
		within(t, 10*time.Second, "cache entry "+key+" on another node", func() error {
			if out, status := nodes[2].run("", "get", "--no-fold", "verify", key); status != 0 {
				return fmt.Errorf("get: %s", out)
			}
			return nil
		})
	}
	p.quiet("panic:", "throttling", "cache cleanup scan terminated due to error")
}

// TestMail_UpdatesAndScans ensures through a client of our own that a write on any node is seen by the very
// next lookup there and soon on the others, and that a scan goes on across a reconnection, deletes and
// inserts. postmap of this Postfix cannot do either over proxy.
func TestMail_UpdatesAndScans(t *testing.T) {
	nodes, p, _ := newMailHost(t, nil)
	type place struct{ write, read *client }
	places := []place{{p.client("proxywrite"), p.client("proxymap")}}
	for _, n := range nodes[1:] {
		places = append(places, place{newClient(n.socket("proxywrite")), newClient(n.socket("proxymap"))})
	}
	for i, at := range places {
		defer at.write.close()
		defer at.read.close()
		for k := range 20 {
			key, value := fmt.Sprintf("k%d-%d", i, k), fmt.Sprint(k)
			if status, err := at.write.update("raft:virtual", key, value); status != ok || err != nil {
				t.Fatalf("update at place %d: %s, %v", i, status, err)
			}
			if status, got, err := at.read.lookup("raft:virtual", key); status != ok || got != value || err != nil {
				t.Fatalf("lookup after the update at place %d: %s %q, %v", i, status, got, err)
			}
			other := places[(i+1)%len(places)]
			within(t, time.Second, "update on another node", func() error {
				if status, got, err := other.read.lookup("raft:virtual", key); status != ok || got != value || err != nil {
					return fmt.Errorf("%s %q, %v", status, got, err)
				}
				return nil
			})
		}
	}
	w := places[0].write
	if status, err := w.remove("raft:virtual", "k0-0"); status != ok || err != nil {
		t.Errorf("delete: %s, %v", status, err)
	}
	if status, err := w.remove("raft:virtual", "k0-0"); status != noKey || err != nil {
		t.Errorf("delete again: %s, %v", status, err)
	}
	if status, err := places[0].read.update("raft:virtual", "x", "y"); status != deny || err != nil {
		t.Errorf("update on proxymap: %s, %v", status, err)
	}
	// An approved table that is not there is made by opening it for writing.
	if reply, err := w.open("raft:made"); err != nil || reply[0] != ok {
		t.Errorf("open: %q, %v", reply, err)
	}
	if status, err := w.update("raft:made", "a", "1"); status != ok || err != nil {
		t.Errorf("update of a new table: %s, %v", status, err)
	}

	seen := map[string]int{}
	last := ""
	for i := 0; ; i++ {
		status, key, _, err := w.scan("raft:virtual", i > 0)
		if err != nil {
			t.Fatal(err)
		}
		if status == noKey {
			break
		}
		if status != ok || key <= last && i > 0 {
			t.Fatalf("scan: status %s, key %q after %q", status, key, last)
		}
		last = key
		seen[key]++
		switch i % 5 {
		case 1: // as the cache cleaner does: the current entry
			if status, err := w.remove("raft:virtual", key); status != ok || err != nil {
				t.Fatalf("delete in a scan: %s, %v", status, err)
			}
		case 2:
			w.close()
		case 3:
			if status, err := places[1].write.update("raft:virtual", "a-before-all", "x"); status != ok || err != nil {
				t.Fatalf("update in a scan: %s, %v", status, err)
			}
		}
	}
	for i := range places {
		for k := range 20 {
			if key := fmt.Sprintf("k%d-%d", i, k); seen[key] != 1 && key != "k0-0" {
				t.Errorf("scan returned %s %d times", key, seen[key])
			}
		}
	}
}

// TestMail_PostmapWrites ensures that the postmap of a Postfix that can, 3.11 and later, fills and lists a raft
// table over proxy, and that an older one refuses by itself without harm.
func TestMail_PostmapWrites(t *testing.T) {
	needPostfix(t)
	nodes, p, _ := newMailHost(t, func(p *postfix) {
		p.settings["proxy_read_maps"] = "$virtual_alias_maps $relay_recipient_maps proxy:raft:made"
	})
	postmap := func(stdin string, args ...string) string {
		t.Helper()
		args = append([]string{"-c", p.config()}, args...)
		out, status := command(t, stdin, installed().command("postmap"), append(args, "proxy:raft:made")...)
		if status != 0 {
			t.Fatalf("postmap %s: exit status %d: %s", args, status, out)
		}
		return out
	}
	if installed().before(t, 3, 11) {
		for _, option := range []string{"-i", "-s"} {
			out, status := command(t, "a b\n", installed().command("postmap"), "-c", p.config(), option, "proxy:raft:made")
			if status == 0 || !strings.Contains(out, "proxy") {
				t.Errorf("postmap %s: exit status %d: %s", option, status, out)
			}
		}
		return
	}
	postmap("B two\na one\nStra\u00dfe three\n", "-i")
	postmap("b TWO\n", "-i", "-r")
	if got, want := postmap("", "-s"), "a\tone\nb\tTWO\nstrasse\tthree\n"; got != want {
		t.Errorf("postmap -s: %q, want %q", got, want)
	}
	if got := postmap("", "-q", "STRASSE"); got != "three\n" {
		t.Errorf("postmap -q: %q", got)
	}
	if out := nodes[0].must("", "list", "made"); out != "a\tone\nb\tTWO\nstrasse\tthree\n" {
		t.Errorf("list: %q", out)
	}
	p.quiet("panic:", "throttling")
}

// TestMail_AgentStopped ensures that clients whose agent ends, dies or is stopped get RETRY within 2 s and an
// answer again soon after it is back, and never "not found".
func TestMail_AgentStopped(t *testing.T) {
	nodes, p, _ := newMailHost(t, nil)
	agent := nodes[0]
	c := p.client("proxymap")
	defer c.close()
	works := func() error {
		status, value, err := c.lookup("raft:virtual", "alias@alias.test")
		if status == noKey {
			t.Fatal("lookup says: not found")
		}
		if status != ok || value != "box@relay.test" || err != nil {
			return fmt.Errorf("lookup: status %s, %v", status, err)
		}
		return nil
	}
	if err := works(); err != nil {
		t.Fatal(err)
	}
	for _, how := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL, syscall.SIGSTOP} {
		for attempt := 1; ; attempt++ {
			if how == syscall.SIGSTOP {
				agent.signal(how)
				within(t, 5*time.Second, "stop", func() error {
					if !handoff.Stopped(agent.cmd.Process.Pid) {
						return errors.New("it still runs")
					}
					return nil
				})
			} else {
				agent.end(how)
			}
			began := time.Now()
			status, _, err := c.lookup("raft:virtual", "alias@alias.test")
			took := time.Since(began)
			if status != retry || err != nil {
				t.Errorf("%v: lookup has status %s, %v; want RETRY", how, status, err)
			}
			p.wantRcpt(fmt.Sprintf("s%d-%d@sender.test", how, attempt), "box@relay.test", "451 4.3.0")
			if how == syscall.SIGSTOP {
				agent.signal(syscall.SIGCONT)
			} else {
				agent.start()
			}
			began = time.Now()
			within(t, 20*time.Second, "recovery", works)
			t.Logf("%v: RETRY after %v, answers again %v after the start", how,
				took.Round(time.Millisecond), time.Since(began).Round(time.Millisecond))
			if took <= 2*time.Second {
				break
			}
			if attempt == busyAttempts {
				t.Errorf("%v: RETRY after %v, want it within 2 s", how, took)
				break
			}
		}
	}
	p.quiet("panic:", "throttling", "status=bounced")
}

// busyAttempts is how often a time is measured before it counts as missed: other tests use the machine too.
const busyAttempts = 3

// TestMail_LeaderKilled ensures that lookups on a survivor go on without a failure when the leader is killed,
// that writes come back within 2 s, and that nothing acknowledged is lost.
func TestMail_LeaderKilled(t *testing.T) {
	nodes, p, _ := newMailHost(t, nil)
	var stop atomic.Bool
	var lookups atomic.Int64
	var work sync.WaitGroup
	defer work.Wait()
	defer stop.Store(true)
	for range 2 {
		work.Go(func() {
			c := p.client("proxymap")
			defer c.close()
			for !stop.Load() {
				if status, _, err := c.lookup("raft:virtual", "alias@alias.test"); status != ok || err != nil {
					t.Errorf("lookup: status %s, %v", status, err)
					return
				}
				lookups.Add(1)
			}
		})
	}
	w := p.client("proxywrite")
	defer w.close()
	kept := map[string]bool{}
	write := func(key string) error {
		status, err := w.update("raft:virtual", key, "v")
		if status != ok || err != nil {
			return fmt.Errorf("update: status %s, %v", status, err)
		}
		kept[key] = true
		return nil
	}
	for attempt := 1; ; attempt++ {
		lead, others := leader(t, nodes)
		if lead == nodes[0] { // the one that Postfix uses: it has to survive
			nodes[0].must("", "transfer-leader")
			within(t, 10*time.Second, "another leader", func() error {
				if lead, others = leader(t, nodes); lead == nodes[0] {
					return fmt.Errorf("still %s", lead.name)
				}
				return nil
			})
		}
		for i := range 20 {
			if err := write(fmt.Sprintf("before%d-%d", attempt, i)); err != nil {
				t.Fatal(err)
			}
		}
		lead.end(syscall.SIGKILL)
		killed := time.Now()
		for i := 0; ; i++ {
			if err := write(fmt.Sprintf("after%d-%d", attempt, i)); err == nil {
				break
			} else if time.Since(killed) > 15*time.Second {
				t.Fatal(err)
			}
		}
		took := time.Since(killed)
		t.Logf("writes again %v after the leader was killed", took.Round(time.Millisecond))
		lead.start()
		lead.ready(3)
		for _, n := range nodes {
			within(t, 10*time.Second, "same digest on "+n.name, func() error {
				mine, theirs := n.must("", "table", "info", "virtual", "--json"), others[0].must("", "table", "info", "virtual", "--json")
				if mine != theirs {
					return fmt.Errorf("%s differs from %s", mine, theirs)
				}
				return nil
			})
			list := n.must("", "list", "virtual")
			for key := range kept {
				if !strings.Contains(list, key+"\t") {
					t.Errorf("%s has lost %s", n.name, key)
				}
			}
		}
		if took <= 2*time.Second {
			break
		}
		if attempt == busyAttempts {
			t.Errorf("writes came back after %v, want them within 2 s", took)
			break
		}
	}
	stop.Store(true)
	work.Wait()
	if lookups.Load() < 100 { // the whole takes less than a second
		t.Errorf("only %d lookups", lookups.Load())
	}
	p.quiet("panic:", "throttling", "agent is away")
}

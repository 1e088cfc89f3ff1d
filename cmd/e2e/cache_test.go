package e2e

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// screened is a Postfix with postscreen in front, whose caches are raft tables.
type screened struct {
	*postfix
	port int
}

// newScreened starts one whose cache entries are soon old, and whose cleanup scans run all the time.
func newScreened(t *testing.T, agent *node, s *sink) screened {
	p := screened{newPostfix(t, agent.runDir(), s.port), freePort(t)}
	for name, value := range map[string]string{
		"postscreen_cache_map":                  "proxy:raft:screen",
		"postscreen_access_list":                "",
		"postscreen_greet_wait":                 "1s",
		"postscreen_greet_ttl":                  "2s",
		"postscreen_cache_retention_time":       "1s",
		"postscreen_cache_cleanup_interval":     "1s",
		"address_verify_map":                    "proxy:raft:verify",
		"address_verify_cache_cleanup_interval": "1s",
		"address_verify_poll_delay":             "1s",
		"smtpd_recipient_restrictions":          "check_recipient_access inline:{probed@relay.test=reject_unverified_recipient}",
		"proxy_write_maps":                      "$postscreen_cache_map $address_verify_map",
	} {
		p.settings[name] = value
	}
	p.master.Extra = fmt.Sprintf("127.0.0.1:%d inet n - n - 1 postscreen\nsmtpd pass - - n - - smtpd\n", p.port)
	p.start()
	return p
}

// visit connects to postscreen from an address, and returns whether the client is taken for NEW or OLD.
func (p screened) visit(from string) (string, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: 5 * time.Second}
	conn, err := d.Dial("tcp", "127.0.0.1:"+strconv.Itoa(p.port))
	if err != nil {
		return "", err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(15 * time.Second))
	in := bufio.NewReader(conn)
	for line := "220-"; !strings.HasPrefix(line, "220 "); { // the first lines are a bait
		if line, err = in.ReadString('\n'); err != nil || !strings.HasPrefix(line, "220") {
			return "", fmt.Errorf("greeting %q: %v", line, err)
		}
	}
	if _, err := conn.Write([]byte("QUIT\r\n")); err != nil {
		return "", err
	}
	if _, err := in.ReadString('\n'); err != nil {
		return "", err
	}
	who := fmt.Sprintf(" [%s]:%d", from, conn.LocalAddr().(*net.TCPAddr).Port)
	var age string
	within(p.t, 5*time.Second, "line of postscreen", func() error { // postlogd(8) writes it when it comes to that
		log := p.log()
		for _, age = range []string{"NEW", "OLD"} {
			if strings.Contains(log, "PASS "+age+who) {
				return nil
			}
		}
		return fmt.Errorf("no line PASS%s in the log", who)
	})
	return age, nil
}

// fresh returns until when an entry of postscreen's cache is good.
func fresh(value string) time.Time {
	newest := int64(0)
	for word := range strings.SplitSeq(value, ";") {
		if n, err := strconv.ParseInt(word, 10, 64); err == nil {
			newest = max(newest, n)
		}
	}
	return time.Unix(newest, 0)
}

// TestSharedCaches ensures that postscreen and verify of two instances at two nodes share a cache: who passed the tests
// of one is known to the other, and an address that one has probed the other does not probe. Cleanup scans of both
// lose no entry that either has refreshed. Without a quorum a write to a cache is answered within its deadline, lookups go
// on, and postscreen lets clients in.
func TestSharedCaches(t *testing.T) {
	needPostfix(t)
	nodes := newCluster(t)
	// A machine that is busy with other tests may take longer than a cache has by itself.
	nodes[2].must("", "table", "create", "screen", "--expire-after", "37d", "--max-entries", "1000", "--write-deadline", "3s")
	nodes[0].must("", "table", "create", "verify", "--expire-after", "31d", "--write-deadline", "3s")
	nodes[0].must(recipientsSource+"probed@relay.test x\n", "table", "import", "recipients", "-")
	for _, table := range []string{"virtual", "senders", "relocated"} {
		nodes[0].must("", "table", "create", table)
	}
	s := newSink(t)
	hosts := []screened{newScreened(t, nodes[0], s), newScreened(t, nodes[1], s)}
	a, b := hosts[0], hosts[1]

	var working sync.WaitGroup
	working.Go(func() { // verify
		within(t, 20*time.Second, "verified recipient", func() error {
			reply, err := a.rcpt("a@sender.test", "probed@relay.test")
			if err == nil && !strings.HasPrefix(reply, "250") {
				err = fmt.Errorf("reply %q", reply)
			}
			return err
		})
		within(t, 5*time.Second, "verified recipient at the other node", func() error {
			if out, status := nodes[1].run("", "get", "verify", "probed@relay.test"); status != 0 || !strings.HasPrefix(out, "0:") {
				return fmt.Errorf("%q", out)
			}
			return nil
		})
		b.wantRcpt("a@sender.test", "probed@relay.test", "250")
		if log := b.log(); strings.Contains(log, "to=<probed@relay.test>") {
			t.Error("the second instance has probed the address too")
		}
	})

	// A client that passed at one is known to the other, whichever comes first.
	for i, first := range hosts {
		from := fmt.Sprintf("127.0.1.%d", i+1)
		working.Go(func() {
			if age, err := first.visit(from); age != "NEW" || err != nil {
				t.Errorf("%s is %q at the first, %v", from, age, err)
			}
			second, at := hosts[1-i], nodes[1-i]
			within(t, time.Second, "entry at the other node", func() error {
				if out, status := at.run("", "get", "screen", from); status != 0 {
					return errors.New(out)
				}
				return nil
			})
			if age, err := second.visit(from); age != "OLD" || err != nil {
				t.Errorf("%s is %q at the second, %v", from, age, err)
			}
		})
	}

	// Clients come back when their entries have just become old, to either instance.
	end := time.Now().Add(6 * time.Second)
	var addresses []string
	for i := range 12 {
		from := fmt.Sprintf("127.0.2.%d", i+1)
		addresses = append(addresses, from)
		working.Go(func() {
			for round := i; time.Now().Before(end); round++ {
				if _, err := hosts[round%2].visit(from); err != nil {
					t.Errorf("%s: %v", from, err)
					return
				}
				time.Sleep(2800*time.Millisecond + time.Duration(round*137%600)*time.Millisecond)
			}
		})
	}
	refreshed := [2]int{}
	for i, host := range hosts {
		working.Go(func() {
			c := host.client("proxywrite")
			defer c.close()
			last := map[string]string{}
			for time.Now().Before(end) {
				for _, from := range addresses {
					asked := time.Now()
					status, value, err := c.lookup("raft:screen", from)
					switch {
					case err != nil || status == retry:
						t.Errorf("lookup at host %d: %s %v", i, status, err)
						return
					case status == ok && value != last[from]:
						last[from] = value
						refreshed[i]++
					case status == noKey && last[from] != "" && time.Now().Before(fresh(last[from])):
						t.Errorf("host %d has lost %s, which was good until %v, at %v", i, from, fresh(last[from]), asked)
						delete(last, from)
					}
				}
				time.Sleep(5 * time.Millisecond)
			}
		})
	}
	working.Wait()
	if refreshed[0] < 12 || refreshed[1] < 12 {
		t.Errorf("entries were written %v times only, as the hosts saw it", refreshed)
	}
	for _, host := range hosts {
		host.logged("postscreen", "cache proxy:raft:screen full cleanup: retained=")
		host.logged("verify", "cache proxy:raft:verify full cleanup: retained=")
		host.quiet("panic:", "fatal:", "throttling", "cache cleanup scan terminated due to error", "watchdog")
	}
	if dropped := strings.Count(a.log()+b.log(), "full cleanup") - strings.Count(a.log()+b.log(), "dropped=0 "); dropped == 0 {
		t.Error("no scan has deleted anything")
	}
	if t.Failed() {
		return
	}

	// The majority goes.
	nodes[1].must("", "table", "set", "screen", "--write-deadline", "off")
	for _, n := range nodes[1:] {
		n.end(syscall.SIGKILL)
	}
	w := a.client("proxywrite")
	defer w.close()
	within(t, 10*time.Second, "no quorum any more", func() error {
		if status, err := w.update("raft:screen", "x", "0;0;0;0;0"); status != retry || err != nil {
			return fmt.Errorf("update: %s, %v", status, err)
		}
		return nil
	})
	slowest := time.Duration(0)
	for i := range 20 {
		began := time.Now()
		if status, err := w.update("raft:screen", "x", fmt.Sprint(i)); status != retry || err != nil {
			t.Errorf("update without a leader: %s, %v", status, err)
		}
		slowest = max(slowest, time.Since(began))
	}
	t.Logf("20 updates without a leader: RETRY after %v at most", slowest.Round(time.Millisecond))
	if slowest > 400*time.Millisecond {
		t.Errorf("an update of a cache took %v without a leader", slowest)
	}
	began := time.Now()
	if age, err := a.visit("127.0.3.1"); age != "NEW" || err != nil || time.Since(began) > 5*time.Second {
		t.Errorf("a client without a quorum: %s, %v, after %v", age, err, time.Since(began))
	}
	a.quiet("panic:", "fatal:", "throttling", "watchdog")
}

package proxy_test

import (
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"

	"postraft/dict"
	"postraft/proxy"
)

// text shows counts without what depends on time.
func text(c proxy.Counts) string {
	var b strings.Builder
	for _, s := range c.Services {
		fmt.Fprintf(&b, "%s open %d of %d, malformed %d, passed %d, not %d\n", s.Service, s.Open, s.Connections, s.Malformed, s.Passed, s.NotPassed)
		for _, t := range s.Tables {
			fmt.Fprintf(&b, "  %q lookups %v updates %v deletes %v sequences %v denied %d\n", t.Table, t.Lookups, t.Updates, t.Deletes, t.Sequences, t.Denied)
		}
	}
	return b.String()
}

func observed(l proxy.Latency) (n uint64) {
	for _, c := range l.Counts {
		n += c
	}
	return n
}

// TestCounts_PerTable ensures that each request is counted once, under the name of its table where the operator
// has named it or it exists, while its connection is open and after that.
func TestCounts_PerTable(t *testing.T) {
	h := serve(t, proxy.Config{}, func(s *proxy.Service) {
		s.Approve(proxy.ParseApproval("proxy:raft:t proxy:raft:none proxy:raft:down proxy:hash:/x"))
	})
	h.tables.set("t", table{entries: map[string]string{"a": "1"}})
	h.tables.set("down", table{entries: map[string]string{}, err: dict.ErrRetry})
	h.tables.set("secret", table{entries: map[string]string{}})
	c := h.dial()
	for _, request := range []string{
		"lookup|table|raft:t|flags|0|key|a", "lookup|table|proxy:raft:t|flags|0|key|b", "lookup|table|raft:none|flags|0|key|a", "lookup|table|raft:down|flags|0|key|a",
		"update|table|raft:t|flags|0|key|c|value|1", "delete|table|raft:t|flags|0|key|c", "delete|table|raft:t|flags|0|key|c", "update|table|raft:down|flags|0|key|c|value|1",
		"sequence|table|raft:t|flags|0|function|0", "sequence|table|raft:t|flags|0|function|1", "open|table|raft:t|flags|0",
		"lookup|table|raft:secret|flags|0|key|a", "lookup|table|raft:invented|flags|0|key|a", "lookup|table|hash:/x|flags|0|key|a", "open|table|hash:/y|flags|0",
		"frob|table|raft:t", "lookup|table|raft:t",
	} {
		c.send("request|" + request + "||")
		c.list()
	}
	want := strings.TrimPrefix(`
proxywrite open OPEN of 1, malformed 2, passed 0, not 0
  "" lookups {0 0 0 0} updates {0 0 0 0} deletes {0 0 0 0} sequences {0 0 0 0} denied 3
  "down" lookups {0 0 1 0} updates {0 0 1 0} deletes {0 0 0 0} sequences {0 0 0 0} denied 0
  "none" lookups {0 0 1 0} updates {0 0 0 0} deletes {0 0 0 0} sequences {0 0 0 0} denied 0
  "secret" lookups {0 0 0 0} updates {0 0 0 0} deletes {0 0 0 0} sequences {0 0 0 0} denied 1
  "t" lookups {1 1 0 0} updates {1 0 0 0} deletes {1 1 0 0} sequences {1 1 0 0} denied 0
`, "\n")
	counts := h.server.Counts()
	if got := text(counts); got != strings.ReplaceAll(want, "OPEN", "1") {
		t.Errorf("open: got\n%swant\n%s", got, want)
	}
	if n, w := observed(counts.Lookup), observed(counts.Write); n != 1 || w != 4 {
		t.Errorf("%d lookups and %d writes were timed, want the first one and all 4", n, w)
	}
	c.Close()
	for counts = h.server.Counts(); counts.Services[0].Open > 0; counts = h.server.Counts() {
		runtime.Gosched()
	}
	if got := text(counts); got != strings.ReplaceAll(want, "OPEN", "0") {
		t.Errorf("ended: got\n%swant\n%s", got, want)
	}
}

// TestCounts_NamesAreBounded ensures that clients who invent tables do not make counters: neither of tables that
// do not exist, nor of more than so many that do.
func TestCounts_NamesAreBounded(t *testing.T) {
	h := serve(t, proxy.Config{}, nil)
	c := h.dial()
	ask := func(i int) {
		c.send(fmt.Sprintf("request|lookup|table|raft:t%d|flags|0|key|a||", i))
		c.list()
	}
	for i := range 1500 {
		ask(i)
	}
	if tables := h.server.Counts().Services[0].Tables; len(tables) != 1 || tables[0].Table != "" || tables[0].Lookups.Retry != 1500 {
		t.Errorf("tables that do not exist: %+v", tables)
	}
	for i := range 1500 {
		h.tables.set(fmt.Sprintf("t%d", i), table{entries: map[string]string{}})
	}
	for i := range 1500 {
		ask(i)
	}
	tables := h.server.Counts().Services[0].Tables
	var misses uint64
	for _, tc := range tables {
		misses += tc.Lookups.NoKey
	}
	if len(tables) > 1025 || len(tables) < 1000 || misses != 1500 {
		t.Errorf("%d tables are named, %d lookups counted", len(tables), misses)
	}
}

// TestCounts_WhileServing ensures that nothing is lost or counted twice while connections come, work and go and
// somebody keeps looking, and that no count ever falls.
func TestCounts_WhileServing(t *testing.T) {
	h := serve(t, proxy.Config{}, nil)
	h.tables.set("t", table{entries: map[string]string{"a": "1"}})
	const clients, rounds, lookups, timed = 4, 5, 20, 2
	var asking, looking sync.WaitGroup
	done := make(chan struct{})
	looking.Go(func() {
		var last, lastTimed uint64
		for {
			counts := h.server.Counts()
			timed := observed(counts.Lookup)
			for _, s := range counts.Services {
				for _, tc := range s.Tables {
					if n := tc.Lookups.OK; n < last {
						t.Errorf("%d lookups after %d", n, last)
					} else {
						last = n
					}
				}
			}
			if timed < lastTimed {
				t.Errorf("%d timed after %d", timed, lastTimed)
			}
			lastTimed = timed
			select {
			case <-done:
				return
			default:
				runtime.Gosched()
			}
		}
	})
	for range clients {
		asking.Go(func() {
			for range rounds {
				c := h.dial()
				for range lookups {
					c.send("request|lookup|table|raft:t|flags|0|key|a||")
					c.want("status|0|value|1||")
				}
				c.Close()
			}
		})
	}
	asking.Wait()
	close(done)
	looking.Wait()
	counts := h.server.Counts()
	if n := counts.Services[0].Tables[0].Lookups.OK; n != clients*rounds*lookups || observed(counts.Lookup) != clients*rounds*timed || counts.Services[0].Connections != clients*rounds {
		t.Errorf("%d lookups, want %d: %s", n, clients*rounds*lookups, text(counts))
	}
}

package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"postraft/cluster/clustertest"
	"postraft/cluster/trust"
	"postraft/ops"
)

// A relay is an agent of a cluster in a process that is killed and started again.
type relay struct {
	cli
	*child
	name string
	args []string
}

func (r *relay) start() {
	r.child = startChild(r.cli.t, []string{"POSTRAFT_CONFIG=" + os.DevNull}, r.args...)
}

func (r *relay) kill() { r.end(syscall.SIGKILL) }

func (r *relay) admin() *ops.Client {
	return ops.NewClient(filepath.Join(r.runDir, adminSocket), 2*time.Second)
}

// startRelays starts agents that form a cluster, and waits until all are ready.
func startRelays(t *testing.T, count int) []*relay {
	t.Helper()
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte(trust.NewSecret()), 0o600); err != nil {
		t.Fatal(err)
	}
	var relays []*relay
	var join []string
	for i := range count {
		dir := shortDir(t)
		gossip := clustertest.FreePort(t)
		join = append(join, gossip)
		runDir := filepath.Join(dir, "run")
		name := fmt.Sprintf("n%d", i+1)
		relays = append(relays, &relay{cli: cli{t, runDir}, name: name, args: []string{
			"agent", "--name", name, "--data-dir", filepath.Join(dir, "data"), "--run-dir", runDir, "--secret-file", secret, "--bind", clustertest.FreePort(t),
			"--gossip", gossip, "--bootstrap-expect", strconv.Itoa(count), "--heartbeat-timeout", "200ms", "--http", "", "--log-level", "warn",
		}})
	}
	for _, r := range relays {
		r.args = append(r.args, "--join", strings.Join(join, ","))
		r.start()
	}
	for _, r := range relays {
		r.waitFor(r.name+" is ready", func(s map[string]any) bool { return s["ready"] == true && s["leader"] != "" })
	}
	return relays
}

// generations are the contents of a table, one after the other: each has other values for some or all keys, a key of
// its own, and not that of the one before.
type generations struct {
	number int
	of     []int // the generation of each key's value
}

func (g *generations) next(all bool) {
	g.number++
	for i := range g.of {
		if all || i%10 == g.number%10 {
			g.of[i] = g.number
		}
	}
}

func (g *generations) text() string {
	var b strings.Builder
	for i, n := range g.of {
		fmt.Fprintf(&b, "user%06d@example.com\tmailbox of generation %d\n", i, n)
	}
	fmt.Fprintf(&b, "zz-only-%d\tyes\n", g.number)
	return b.String()
}

// A sight is what one node has shown of the table in a round.
type sight struct {
	r        *relay
	old, new string // digests
	key      []byte // with another value in each of the two
	value    string // the new one
	seen     bool   // the new table
}

// look fails the test where the node shows a mixture, goes back, or does not find what is in both tables. A node
// that is away shows nothing.
func (s *sight) look(ctx context.Context) error {
	c := s.r.admin()
	info, err := c.Table(ctx, "t")
	var e *ops.Error
	switch {
	case err == nil && info.Digest == s.new:
		s.seen = true
	case err == nil && info.Digest == s.old && !s.seen:
	case err == nil:
		return fmt.Errorf("%s shows digest %s, after the new one: %v; old %s, new %s", s.r.name, info.Digest, s.seen, s.old, s.new)
	case errors.As(err, &e) && e.Kind == ops.NotFound:
		return fmt.Errorf("%s has no table", s.r.name)
	}
	v, err := c.Get(ctx, "t", s.key, false)
	switch {
	case err != nil:
	case !v.Found:
		return fmt.Errorf("%s does not find %s", s.r.name, s.key)
	case string(v.Value) == s.value:
		s.seen = true
	case s.seen:
		return fmt.Errorf("%s shows %q for %s after the new table", s.r.name, v.Value, s.key)
	}
	return nil
}

// TestImport_Killed ensures that an import of 100,000 entries whose client, agent or leader is killed at any instant
// leaves the old table or the new one on all nodes, that no reader sees a mixture, and that running it again finishes it.
// POSTRAFT_KILL_ROUNDS and POSTRAFT_KILL_SEED choose how many times, and when.
func TestImport_Killed(t *testing.T) {
	rounds, seed := 3, uint64(time.Now().UnixNano())
	for variable, set := range map[string]func(uint64){
		"POSTRAFT_KILL_ROUNDS": func(v uint64) { rounds = int(v) }, "POSTRAFT_KILL_SEED": func(v uint64) { seed = v },
	} {
		if v, err := strconv.ParseUint(os.Getenv(variable), 10, 64); err == nil {
			set(v)
		}
	}
	t.Logf("POSTRAFT_KILL_SEED=%d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	relays := startRelays(t, 3)
	file := filepath.Join(t.TempDir(), "source")
	g := &generations{of: make([]int, 100_000)}
	write := func() {
		t.Helper()
		if err := os.WriteFile(file, []byte(g.text()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// agree waits until all nodes have a table, and returns its digest.
	agree := func(what string, want ...string) (digest string) {
		t.Helper()
		clustertest.Eventually(t, what, func() error {
			for i, r := range relays {
				info, err := r.admin().Table(t.Context(), "t")
				if err != nil {
					return fmt.Errorf("%s: %w", r.name, err)
				}
				if i > 0 && info.Digest != digest {
					return fmt.Errorf("%s has digest %s, another node %s", r.name, info.Digest, digest)
				}
				digest = info.Digest
			}
			for _, w := range want {
				if digest == w {
					return nil
				}
			}
			if want != nil {
				return fmt.Errorf("all have digest %s, want one of %q", digest, want)
			}
			return nil
		})
		return digest
	}
	write()
	began := time.Now()
	relays[0].ok("--timeout", "60s", "table", "import", "t", file)
	whole := time.Since(began)
	old := agree("all have the first table")
	outcomes := map[string]int{}
	for round := range rounds {
		all := random.IntN(3) > 0
		g.next(all)
		write()
		next := digestOf(func(yield func(k, v []byte) bool) {
			for line := range strings.Lines(g.text()) {
				k, v, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
				if !yield([]byte(k), []byte(v)) {
					return
				}
			}
		})
		local := relays[random.IntN(3)]
		victim := []string{"client", "local agent", "leader"}[(round+int(seed%3))%3]
		leader := relays[0]
		local.waitFor("there is a leader", func(s map[string]any) bool {
			for _, r := range relays {
				if s["leader"] == r.name {
					leader = r
				}
			}
			return s["leader"] != ""
		})
		at := time.Duration(random.Int64N(int64(whole) * 5 / 2))
		what := fmt.Sprintf("round %d, all %v, through %s, %s killed after %v", round, all, local.name, victim, at)
		key := g.number % 10
		ctx, cancel := context.WithCancel(t.Context())
		var looking sync.WaitGroup
		for _, r := range relays {
			s := &sight{r: r, old: old, new: next, key: fmt.Appendf(nil, "user%06d@example.com", key), value: fmt.Sprintf("mailbox of generation %d", g.number)}
			looking.Go(func() {
				tick := time.NewTicker(5 * time.Millisecond) // three of them, and the agents, share the machine
				defer tick.Stop()
				for ctx.Err() == nil {
					<-tick.C
					if err := s.look(ctx); err != nil && ctx.Err() == nil {
						t.Errorf("%s: %v", what, err)
						return
					}
				}
			})
		}
		client := startChild(t, []string{"POSTRAFT_RUN_DIR=" + local.runDir}, "--timeout", "60s", "table", "import", "t", file)
		time.Sleep(at)
		switch victim {
		case "client":
			client.end(syscall.SIGKILL)
		case "local agent":
			local.kill()
			local.start()
		case "leader":
			leader.kill()
			leader.start()
		}
		code := client.exit()
		// An agent that is killed before it was asked is not there, or breaks off before there is an import.
		if gone := victim == "local agent" || leader == local; victim != "client" && code != exitOK && !(gone && (code == exitNoAgent || code == exitTempFail)) {
			t.Errorf("%s: the import ended with %d: %s", what, code, client.out.String())
		}
		now := agree(what+": all have the old table or the new one", old, next)
		if code == exitOK && now != next {
			t.Errorf("%s: the import says it is done, and all have the old table", what)
		}
		outcomes[fmt.Sprintf("%s killed, then new %v", victim, now == next)]++
		if r := local.run("--timeout", "60s", "table", "import", "t", file); r.code != exitOK {
			t.Errorf("%s: running it again: %+v", what, r)
		}
		old = agree(what+": running it again finishes it", next)
		cancel()
		looking.Wait()
		if t.Failed() {
			break
		}
	}
	t.Logf("%d rounds, the first import took %v: %v", rounds, whole, outcomes)
}

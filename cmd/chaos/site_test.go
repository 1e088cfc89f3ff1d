package chaos

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"postraft/ops"
)

const nodeCount = 5

// A site is the cluster under test with all that can happen to it.
type site struct {
	record  *record
	dir     string // agents' files; short, for the sockets
	logs    string
	binary  string
	nodes   []*node
	network *network // nil without namespaces
	clocks  bool

	gate sync.RWMutex // workers hold it for reading during each request, checks in silence for writing

	mu     sync.Mutex
	stalls []outage // times in which the machine gave this process no time
}

// means says what the machine allows.
type means struct{ namespaces, disks, clocks bool }

// newSite builds the agent and starts the nodes.
func newSite(ctx context.Context, t *testing.T, rec *record, logs string, m means) *site {
	t.Helper()
	dir, err := os.MkdirTemp("", "pch")
	if err != nil {
		t.Fatal(err)
	}
	s := &site{record: rec, dir: dir, logs: logs, clocks: m.clocks}
	t.Cleanup(func() {
		if err := s.close(); err != nil {
			t.Error(err)
		}
	})
	s.binary = build(ctx, t, dir, m.clocks)
	secret, err := exec.CommandContext(ctx, s.binary, "keygen").Output()
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "secret"), secret, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	var keepers []*keeper
	for i := range nodeCount {
		k, err := newKeeper(m.namespaces)
		if err != nil {
			t.Fatal(err)
		}
		keepers = append(keepers, k)
		n := &node{name: fmt.Sprintf("n%d", i+1), number: i, binary: s.binary, keeper: k, dir: filepath.Join(dir, fmt.Sprintf("n%d", i+1))}
		n.clock.path = filepath.Join(n.dir, "clock")
		n.log, err = os.OpenFile(filepath.Join(logs, n.name+".log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
		if err == nil {
			err = os.MkdirAll(n.runDir(), 0o755)
		}
		if err == nil {
			err = n.clock.set(0)
		}
		if err == nil && m.disks {
			n.disk, err = newDisk(k, n.dir)
		}
		s.nodes = append(s.nodes, n)
		if err != nil {
			t.Fatal(err)
		}
	}
	if m.namespaces {
		if s.network, err = newNetwork(keepers); err != nil {
			t.Fatal(err)
		}
	}
	s.configure(t, m.namespaces)
	for _, n := range s.nodes {
		if err := n.start(); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// configure decides the agents' settings.
func (s *site) configure(t *testing.T, namespaces bool) {
	t.Helper()
	addresses, err := freePorts(2 * len(s.nodes))
	if err != nil {
		t.Fatal(err)
	}
	binds, gossips := addresses[:len(s.nodes)], addresses[len(s.nodes):]
	for i := range s.nodes {
		if namespaces {
			binds[i], gossips[i] = nodeIP(i).String()+":7950", nodeIP(i).String()+":7951"
		}
	}
	for i, n := range s.nodes {
		others := slices.Concat(gossips[:i], gossips[i+1:])
		n.args = []string{"agent", "--config", os.DevNull, "--name", n.name, "--data-dir", n.dataDir(), "--run-dir", n.runDir(), "--http", "",
			"--bind", binds[i], "--gossip", gossips[i], "--join", strings.Join(others, ","),
			"--bootstrap-expect", fmt.Sprint(nodeCount), "--voters", fmt.Sprint(nodeCount), "--secret-file", filepath.Join(s.dir, "secret"),
			"--proxymap-socket", n.socket("proxymap"), "--proxywrite-socket", n.socket("proxywrite"),
			"--approve-all-raft", "--mail-version", "3.7", "--log-level", "debug"}
	}
}

// build builds the agent, or takes the one that is named.
func build(ctx context.Context, t *testing.T, dir string, clocks bool) string {
	t.Helper()
	if path := os.Getenv("CHAOS_BINARY"); path != "" {
		return path
	}
	path := filepath.Join(dir, "postraft")
	args := []string{"build", "-o", path}
	env := append(os.Environ(), "CGO_ENABLED=0")
	if os.Getenv("CHAOS_RACE") == "1" {
		args, env = append(args, "-race"), append(os.Environ(), "CGO_ENABLED=1")
	}
	if clocks {
		sources := filepath.Join(dir, "clock")
		if err := os.Mkdir(sources, 0o700); err != nil {
			t.Fatal(err)
		}
		overlay, err := clockOverlay(sources)
		if err != nil {
			t.Fatal(err)
		}
		args = append(args, "-overlay", overlay)
	}
	cmd := exec.CommandContext(ctx, "go", append(args, "postraft/cmd/postraft")...)
	cmd.Env = env
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build the agent: %v\n%s", err, out)
	}
	return path
}

func (s *site) close() error {
	var errs []error
	for _, n := range s.nodes {
		errs = append(errs, n.close())
	}
	if s.network != nil {
		s.network.close()
	}
	return errors.Join(append(errs, os.RemoveAll(s.dir))...)
}

// watchStalls notes when this process gets no time: then answers are late that were given in time.
func (s *site) watchStalls(ctx context.Context) {
	const tick, most = 20 * time.Millisecond, 200 * time.Millisecond
	last := time.Now()
	for ctx.Err() == nil {
		time.Sleep(tick) // the thing measured
		now := time.Now()
		if now.Sub(last) > most {
			s.mu.Lock()
			s.stalls = append(s.stalls, outage{last, now.Add(time.Second)})
			s.mu.Unlock()
		}
		last = now
	}
}

func (s *site) stalled(from, until time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range s.stalls {
		if o.from.Before(until) && o.until.After(from) {
			return true
		}
	}
	return false
}

// watchProcesses reports agents that end by themselves.
func (s *site) watchProcesses(ctx context.Context) {
	for every(ctx, 100*time.Millisecond) {
		for _, n := range s.nodes {
			if how, died := n.died(); died {
				s.record.violate("I13", "", "", "the agent of %s ended by itself: %s; its last words:\n%s", n.name, how, s.lastWords(n))
				return
			}
		}
	}
}

// writeBack lets old writes reach the disks without an fsync, unless the disk cannot write.
func (s *site) writeBack(ctx context.Context) {
	for every(ctx, time.Second) {
		for _, n := range s.nodes {
			if n.disk == nil {
				return
			}
			if a, _ := n.disk.state(); a == (ailments{}) {
				n.disk.image.writeBack(30 * time.Second)
			}
		}
	}
}

// lastWords returns the end of an agent's log without its small talk.
func (s *site) lastWords(n *node) string {
	text, err := os.ReadFile(filepath.Join(s.logs, n.name+".log"))
	if err != nil {
		return err.Error()
	}
	lines := slices.DeleteFunc(strings.Split(string(text[max(0, len(text)-64<<10):]), "\n"), func(l string) bool {
		return strings.Contains(l, "level=DEBUG")
	})
	return strings.Join(lines[max(0, len(lines)-40):], "\n")
}

// every waits for d and reports whether the run goes on.
func every(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// until repeats f until it returns nil.
func until(ctx context.Context, bound time.Duration, f func() error) error {
	deadline := time.Now().Add(bound)
	for {
		err := f()
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("after %v: %w", bound, err)
		}
		if !every(ctx, 50*time.Millisecond) {
			return errors.Join(context.Cause(ctx), err)
		}
	}
}

// leader returns the node that leads; of two that believe so the one of the higher term. Without a leader it
// returns the first node that answers, so that a fault always has a victim.
func (s *site) leader(ctx context.Context) *node {
	best, term := s.nodes[0], uint64(0)
	for _, n := range s.nodes {
		st, err := n.status(ctx)
		if err == nil && st.State == "leader" && st.Term > term {
			best, term = n, st.Term
		}
	}
	return best
}

func (n *node) status(ctx context.Context) (ops.Status, error) {
	if n.excused(time.Now(), time.Now()) {
		return ops.Status{}, fmt.Errorf("%s is away", n.name)
	}
	return n.admin(time.Second).Status(ctx)
}

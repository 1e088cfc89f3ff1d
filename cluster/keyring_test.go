package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"postraft/cluster"
	"postraft/cluster/clustertest"
	"postraft/cluster/trust"
)

// newWithFiles is clustertest.New with a secret file for each node.
func newWithFiles(t *testing.T, n int) *clustertest.Cluster {
	t.Helper()
	return clustertest.NewWith(t, n, func(cfg *cluster.Config) {
		cfg.SecretFile = filepath.Join(t.TempDir(), "secret")
		if err := os.WriteFile(cfg.SecretFile, []byte(cfg.Secret+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		cfg.Secret = ""
	})
}

// addSecret brings one more secret to the files of the nodes.
func addSecret(t *testing.T, secret string, nodes ...*clustertest.Node) {
	t.Helper()
	for _, n := range nodes {
		before, err := os.ReadFile(n.Config.SecretFile)
		if err == nil {
			err = os.WriteFile(n.Config.SecretFile, append(before, []byte(secret+"\n")...), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// A load writes through all nodes of a cluster until it is stopped, and counts.
type load struct {
	done, failed atomic.Int64
	first        atomic.Pointer[error]
	stop         context.CancelFunc
	writers      sync.WaitGroup
}

func startLoad(t *testing.T, c *clustertest.Cluster) *load {
	t.Helper()
	c.Leader().Create("t")
	ctx, stop := context.WithCancel(t.Context())
	l := &load{stop: stop}
	for _, n := range c.Nodes {
		l.writers.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				if err := n.TryPut("t", fmt.Sprint(n.Config.Name, i%100), fmt.Sprint(i), 5*time.Second); err != nil {
					l.failed.Add(1)
					l.first.CompareAndSwap(nil, &err)
				}
				l.done.Add(1)
			}
		})
	}
	t.Cleanup(func() { stop(); l.writers.Wait() })
	return l
}

// more waits until every writer has certainly written again.
func (l *load) more(c *clustertest.Cluster) {
	from := l.done.Load()
	c.Eventually("writes go on", func() error {
		if n := l.done.Load(); n < from+100 {
			return fmt.Errorf("%d more", n-from)
		}
		return nil
	})
}

// end stops the writers and fails the test if a write failed.
func (l *load) end(t *testing.T) {
	t.Helper()
	l.stop()
	l.writers.Wait()
	if n := l.failed.Load(); n > 0 {
		t.Errorf("%d of %d writes failed, the first: %v", n, l.done.Load(), *l.first.Load())
	}
}

// TestNode_KeyRotation replaces the secret of a cluster under load: no write fails, nobody calls an election, the
// files follow, and who has the old secret only is a stranger at the end.
func TestNode_KeyRotation(t *testing.T) {
	c := newWithFiles(t, 3)
	ctx := t.Context()
	n1 := c.Nodes[0]
	old, next := c.Secret, trust.NewSecret()
	oldKey, newKey := trust.Fingerprint(old), trust.Fingerprint(next)
	l := startLoad(t, c)
	l.more(c)
	term := c.Leader().Status().Term

	agree := func(what string, keys ...string) {
		t.Helper()
		members := n1.Keyring(ctx)
		if len(members) != 3 {
			t.Fatalf("%s: %+v", what, members)
		}
		for _, m := range members {
			if m.Uses != keys[0] || !slices.Equal(m.Accepts, keys) || !slices.Equal(m.InFile, keys) || m.Warning+m.Refused+m.Silent != "" {
				t.Errorf("%s: %+v", what, m)
			}
		}
		l.more(c)
	}
	agree("at first", oldKey)

	addSecret(t, next, c.Nodes[:2]...)
	n1.ReloadKeyring(ctx)
	if _, err := n1.UseKey(ctx, newKey, false); !errors.Is(err, cluster.ErrRefused) || !strings.Contains(err.Error(), "n3 does not accept it") {
		t.Errorf("use before all have it: %v", err)
	}
	addSecret(t, next, c.Nodes[2])
	if err := c.Nodes[2].Reload(); err != nil {
		t.Fatal(err)
	}
	agree("added", oldKey, newKey)
	if _, err := n1.RemoveKey(ctx, oldKey, false); !errors.Is(err, cluster.ErrRefused) {
		t.Errorf("remove the one in use: %v", err)
	}
	if _, err := n1.UseKey(ctx, newKey, false); err != nil {
		t.Fatal(err)
	}
	agree("used", newKey, oldKey)

	// A host that would go back at its next start stands in the way.
	if err := trust.UseInFile(c.Nodes[1].Config.SecretFile, oldKey); err != nil {
		t.Fatal(err)
	}
	if _, err := n1.RemoveKey(ctx, oldKey, false); !errors.Is(err, cluster.ErrRefused) || !strings.Contains(err.Error(), "n2 would use it again") {
		t.Errorf("remove what a file begins with: %v", err)
	}
	if err := trust.UseInFile(c.Nodes[1].Config.SecretFile, newKey); err != nil {
		t.Fatal(err)
	}
	if _, err := n1.RemoveKey(ctx, oldKey, false); err != nil {
		t.Fatal(err)
	}
	agree("removed", newKey)
	l.end(t)
	if s := c.Leader().Status(); s.Term != term {
		t.Errorf("term %d, at first %d", s.Term, term)
	}

	stranger := c.Add(func(cfg *cluster.Config) { cfg.Secret = old })
	short, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if err := stranger.Join(short, []string{n1.Config.Gossip}); err == nil {
		t.Error("the old secret joins")
	}
	if members, _ := n1.Members(ctx); len(members) != 3 {
		t.Errorf("members: %+v", members)
	}
	stranger.Kill()
	restarted := c.Nodes[1]
	restarted.Kill()
	restarted.Start()
	restarted.WaitReady()
	restarted.Put("t", "after", "v")
	if w := c.Add(func(cfg *cluster.Config) { cfg.Secret = next }); w != nil {
		w.WaitReady()
		w.Want("t", "after", "v")
	}
}

// TestNode_KeyRemovalThenHandOver ensures that raft's idle connections, which a removal has closed, cost nothing.
func TestNode_KeyRemovalThenHandOver(t *testing.T) {
	c := newWithFiles(t, 3)
	ctx := t.Context()
	n1 := c.Nodes[0]
	inUse := trust.Fingerprint(c.Secret)
	for range 3 {
		next := trust.NewSecret()
		addSecret(t, next, c.Nodes...)
		n1.ReloadKeyring(ctx)
		if _, err := n1.UseKey(ctx, trust.Fingerprint(next), false); err != nil {
			t.Fatal(err)
		}
		leader := c.Leader()
		to := c.Followers()[0].Config.Name
		if _, err := n1.RemoveKey(ctx, inUse, false); err != nil {
			t.Fatal(err)
		}
		inUse = trust.Fingerprint(next)
		if err := leader.TransferLeader(ctx, to); err != nil {
			t.Errorf("hand over after the removal: %v", err)
		}
		c.Eventually("the other node leads", func() error {
			if s := n1.Status(); s.Leader != to {
				return fmt.Errorf("%s leads", s.Leader)
			}
			return nil
		})
	}
}

// TestNode_KeyringFileReadOnly ensures that an agent which may not write its secret file switches nevertheless and
// says what to write.
func TestNode_KeyringFileReadOnly(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Log("root may write anywhere: the file's directory is taken away instead")
	}
	c := newWithFiles(t, 1)
	n := c.Nodes[0]
	next := trust.NewSecret()
	addSecret(t, next, n)
	if err := n.Reload(); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Dir(n.Config.SecretFile)); err != nil {
		t.Fatal(err)
	}
	members, err := n.UseKey(t.Context(), trust.Fingerprint(next), false)
	if err != nil || len(members) != 1 || members[0].Uses != trust.Fingerprint(next) || !strings.Contains(members[0].Warning, "in this order") {
		t.Errorf("%+v %v", members, err)
	}
	if _, err := n.UseKey(t.Context(), "0123456789abcdef", true); !errors.Is(err, cluster.ErrRefused) {
		t.Errorf("unknown key: %v", err)
	}
}

// A diary keeps the whole log, debug and all.
type diary struct {
	mu   sync.Mutex
	text strings.Builder
}

func (d *diary) Write(b []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.text.Write(b)
}

// TestNode_LogTellsNothing ensures that no secret is in the log at any level, and no key or value of a table above
// debug; and that the data directory is closed to others, whoever made it.
func TestNode_LogTellsNothing(t *testing.T) {
	d := &diary{}
	c := clustertest.NewWith(t, 3, func(cfg *cluster.Config) {
		cfg.Logger = slog.New(slog.NewTextHandler(d, &slog.HandlerOptions{Level: slog.LevelDebug}))
		cfg.SecretFile = filepath.Join(t.TempDir(), "secret")
		if err := os.WriteFile(cfg.SecretFile, []byte(cfg.Secret+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(cfg.DataDir, 0o755); err != nil {
			t.Fatal(err)
		}
	})
	next := trust.NewSecret()
	n := c.Followers()[0]
	n.Create("t")
	n.Put("t", "alice@example.com", "bob@example.org")
	n.TryPut("none", "alice@example.com", "bob@example.org", time.Second)
	addSecret(t, next, c.Nodes...)
	n.ReloadKeyring(t.Context())
	if _, err := n.UseKey(t.Context(), trust.Fingerprint(next), false); err != nil {
		t.Fatal(err)
	}
	if _, err := n.RemoveKey(t.Context(), trust.Fingerprint(c.Secret), false); err != nil {
		t.Fatal(err)
	}
	os.WriteFile(n.Config.SecretFile, []byte(next+" # not so\n"), 0o600)
	if err := n.Reload(); err == nil {
		t.Error("a bad file was taken over")
	}
	c.Leader().Node.Close(t.Context())
	c.Leader()
	for _, n := range c.Nodes {
		if info, err := os.Stat(n.Config.DataDir); err != nil || info.Mode().Perm() != 0o750 {
			t.Errorf("data directory: %v %v", info.Mode(), err)
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for line := range strings.Lines(d.text.String()) {
		if strings.Contains(line, c.Secret) || strings.Contains(line, next) {
			t.Error("a secret is in the log")
		}
		if !strings.Contains(line, "level=DEBUG") && (strings.Contains(line, "alice") || strings.Contains(line, "bob")) {
			t.Errorf("an entry is in the log: %s", line)
		}
	}
	if !strings.Contains(d.text.String(), trust.Fingerprint(next)) {
		t.Error("the change is not in the log")
	}
}

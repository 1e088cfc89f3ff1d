package cluster_test

import (
	"context"
	"crypto/x509"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postraft/cluster"
	"postraft/cluster/clustertest"
	"postraft/cluster/trust"
	"postraft/cluster/trust/trusttest"
)

// install puts an operator's files, and the CAs that a node shall accept, where the node looks for them.
func install(t *testing.T, to, from trust.Files, cas ...string) {
	t.Helper()
	for path, parts := range map[string][]string{to.Cert: {from.Cert}, to.Key: {from.Key}, to.CA: cas} {
		var all []byte
		for _, part := range parts {
			b, err := os.ReadFile(part)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, b...)
		}
		if err := os.WriteFile(path, all, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestNode_OperatorCertificates ensures that a cluster works with the operator's certificates, that it takes
// neither the secret nor a certificate alone, and that the CA can be replaced under load.
func TestNode_OperatorCertificates(t *testing.T) {
	oldCA, newCA := trusttest.New(t), trusttest.New(t)
	oldRoot := oldCA.Issue("x", nil).CA
	c := clustertest.NewWith(t, 3, func(cfg *cluster.Config) {
		dir := t.TempDir()
		cfg.Certificates = trust.Files{Cert: filepath.Join(dir, "cert"), Key: filepath.Join(dir, "key"), CA: filepath.Join(dir, "ca")}
		issued := oldCA.Issue(cfg.Name, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(10 * 24 * time.Hour) })
		install(t, cfg.Certificates, issued, issued.CA)
	})
	for _, n := range c.Nodes {
		if w := strings.Join(n.Status().Warnings, "\n"); !strings.Contains(w, "expires on") {
			t.Errorf("%s does not warn: %q", n.Config.Name, w)
		}
	}
	l := startLoad(t, c)
	l.more(c)
	term := c.Leader().Status().Term

	newRoot := newCA.Issue("x", nil).CA
	step := func(issue func(name string) trust.Files, cas ...string) {
		t.Helper()
		for _, n := range c.Nodes {
			install(t, n.Config.Certificates, issue(n.Config.Name), cas...)
		}
		for _, n := range c.Nodes {
			if err := n.Reload(); err != nil {
				t.Fatal(err)
			}
		}
		l.more(c)
	}
	byOld := func(name string) trust.Files { return oldCA.Issue(name, nil) }
	byNew := func(name string) trust.Files { return newCA.Issue(name, nil) }
	step(byOld, oldRoot, newRoot) // accept both
	step(byNew, oldRoot, newRoot) // show the new one
	step(byNew, newRoot)          // forget the old one
	l.end(t)
	if s := c.Leader().Status(); s.Term != term {
		t.Errorf("term %d, at first %d", s.Term, term)
	}
	if w := c.Nodes[0].Status().Warnings; w != nil {
		t.Errorf("after the renewal: %q", w)
	}

	for what, edit := range map[string]func(*cluster.Config){
		"the secret alone":               func(*cluster.Config) {},
		"a certificate of the former CA": func(cfg *cluster.Config) { cfg.Certificates = oldCA.Issue(cfg.Name, nil) },
		"a certificate alone": func(cfg *cluster.Config) {
			cfg.Certificates, cfg.Secret = newCA.Issue(cfg.Name, nil), trust.NewSecret()
		},
	} {
		stranger := c.Add(edit)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		stranger.Join(ctx, []string{c.Nodes[0].Config.Gossip})
		cancel()
		for _, m := range mustMembers(t, c.Nodes[0]) {
			if m.Name == stranger.Config.Name && (m.AppliedIndex > 0 || m.Role == cluster.RoleVoter) {
				t.Errorf("%s: %+v", what, m)
			}
		}
		if stranger.Status().Ready {
			t.Errorf("%s: it is ready", what)
		}
		stranger.Kill()
	}
	fourth := c.Add(func(cfg *cluster.Config) { cfg.Certificates = newCA.Issue(cfg.Name, nil) })
	fourth.WaitReady()
	fourth.Put("t", "k", "v")
}

func mustMembers(t *testing.T, n *clustertest.Node) []cluster.Member {
	t.Helper()
	m, err := n.Members(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return m
}

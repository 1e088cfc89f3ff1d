package trust_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"postraft/cluster/trust"
	"postraft/cluster/trust/trusttest"
)

const protocol = "p/1"

func identity(t *testing.T, id string, files trust.Files, secrets ...string) *trust.Identity {
	t.Helper()
	i, err := trust.New(trust.Config{ID: id, Protocols: []string{protocol}, Secrets: secrets, Files: files})
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// handshake connects two nodes and returns what each has proved to the other; the ends are closed with the test.
func handshake(t *testing.T, server, client *trust.Identity) (s, c *trust.Conn, err error) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		conn, err := ln.Accept()
		if err == nil {
			s, err = server.Server(ctx, conn)
		}
		if err == nil {
			_, err = s.Write([]byte{1})
		}
		done <- err
	}()
	raw, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { raw.Close() })
	c, errC := client.Client(ctx, raw, protocol)
	if errC == nil {
		// TLS 1.3: what the server thinks of the client's certificate shows with its first byte.
		c.SetReadDeadline(time.Now().Add(5 * time.Second))
		_, errC = c.Read(make([]byte, 1))
	}
	errS := <-done
	if s != nil {
		t.Cleanup(func() { s.Close() })
	}
	return s, c, errors.Join(errS, errC)
}

func mustMeet(t *testing.T, server, client *trust.Identity, serverID, clientID string) (s, c *trust.Conn) {
	t.Helper()
	s, c, err := handshake(t, server, client)
	if err != nil || s.ID != clientID || c.ID != serverID || s.Protocol != protocol || c.Protocol != protocol {
		t.Fatalf("%+v %+v %v", s, c, err)
	}
	return s, c
}

func mustRefuse(t *testing.T, what string, a, b *trust.Identity) {
	t.Helper()
	if _, _, err := handshake(t, a, b); err == nil {
		t.Errorf("%s: let in as a client", what)
	} else if !errors.Is(err, trust.ErrStranger) {
		t.Errorf("%s: %v", what, err)
	}
	if _, _, err := handshake(t, b, a); err == nil {
		t.Errorf("%s: believed as a server", what)
	}
}

// TestIdentity_Secret ensures that nodes of one secret prove their ids to each other, and that a stranger
// cannot finish a handshake in either direction.
func TestIdentity_Secret(t *testing.T) {
	secret := trust.NewSecret()
	n1, n2 := identity(t, "n1/a", trust.Files{}, secret), identity(t, "n2/b", trust.Files{}, secret)
	stranger := identity(t, "n1/a", trust.Files{}, trust.NewSecret())
	mustMeet(t, n1, n2, "n1/a", "n2/b")
	if string(n1.GossipKeys()[0]) != string(n2.GossipKeys()[0]) || string(n1.GossipKeys()[0]) == string(stranger.GossipKeys()[0]) {
		t.Error("gossip keys")
	}
	mustRefuse(t, "another secret", n1, stranger)
}

// TestIdentity_Rotation walks two nodes from one secret to the next: at no step do they refuse each other, a
// connection from before lives on and is distrusted once its secret is gone, and who has the old secret alone is
// refused then; with the operator's certificates, too.
func TestIdentity_Rotation(t *testing.T) {
	ca := trusttest.New(t)
	for name, files := range map[string]func(string) trust.Files{
		"minted":   func(string) trust.Files { return trust.Files{} },
		"operator": func(name string) trust.Files { return ca.Issue(name, nil) },
	} {
		t.Run(name, func(t *testing.T) { rotate(t, files("n1"), files("n2")) })
	}
}

func rotate(t *testing.T, files1, files2 trust.Files) {
	old, next := trust.NewSecret(), trust.NewSecret()
	n1, n2 := identity(t, "n1/a", files1, old), identity(t, "n2/b", files2, old)
	former := identity(t, "n2/b", files2, old)
	s, c := mustMeet(t, n1, n2, "n1/a", "n2/b")
	for _, step := range []struct {
		node    *trust.Identity
		secrets trust.Secrets
	}{
		{n1, trust.Secrets{old, next}}, {n2, trust.Secrets{old, next}},
		{n1, trust.Secrets{next, old}}, {n2, trust.Secrets{next, old}},
		{n1, trust.Secrets{next}},
	} {
		if err := step.node.SetSecrets(step.secrets); err != nil {
			t.Fatal(err)
		}
		mustMeet(t, n1, n2, "n1/a", "n2/b")
		mustMeet(t, n2, n1, "n2/b", "n1/a")
		if trusted := len(step.secrets) > 1; n1.Trusts(s) != trusted {
			t.Errorf("trusts the old connection: %v after %v", !trusted, step.secrets)
		}
	}
	if _, err := s.Write([]byte{1}); err != nil {
		t.Error(err)
	}
	if _, err := c.Read(make([]byte, 1)); err != nil {
		t.Errorf("live connection: %v", err)
	}
	mustRefuse(t, "the old secret", n1, former)
	if err := n1.SetSecrets(nil); err == nil {
		t.Error("no secret at all")
	}
}

// TestIdentity_NoResumption ensures that no session ticket outlives the secret that it rests on.
func TestIdentity_NoResumption(t *testing.T) {
	old, next := trust.NewSecret(), trust.NewSecret()
	server := identity(t, "n1/a", trust.Files{}, old)
	s, c, err := handshake(t, server, identity(t, "n2/b", trust.Files{}, old))
	if err != nil || s.ConnectionState().DidResume || c.ConnectionState().DidResume {
		t.Fatal(err)
	}
	if err := server.SetSecrets(trust.Secrets{next}); err != nil {
		t.Fatal(err)
	}
	mustRefuse(t, "an old node", server, identity(t, "n2/b", trust.Files{}, old))
}

// TestIdentity_Operator ensures that nodes with the operator's certificates know each other by name, secret and
// CA, and that one of these alone admits nobody.
func TestIdentity_Operator(t *testing.T) {
	secret, ca := trust.NewSecret(), trusttest.New(t)
	n1, n2 := identity(t, "n1/a", ca.Issue("n1", nil), secret), identity(t, "n2/b", ca.Issue("n2", nil), secret)
	mustMeet(t, n1, n2, "n1/a", "n2/b")
	mustMeet(t, n2, n1, "n2/b", "n1/a")
	mustRefuse(t, "another secret", n1, identity(t, "n3/c", ca.Issue("n3", nil), trust.NewSecret()))
	mustRefuse(t, "another CA", n1, identity(t, "n3/c", trusttest.New(t).Issue("n3", nil), secret))
	mustRefuse(t, "the secret without a certificate", n1, identity(t, "n3/c", trust.Files{}, secret))

	// An attacker can show what a node would not even start with.
	for what, edit := range map[string]func(*x509.Certificate){
		"client only": func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} },
		"expired": func(c *x509.Certificate) {
			c.NotBefore, c.NotAfter = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
		},
	} {
		files := ca.Issue("n4", edit)
		pair, err := tls.LoadX509KeyPair(files.Cert, files.Key)
		if err != nil {
			t.Fatal(err)
		}
		ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{pair}, NextProtos: []string{protocol + "+hello"}})
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			if conn, err := ln.Accept(); err == nil {
				conn.(*tls.Conn).Handshake()
				conn.Close()
			}
		}()
		raw, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := n1.Client(t.Context(), raw, protocol); !errors.Is(err, trust.ErrStranger) || !strings.Contains(err.Error(), "x509") {
			t.Errorf("%s as a server: %v", what, err)
		}
		ln.Close()
	}
}

// TestIdentity_OperatorName ensures that a certificate serves the nodes that it names. See also TestHello.
func TestIdentity_OperatorName(t *testing.T) {
	secret, ca := trust.NewSecret(), trusttest.New(t)
	names := func(names ...string) trust.Files {
		return ca.Issue(strings.ReplaceAll(names[0], "*", "wild"), func(c *x509.Certificate) { c.DNSNames = names })
	}
	n1 := identity(t, "n1/a", names("n1"), secret)
	both := names("n2.example.com", "N3.Example.Org")
	mustMeet(t, n1, identity(t, "n2/b", both, secret), "n1/a", "n2/b")
	mustMeet(t, n1, identity(t, "n3/c", both, secret), "n1/a", "n3/c")
	mustMeet(t, n1, identity(t, "n4.example.com/c", names("n4.example.com"), secret), "n1/a", "n4.example.com/c")
	for what, files := range map[string]trust.Files{
		"another name": both, "wildcard": names("*.example.com"), "part of a label": names("n44.example.com"), "another domain": names("n4.example.org"),
	} {
		_, err := trust.New(trust.Config{ID: "n4.example.com/d", Protocols: []string{protocol}, Secrets: trust.Secrets{secret}, Files: files})
		if !errors.Is(err, trust.ErrCertificate) || !strings.Contains(err.Error(), "not for n4.example.com") {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestFiles ensures that files which cannot work are refused when they are read, with the reason.
func TestFiles(t *testing.T) {
	ca := trusttest.New(t)
	good := ca.Issue("n1", nil)
	other := trusttest.New(t).Issue("n1", nil)
	open := ca.Issue("open", func(c *x509.Certificate) { c.DNSNames = []string{"n1"} })
	if err := os.Chmod(open.Key, 0o644); err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]struct {
		files trust.Files
		want  string
	}{
		"two of three":    {trust.Files{Cert: good.Cert, Key: good.Key}, "all three or none"},
		"wrong CA":        {trust.Files{Cert: good.Cert, Key: good.Key, CA: other.CA}, "unknown authority"},
		"wrong key":       {trust.Files{Cert: good.Cert, Key: other.Key, CA: good.CA}, "key"},
		"no such file":    {trust.Files{Cert: good.Cert + "x", Key: good.Key, CA: good.CA}, "no such file"},
		"CA is a key":     {trust.Files{Cert: good.Cert, Key: good.Key, CA: good.Key}, "no certificate"},
		"others may read": {open, "chmod o="},
		"client only": {ca.Issue("n1c", func(c *x509.Certificate) {
			c.DNSNames, c.ExtKeyUsage = []string{"n1"}, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
		}), "as a TLS server"},
		"server only": {ca.Issue("n1s", func(c *x509.Certificate) {
			c.DNSNames, c.ExtKeyUsage = []string{"n1"}, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		}), "as a TLS client"},
		"another name": {ca.Issue("n2", nil), "not for n1"},
	} {
		_, err := trust.New(trust.Config{ID: "n1/a", Secrets: trust.Secrets{trust.NewSecret()}, Files: c.files})
		if !errors.Is(err, trust.ErrCertificate) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", what, err, c.want)
		}
	}
}

// TestIdentity_Expiry ensures that the end of a certificate is spoken of from 14 days before, that an expired one lets
// a node start but nobody believes it, that a renewed one is taken over, and that a worse one is not.
func TestIdentity_Expiry(t *testing.T) {
	secret, ca := trust.NewSecret(), trusttest.New(t)
	lasts := func(d time.Duration) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.NotBefore, c.NotAfter = time.Now().Add(-48*time.Hour), time.Now().Add(d) }
	}
	n1 := identity(t, "n1/a", ca.Issue("n1", lasts(-time.Hour)), secret)
	n2 := identity(t, "n2/b", ca.Issue("n2", lasts(15*24*time.Hour)), secret)
	if w := n2.Warnings(); w != nil {
		t.Errorf("15 days before: %q", w)
	}
	if w := n1.Warnings(); len(w) != 1 || !strings.Contains(w[0], "has expired on") || !strings.Contains(w[0], "n1.pem") {
		t.Errorf("expired: %q", w)
	}
	mustRefuse(t, "an expired node", n2, n1)
	ca.Issue("n1", lasts(13*24*time.Hour+time.Hour))
	if err := n1.Reload(); err != nil {
		t.Fatal(err)
	}
	if w := n1.Warnings(); len(w) != 1 || !strings.Contains(w[0], "in 13 days") {
		t.Errorf("13 days before: %q", w)
	}
	mustMeet(t, n1, n2, "n1/a", "n2/b")
	ca.Issue("n1", lasts(-time.Hour))
	if err := n1.Reload(); !errors.Is(err, trust.ErrCertificate) || !strings.Contains(err.Error(), "expired") {
		t.Errorf("reload of an expired one: %v", err)
	}
	mustMeet(t, n2, n1, "n2/b", "n1/a")
	files := ca.Issue("n1", func(c *x509.Certificate) {
		c.NotBefore, c.NotAfter = time.Now().Add(time.Hour), time.Now().Add(2*time.Hour)
	})
	if early := identity(t, "n1/a", files, secret); len(early.Warnings()) != 1 || !strings.Contains(early.Warnings()[0], "clock") {
		t.Errorf("not yet valid: %q", early.Warnings())
	}
}

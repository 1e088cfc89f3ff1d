package trust

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"
)

// warnBefore is how long before the end of a certificate Warnings begins to speak of it.
const warnBefore = 14 * 24 * time.Hour

// Files are the operator's certificate with what leads up to the CA, its key, and the CA's certificates, in PEM.
type Files struct{ Cert, Key, CA string }

// certificates are Files that were read and found usable, but for the clock.
type certificates struct {
	files Files
	own   tls.Certificate
	pool  *x509.CertPool
	roots []*x509.Certificate
	begin time.Time
	end   time.Time // of the first certificate of the chain to end
}

// load reads the files and checks what any other node will check: the certificate chains to the CA for both
// parts that a node plays, and names the node.
func (f Files) load(name string) (*certificates, error) {
	if f.Cert == "" || f.Key == "" || f.CA == "" {
		return nil, fmt.Errorf("%w: certificate, key and CA go together: give all three or none", ErrCertificate)
	}
	cert, err := os.ReadFile(f.Cert)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCertificate, err)
	}
	key, _, err := readPrivate(f.Key, ErrCertificate)
	if err != nil {
		return nil, err
	}
	c := &certificates{files: f, pool: x509.NewCertPool()}
	if c.own, err = tls.X509KeyPair(cert, key); err != nil {
		return nil, fmt.Errorf("%w: certificate %s with key %s: %w", ErrCertificate, f.Cert, f.Key, err)
	}
	if c.roots, err = readCA(f.CA); err != nil {
		return nil, err
	}
	for _, root := range c.roots {
		c.pool.AddCert(root)
	}
	var chain []*x509.Certificate
	for _, der := range c.own.Certificate {
		next, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("%w: %s: %w", ErrCertificate, f.Cert, err)
		}
		chain = append(chain, next)
	}
	leaf := chain[0]
	if err := checkName(leaf, name); err != nil {
		return nil, fmt.Errorf("%w: %s: %w; the certificate must name its node, see --name", ErrCertificate, f.Cert, err)
	}
	// Whether it is valid now is another question: see lapsed.
	c.begin, c.end = leaf.NotBefore, leaf.NotAfter
	for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
		path, err := c.verify(chain, usage, leaf.NotBefore)
		if wrong := (x509.CertificateInvalidError{}); errors.As(err, &wrong) && wrong.Reason == x509.Expired {
			path, err = c.verify(chain, usage, time.Now()) // a CA younger than the certificate
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %s does not chain to %s as a %s: %w; a node is both server and client", ErrCertificate, f.Cert, f.CA, usageName(usage), err)
		}
		for _, link := range path {
			if link.NotAfter.Before(c.end) {
				c.end = link.NotAfter
			}
		}
	}
	return c, nil
}

func readCA(path string) ([]*x509.Certificate, error) {
	rest, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("%w: CA: %w", ErrCertificate, err)
	}
	if info, err := os.Stat(path); err == nil && info.Mode().Perm()&fs.FileMode(0o002) != 0 {
		return nil, fmt.Errorf("%w: everybody may write the CA %s; run: chmod o-w %s", ErrCertificate, path, path)
	}
	var roots []*x509.Certificate
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		root, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%w: CA %s: %w", ErrCertificate, path, err)
		}
		roots = append(roots, root)
	}
	if len(roots) == 0 {
		return nil, fmt.Errorf("%w: CA %s holds no certificate in PEM", ErrCertificate, path)
	}
	return roots, nil
}

// checkName sees to it that a certificate names a node: one of its DNS names is the node's name, or a host
// name whose first label is. Wildcards name nobody.
func checkName(leaf *x509.Certificate, name string) error {
	for _, dns := range leaf.DNSNames {
		label, _, _ := strings.Cut(dns, ".")
		if strings.EqualFold(dns, name) || strings.EqualFold(label, name) {
			return nil
		}
	}
	return fmt.Errorf("the certificate is for %q, not for %s", leaf.DNSNames, name)
}

// verify returns the path from a certificate to a root.
func (c *certificates) verify(chain []*x509.Certificate, usage x509.ExtKeyUsage, at time.Time) ([]*x509.Certificate, error) {
	if len(chain) == 0 {
		return nil, errors.New("no certificate")
	}
	between := x509.NewCertPool()
	for _, link := range chain[1:] {
		between.AddCert(link)
	}
	paths, err := chain[0].Verify(x509.VerifyOptions{Roots: c.pool, Intermediates: between, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{usage}})
	if err != nil {
		return nil, err
	}
	return paths[0], nil
}

// rootOf checks the certificates of the other end, now, and returns the CA's certificate that they lead to.
func (c *certificates) rootOf(chain []*x509.Certificate, usage x509.ExtKeyUsage) (*x509.Certificate, error) {
	path, err := c.verify(chain, usage, time.Now())
	if err != nil {
		return nil, err
	}
	return path[len(path)-1], nil
}

func (c *certificates) hasRoot(root *x509.Certificate) bool {
	for _, r := range c.roots {
		if r.Equal(root) {
			return true
		}
	}
	return false
}

func (c *certificates) configs(protocols []string) (server, client *tls.Config) {
	server = &tls.Config{
		Certificates:           []tls.Certificate{c.own},
		ClientCAs:              c.pool,
		ClientAuth:             tls.RequireAndVerifyClientCert,
		NextProtos:             alpn(true, protocols...),
		MinVersion:             tls.VersionTLS13,
		SessionTicketsDisabled: true,
	}
	client = &tls.Config{
		Certificates: server.Certificates,
		MinVersion:   tls.VersionTLS13,
		// The library would check the name of a host, which nodes are not dialled by. VerifyConnection checks
		// the chain instead, and the handshake goes on to check the name of the node (checkName).
		InsecureSkipVerify: true,
		VerifyConnection: func(state tls.ConnectionState) error {
			_, err := c.rootOf(state.PeerCertificates, x509.ExtKeyUsageServerAuth)
			return err
		},
	}
	return server, client
}

// lapsed says why the certificate is not valid at this time, if it is not.
func (c *certificates) lapsed(now time.Time) error {
	switch {
	case now.After(c.end):
		return fmt.Errorf("the certificate in %s, or one above it, has expired on %s: no other node accepts it; renew it, then: systemctl reload postraft", c.files.Cert, day(c.end))
	case now.Before(c.begin):
		return fmt.Errorf("the certificate in %s is valid from %s on only: no other node accepts it; is the clock right?", c.files.Cert, day(c.begin))
	}
	return nil
}

func (c *certificates) warnings(now time.Time) []string {
	if err := c.lapsed(now); err != nil {
		return []string{err.Error()}
	}
	left := c.end.Sub(now)
	if left > warnBefore {
		return nil
	}
	return []string{fmt.Sprintf("the certificate in %s, or one above it, expires on %s, in %d days; renew it, then: systemctl reload postraft", c.files.Cert, day(c.end), left/(24*time.Hour))}
}

func day(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 MST") }

func usageName(u x509.ExtKeyUsage) string {
	if u == x509.ExtKeyUsageClientAuth {
		return "TLS client"
	}
	return "TLS server"
}

// peerUsage returns what the certificate of the other end must allow.
func peerUsage(role string) x509.ExtKeyUsage {
	if role == "server" {
		return x509.ExtKeyUsageClientAuth
	}
	return x509.ExtKeyUsageServerAuth
}

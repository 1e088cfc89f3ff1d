package trust

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Config says who a node is.
type Config struct {
	ID        string   // raft server id: NAME/RANDOM
	Protocols []string // offered and accepted, by ALPN
	Secrets   Secrets
	Files     Files // of the operator; the zero Files means certificates minted from the secret
}

// An Identity proves who this node is and checks who others are. Its methods may be called from any goroutine.
type Identity struct {
	cfg Config // but for Secrets

	mu  sync.Mutex // one change at a time
	now atomic.Pointer[material]
}

// A material is what an Identity works with between two changes. It never changes itself.
type material struct {
	secrets  Secrets
	keys     []*keys       // of the secrets
	operator *certificates // nil without Files
	server   *tls.Config
	client   *tls.Config // without a protocol
}

// New makes an Identity. Files that cannot be used are an ErrCertificate; a certificate that has only expired is
// taken and spoken of in Warnings, for a node that nobody admits still answers lookups.
func New(cfg Config) (*Identity, error) {
	i := &Identity{cfg: cfg}
	operator, err := i.loadFiles()
	if err != nil {
		return nil, err
	}
	m, err := i.make(cfg.Secrets, operator)
	if err != nil {
		return nil, err
	}
	i.cfg.Secrets = nil
	i.now.Store(m)
	return i, nil
}

func (i *Identity) make(secrets Secrets, operator *certificates) (*material, error) {
	if len(secrets) == 0 {
		return nil, fmt.Errorf("%w: there is none", ErrSecret)
	}
	m := &material{secrets: slices.Clone(secrets), operator: operator}
	for _, secret := range secrets {
		k, err := derive(secret)
		if err != nil {
			return nil, err
		}
		m.keys = append(m.keys, k)
	}
	if operator != nil {
		m.server, m.client = operator.configs(i.cfg.Protocols)
		return m, nil
	}
	own, err := m.keys[0].mint(i.cfg.ID)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	for _, k := range m.keys {
		pool.AddCert(k.authority)
	}
	m.server = &tls.Config{
		Certificates:           []tls.Certificate{own},
		ClientCAs:              pool,
		ClientAuth:             tls.RequireAndVerifyClientCert,
		NextProtos:             i.cfg.Protocols,
		MinVersion:             tls.VersionTLS13,
		SessionTicketsDisabled: true, // a ticket would outlive the secret that it rests on
		// Within the dates of every certificate, whatever the clock says.
		Time: func() time.Time { return time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC) },
	}
	m.client = &tls.Config{
		Certificates: m.server.Certificates, RootCAs: pool, ServerName: serverName, MinVersion: tls.VersionTLS13, Time: m.server.Time,
	}
	return m, nil
}

// SetSecrets replaces the secrets.
func (i *Identity) SetSecrets(secrets Secrets) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	m, err := i.make(secrets, i.now.Load().operator)
	if err == nil {
		i.now.Store(m)
	}
	return err
}

// Reload reads the operator's files again. Those that cannot be used, or have expired, change nothing.
func (i *Identity) Reload() error {
	i.mu.Lock()
	defer i.mu.Unlock()
	operator, err := i.loadFiles()
	if err != nil || operator == nil {
		return err
	}
	if err := operator.lapsed(time.Now()); err != nil {
		return fmt.Errorf("%w: %w", ErrCertificate, err)
	}
	m, err := i.make(i.now.Load().secrets, operator)
	if err == nil {
		i.now.Store(m)
	}
	return err
}

func (i *Identity) loadFiles() (*certificates, error) {
	if i.cfg.Files == (Files{}) {
		return nil, nil
	}
	return i.cfg.Files.load(nameOf(i.cfg.ID))
}

// Secrets returns the secrets: the first is in use.
func (i *Identity) Secrets() Secrets { return slices.Clone(i.now.Load().secrets) }

// GossipKeys returns the keys of the gossip: the first is in use.
func (i *Identity) GossipKeys() [][]byte {
	var list [][]byte
	for _, k := range i.now.Load().keys {
		list = append(list, k.gossip)
	}
	return list
}

// Warnings says what the operator should do about the node's certificate.
func (i *Identity) Warnings() []string {
	m := i.now.Load()
	if m.operator == nil {
		return nil
	}
	return m.operator.warnings(time.Now())
}

// CertificateEnd returns when the operator's certificate, or one above it, ends; the zero Time without one.
func (i *Identity) CertificateEnd() time.Time {
	m := i.now.Load()
	if m.operator == nil {
		return time.Time{}
	}
	return m.operator.end
}

// Trusts reports whether a connection would still be admitted: the authority of the other end, and the secret
// that it proved, are accepted still.
func (i *Identity) Trusts(c *Conn) bool {
	m := i.now.Load()
	if m.operator != nil {
		return m.operator.hasRoot(c.root) && slices.ContainsFunc(m.keys, func(k *keys) bool { return k.fingerprint == c.fingerprint })
	}
	return slices.ContainsFunc(m.keys, func(k *keys) bool { return k.authority.Equal(c.root) })
}

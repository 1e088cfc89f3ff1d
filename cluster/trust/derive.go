package trust

import (
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"time"
)

// serverName is in every minted certificate: it is what a client wants, for ids are compared apart from TLS.
const serverName = "postraft"

// keys are what a node draws from one secret.
type keys struct {
	fingerprint  string
	gossip       []byte // AES-256 key of memberlist
	hello        []byte // of the proofs in hellos
	authority    *x509.Certificate
	authorityKey ed25519.PrivateKey
}

func derive(secret string) (*keys, error) {
	k := &keys{fingerprint: Fingerprint(secret)}
	var err error
	if k.gossip, err = hkdf.Key(sha256.New, []byte(secret), nil, "postraft gossip 1", 32); err != nil {
		return nil, fmt.Errorf("derive gossip key: %w", err)
	}
	if k.hello, err = hkdf.Key(sha256.New, []byte(secret), nil, "postraft hello 1", 32); err != nil {
		return nil, fmt.Errorf("derive hello key: %w", err)
	}
	seed, err := hkdf.Key(sha256.New, []byte(secret), nil, "postraft authority 1", ed25519.SeedSize)
	if err != nil {
		return nil, fmt.Errorf("derive authority: %w", err)
	}
	k.authorityKey = ed25519.NewKeyFromSeed(seed)
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "postraft cluster"},
		NotBefore:             time.Unix(0, 0),
		NotAfter:              time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, k.authorityKey.Public(), k.authorityKey)
	if err != nil {
		return nil, fmt.Errorf("make authority: %w", err)
	}
	if k.authority, err = x509.ParseCertificate(der); err != nil {
		return nil, fmt.Errorf("read authority: %w", err)
	}
	return k, nil
}

// mint makes a certificate for the node with this raft server id.
func (k *keys) mint(id string) (tls.Certificate, error) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make node key: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make serial number: %w", err)
	}
	leaf := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: id},
		DNSNames:     []string{serverName},
		NotBefore:    k.authority.NotBefore,
		NotAfter:     k.authority.NotAfter,
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, k.authority, public, k.authorityKey)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make node certificate: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: private}, nil
}

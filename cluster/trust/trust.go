// Package trust makes the identities of a cluster's nodes from one secret.
//
// HKDF (RFC 5869) draws two keys from the secret: the key that encrypts gossip, and the Ed25519 key of an
// authority that every node can rebuild. Each node mints a certificate for itself from that authority when
// it starts. Both ends of a connection must show such a certificate, so who does not hold the secret cannot
// even finish a handshake.
//
// Certificates are valid for ever: whoever holds the secret can mint another one at any time, so an end
// date would protect nothing, and a clock that jumps must not cut a node off. A secret that has leaked is
// answered by another secret.
package trust

import (
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"strings"
	"time"
)

// MinSecret is the length of the shortest secret that is accepted, in characters.
const MinSecret = 32

// ErrSecret says that a secret cannot be used.
var ErrSecret = errors.New("bad cluster secret")

// NewSecret returns a new secret: 256 random bits in URL-safe base64.
func NewSecret() string {
	var b [32]byte
	rand.Read(b[:])
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// ReadSecretFile returns the secret in a file. The file must not be readable by others than its owner and
// group, for the secret is all that it takes to join the cluster.
func ReadSecretFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("%w: %w; make one with: postraft keygen, and copy it to every node", ErrSecret, err)
		}
		return "", fmt.Errorf("%w: %w", ErrSecret, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrSecret, err)
	}
	if mode := info.Mode().Perm(); mode&0o007 != 0 {
		return "", fmt.Errorf("%w: others may access %s (mode %04o); run: chmod o= %s", ErrSecret, path, mode, path)
	}
	b := make([]byte, 4096)
	n, _ := f.Read(b)
	secret := strings.TrimSpace(string(b[:n]))
	if len(secret) < MinSecret {
		return "", fmt.Errorf("%w: %s holds %d characters, at least %d are needed; make one with: postraft keygen", ErrSecret, path, len(secret), MinSecret)
	}
	return secret, nil
}

// Keys are what a node draws from the secret.
type Keys struct {
	Gossip []byte // AES-256 key of memberlist
	TLS    *tls.Config
}

const serverName = "postraft"

// Derive makes the keys of the node with this raft server id. Protocols are offered and accepted by ALPN.
func Derive(secret, id string, protocols ...string) (*Keys, error) {
	gossip, err := hkdf.Key(sha256.New, []byte(secret), nil, "postraft gossip 1", 32)
	if err != nil {
		return nil, fmt.Errorf("derive gossip key: %w", err)
	}
	seed, err := hkdf.Key(sha256.New, []byte(secret), nil, "postraft authority 1", ed25519.SeedSize)
	if err != nil {
		return nil, fmt.Errorf("derive authority: %w", err)
	}
	authorityKey := ed25519.NewKeyFromSeed(seed)
	authority := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "postraft cluster"},
		NotBefore:             time.Unix(0, 0),
		NotAfter:              time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign,
	}
	authorityDER, err := x509.CreateCertificate(rand.Reader, authority, authority, authorityKey.Public(), authorityKey)
	if err != nil {
		return nil, fmt.Errorf("make authority: %w", err)
	}
	authority, err = x509.ParseCertificate(authorityDER)
	if err != nil {
		return nil, fmt.Errorf("read authority: %w", err)
	}
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make node key: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, fmt.Errorf("make serial number: %w", err)
	}
	leaf := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: id},
		DNSNames:     []string{serverName},
		NotBefore:    authority.NotBefore,
		NotAfter:     authority.NotAfter,
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, authority, public, authorityKey)
	if err != nil {
		return nil, fmt.Errorf("make node certificate: %w", err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(authority)
	return &Keys{
		Gossip: gossip,
		TLS: &tls.Config{
			Certificates: []tls.Certificate{{Certificate: [][]byte{leafDER}, PrivateKey: private}},
			RootCAs:      pool,
			ClientCAs:    pool,
			ClientAuth:   tls.RequireAndVerifyClientCert,
			ServerName:   serverName,
			NextProtos:   protocols,
			MinVersion:   tls.VersionTLS13,
			// Within the dates of every certificate, whatever the clock says.
			Time: func() time.Time { return time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC) },
		},
	}, nil
}

// PeerID returns the raft server id that the other end of a connection has proved.
func PeerID(state tls.ConnectionState) string {
	if len(state.PeerCertificates) == 0 {
		return ""
	}
	return state.PeerCertificates[0].Subject.CommonName
}

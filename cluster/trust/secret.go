package trust

import (
	"bytes"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"log/slog"
	"slices"
	"strings"
)

const (
	// MinSecret is the length of the shortest secret that is accepted, in characters.
	MinSecret = 32

	// MaxSecrets is how many secrets a node may hold.
	MaxSecrets = 8
)

// NewSecret returns a new secret: 256 random bits in URL-safe base64.
func NewSecret() string {
	var b [32]byte
	rand.Read(b[:])
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// Secrets are the secrets of a node: the first is in use, the others are accepted. There is at least one.
type Secrets []string

// String, GoString and LogValue keep the secrets out of logs and messages.
func (s Secrets) String() string       { return strings.Join(s.Fingerprints(), " ") }
func (s Secrets) GoString() string     { return s.String() }
func (s Secrets) LogValue() slog.Value { return slog.StringValue(s.String()) }

// Fingerprints returns the fingerprints of the secrets, in their order.
func (s Secrets) Fingerprints() []string {
	prints := make([]string, len(s))
	for i, secret := range s {
		prints[i] = Fingerprint(secret)
	}
	return prints
}

// Fingerprint names a secret without telling it: 64 bits in hexadecimal.
func Fingerprint(secret string) string {
	b, err := hkdf.Key(sha256.New, []byte(secret), nil, "postraft fingerprint 1", 8)
	if err != nil {
		panic(err) // only for a length that HKDF cannot make
	}
	return hex.EncodeToString(b)
}

// index returns where the secret with this fingerprint is.
func (s Secrets) index(fingerprint string) (int, error) {
	i := slices.Index(s.Fingerprints(), fingerprint)
	if i < 0 {
		return 0, fmt.Errorf("%w: %s; this node has: %s", ErrUnknownKey, fingerprint, s)
	}
	return i, nil
}

// Use returns the secrets with the one of this fingerprint in use.
func (s Secrets) Use(fingerprint string) (Secrets, error) {
	i, err := s.index(fingerprint)
	if err != nil {
		return nil, err
	}
	rest := slices.Delete(slices.Clone(s), i, i+1)
	return slices.Insert(rest, 0, s[i]), nil
}

// Remove returns the secrets without the one of this fingerprint. The one in use is an ErrInUse.
func (s Secrets) Remove(fingerprint string) (Secrets, error) {
	i, err := s.index(fingerprint)
	if err != nil {
		return nil, err
	}
	if i == 0 {
		return nil, fmt.Errorf("%w: %s; use another one first", ErrInUse, fingerprint)
	}
	return slices.Delete(slices.Clone(s), i, i+1), nil
}

// ParseSecrets reads the text of a secret file: a secret a line, the one in use first. Empty lines and lines
// that begin with # say nothing.
func ParseSecrets(text []byte) (Secrets, error) {
	var s Secrets
	number := 0
	for line := range bytes.Lines(text) {
		number++
		secret, ok := secretOf(line)
		switch {
		case !ok:
		case len(secret) < MinSecret:
			return nil, fmt.Errorf("%w: line %d has %d characters, at least %d are needed; make one with: postraft keygen", ErrSecret, number, len(secret), MinSecret)
		case strings.Contains(secret, " #") || strings.Contains(secret, "\t#"):
			return nil, fmt.Errorf("%w: line %d: a comment has a line of its own", ErrSecret, number)
		case slices.Contains(s, secret):
			return nil, fmt.Errorf("%w: line %d repeats an earlier one", ErrSecret, number)
		default:
			s = append(s, secret)
		}
	}
	switch {
	case len(s) == 0:
		return nil, fmt.Errorf("%w: there is none; make one with: postraft keygen", ErrSecret)
	case len(s) > MaxSecrets:
		return nil, fmt.Errorf("%w: there are %d, at most %d are accepted at a time", ErrSecret, len(s), MaxSecrets)
	}
	return s, nil
}

// secretOf returns the secret in a line, if there is one.
func secretOf(line []byte) (string, bool) {
	line = bytes.TrimSpace(line)
	return string(line), len(line) > 0 && line[0] != '#'
}

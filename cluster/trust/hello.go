package trust

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"time"
)

// A hello is what each end of a connection between nodes with the operator's certificates sends first, within
// TLS: its length as a uint16, big endian, and JSON of at most maxHello bytes. Both ends send without waiting.
//
// The certificate proves the name of a node. The random part of its server id is made by the node itself and
// is in no certificate, so the hello says it; that is enough, for who has a certificate for a name may begin
// anew under that name, with another random part, anyway. The proof is an HMAC, under a key from the secret in
// use, over what names this TLS connection alone (an exporter, RFC 5705), the sender's part in it and its id:
// it cannot be taken from one connection to another, nor sent back to its sender.
type hello struct {
	ID    string `json:"id"`
	Proof []byte `json:"proof"`
}

const (
	maxHello     = 512
	helloTimeout = 5 * time.Second
	helloLabel   = "EXPORTER-postraft-hello-1"
)

var idSyntax = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}/[0-9a-f]{1,64}$`)

// hello exchanges hellos and returns the other end's id and the fingerprint of the secret that it proved.
func (m *material) hello(t *tls.Conn, id, role string) (peer, fingerprint string, err error) {
	state := t.ConnectionState()
	binding, err := state.ExportKeyingMaterial(helloLabel, nil, 32)
	if err != nil {
		return "", "", fmt.Errorf("bind hello to the connection: %w", err)
	}
	b, err := json.Marshal(hello{id, m.keys[0].prove(binding, role, id)})
	if err != nil {
		return "", "", err
	}
	if _, err := t.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...)); err != nil {
		return "", "", fmt.Errorf("send hello: %w", err)
	}
	var size [2]byte
	if _, err := io.ReadFull(t, size[:]); err != nil {
		return "", "", fmt.Errorf("await hello: %w", err)
	}
	n := binary.BigEndian.Uint16(size[:])
	if n > maxHello {
		return "", "", fmt.Errorf("hello of %d bytes, want at most %d", n, maxHello)
	}
	b = make([]byte, n)
	if _, err := io.ReadFull(t, b); err != nil {
		return "", "", fmt.Errorf("await hello: %w", err)
	}
	var h hello
	if err := json.Unmarshal(b, &h); err != nil || !idSyntax.MatchString(h.ID) {
		return "", "", errors.New("malformed hello")
	}
	for _, k := range m.keys {
		if hmac.Equal(h.Proof, k.prove(binding, opposite(role), h.ID)) {
			return h.ID, k.fingerprint, nil
		}
	}
	return "", "", fmt.Errorf("%s does not prove a secret that this node accepts", nameOf(h.ID))
}

func opposite(role string) string {
	if role == "server" {
		return "client"
	}
	return "server"
}

func (k *keys) prove(binding []byte, role, id string) []byte {
	mac := hmac.New(sha256.New, k.hello)
	fmt.Fprintf(mac, "%s\x00%s\x00%s", binding, role, id)
	return mac.Sum(nil)
}

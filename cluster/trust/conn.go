package trust

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"strings"
	"time"
)

// A Conn is a connection whose other end has proved who it is.
type Conn struct {
	*tls.Conn
	ID       string // raft server id of the other end
	Protocol string // agreed on by ALPN; empty if none was

	root        *x509.Certificate
	fingerprint string // of the secret in the hello
}

// Server makes the server's handshake on a connection that was accepted. c is closed when it fails.
func (i *Identity) Server(ctx context.Context, c net.Conn) (*Conn, error) {
	m := i.now.Load()
	return i.handshake(ctx, m, tls.Server(c, m.server), "server")
}

// Client makes the client's handshake on a connection that was dialled. c is closed when it fails. Without
// certificates of the operator a refusal by the other end shows at the first read only.
func (i *Identity) Client(ctx context.Context, c net.Conn, protocol string) (*Conn, error) {
	m := i.now.Load()
	config := m.client.Clone()
	config.NextProtos = alpn(m.operator != nil, protocol)
	return i.handshake(ctx, m, tls.Client(c, config), "client")
}

func (i *Identity) handshake(ctx context.Context, m *material, t *tls.Conn, role string) (c *Conn, err error) {
	defer func() {
		if err != nil {
			t.NetConn().Close()
		}
	}()
	if err := t.HandshakeContext(ctx); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrStranger, err)
	}
	state := t.ConnectionState()
	c = &Conn{Conn: t, Protocol: strings.TrimSuffix(state.NegotiatedProtocol, operatorSuffix)}
	leaf := state.PeerCertificates[0]
	if m.operator == nil {
		chain := state.VerifiedChains[0]
		c.ID, c.root = leaf.Subject.CommonName, chain[len(chain)-1]
		return c, nil
	}
	if c.root, err = m.operator.rootOf(state.PeerCertificates, peerUsage(role)); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrStranger, err)
	}
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(helloTimeout)
	}
	t.SetDeadline(deadline)
	stop := context.AfterFunc(ctx, func() { t.SetDeadline(time.Unix(1, 0)) })
	c.ID, c.fingerprint, err = m.hello(t, i.cfg.ID, role)
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err == nil {
		err = checkName(leaf, nameOf(c.ID))
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrStranger, err)
	}
	t.SetDeadline(time.Time{})
	return c, nil
}

// operatorSuffix tells the protocols with a hello from those without, so that a node with the operator's
// certificates and one without refuse each other at once, and by name.
const operatorSuffix = "+hello"

func alpn(operator bool, protocols ...string) []string {
	if !operator {
		return protocols
	}
	var with []string
	for _, p := range protocols {
		with = append(with, p+operatorSuffix)
	}
	return with
}

// nameOf returns the node's name in a server id.
func nameOf(id string) string {
	name, _, _ := strings.Cut(id, "/")
	return name
}

// Package trust makes and checks the identities of a cluster's nodes.
//
// # Secrets
//
// A node holds one secret, or some while one is being replaced by another: the first is in use, the others
// are accepted. HKDF (RFC 5869) draws from each secret the key that encrypts gossip, the Ed25519 key of an
// authority that every node can rebuild, and a fingerprint by which operators name it. A node mints a
// certificate for itself from the authority of the secret in use, with its raft server id in it. Both ends of
// a connection must show a certificate of an accepted authority, so who holds no accepted secret cannot even
// finish a handshake.
//
// Such certificates are valid for ever: whoever holds the secret can mint another one at any time, so an end
// date would protect nothing, and a clock that jumps must not cut a node off. A secret that has leaked is
// answered by another secret.
//
// # Certificates of the operator
//
// With Files a node shows the operator's certificate instead. Both ends must chain to the operator's CA, each
// for the part it plays (server or client), by the clock. A CA signs for more than one cluster, so that alone
// admits nobody: within TLS, each end then sends a hello (hello.go) with its server id, its node's name must
// be in the certificate, and the hello must carry a proof of an accepted secret, bound to this connection.
// So a stolen secret alone is of no use on the node port, nor is any certificate of the CA alone.
//
// # Changes
//
// An Identity takes new secrets and new files while it runs. New connections follow them at once; Trusts tells
// which of the live ones rest on something that was taken away.
package trust

import "errors"

var (
	// ErrSecret says that a secret, or the file that holds it, cannot be used.
	ErrSecret = errors.New("bad cluster secret")

	// ErrCertificate says that the operator's certificate, key or CA cannot be used.
	ErrCertificate = errors.New("bad certificate")

	// ErrUnknownKey says that no secret of this node has that fingerprint.
	ErrUnknownKey = errors.New("no such key")

	// ErrInUse says that a secret cannot be taken away because this node uses it.
	ErrInUse = errors.New("key is in use")

	// ErrStranger says that the other end of a connection has not proved that it belongs to the cluster.
	ErrStranger = errors.New("not a node of this cluster")
)

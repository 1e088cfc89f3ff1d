package trust

import (
	"crypto/tls"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestReadSecretFile ensures that a secret that others can read, or that is too short, is refused with what
// to do.
func TestReadSecretFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret")
	secret := NewSecret()
	if err := os.WriteFile(path, []byte(secret+"\n"), 0o640); err != nil {
		t.Fatal(err)
	}
	if got, err := ReadSecretFile(path); err != nil || got != secret {
		t.Fatalf("%q %v", got, err)
	}
	os.Chmod(path, 0o644)
	if _, err := ReadSecretFile(path); !errors.Is(err, ErrSecret) || !strings.Contains(err.Error(), "chmod o= "+path) {
		t.Errorf("readable by others: %v", err)
	}
	os.Chmod(path, 0o600)
	os.WriteFile(path, []byte("short"), 0o600)
	if _, err := ReadSecretFile(path); !errors.Is(err, ErrSecret) {
		t.Errorf("short: %v", err)
	}
	if _, err := ReadSecretFile(path + "x"); !errors.Is(err, ErrSecret) || !strings.Contains(err.Error(), "keygen") {
		t.Errorf("missing: %v", err)
	}
	if again := NewSecret(); again == secret {
		t.Error("two secrets are the same")
	}
}

// handshake connects two nodes and returns what each has proved to the other.
func handshake(t *testing.T, server, client *Keys) (serverSaw, clientSaw string, err error) {
	t.Helper()
	ln, err := tls.Listen("tcp", "127.0.0.1:0", server.TLS)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	done := make(chan error, 1)
	go func() {
		conn, err := ln.Accept()
		if err == nil {
			defer conn.Close()
			s := conn.(*tls.Conn)
			if err = s.Handshake(); err == nil {
				serverSaw = PeerID(s.ConnectionState())
				_, err = s.Write([]byte{1})
			}
		}
		done <- err
	}()
	c, errC := tls.Dial("tcp", ln.Addr().String(), client.TLS)
	if errC == nil {
		defer c.Close()
		clientSaw = PeerID(c.ConnectionState())
		// TLS 1.3: what the server thinks of the client's certificate shows with its first byte.
		_, errC = c.Read(make([]byte, 1))
	}
	err = errors.Join(<-done, errC)
	return serverSaw, clientSaw, err
}

// TestDerive ensures that nodes of one secret prove their ids to each other, and that a stranger cannot
// finish a handshake in either direction.
func TestDerive(t *testing.T) {
	secret := NewSecret()
	derive := func(secret, id string) *Keys {
		k, err := Derive(secret, id, "p/1")
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	n1, n2, stranger := derive(secret, "n1/a"), derive(secret, "n2/b"), derive(NewSecret(), "n1/a")
	if s, c, err := handshake(t, n1, n2); err != nil || s != "n2/b" || c != "n1/a" {
		t.Errorf("%q %q %v", s, c, err)
	}
	if string(n1.Gossip) != string(n2.Gossip) || string(n1.Gossip) == string(stranger.Gossip) {
		t.Error("gossip keys")
	}
	if _, _, err := handshake(t, n1, stranger); err == nil {
		t.Error("a stranger was let in")
	}
	if _, _, err := handshake(t, stranger, n1); err == nil {
		t.Error("a stranger was believed")
	}
}

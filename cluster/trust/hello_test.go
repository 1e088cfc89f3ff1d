package trust_test

import (
	"context"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"postraft/cluster/trust"
	"postraft/cluster/trust/trusttest"
)

// An impostor is a TLS client with a certificate of the CA that says whatever it wants in its hello.
type impostor struct {
	t      *testing.T
	server *trust.Identity
	config *tls.Config
}

// says connects, lets hello make the bytes to send, and returns what the server makes of it.
func (i *impostor) says(hello func(conn *tls.Conn) []byte) error {
	i.t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		i.t.Fatal(err)
	}
	defer ln.Close()
	done := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
		defer cancel()
		c, err := ln.Accept()
		if err == nil {
			_, err = i.server.Server(ctx, c)
		}
		done <- err
	}()
	c, err := tls.Dial("tcp", ln.Addr().String(), i.config)
	if err != nil {
		i.t.Fatal(err)
	}
	defer c.Close()
	c.Write(hello(c))
	go io.Copy(io.Discard, c)
	return <-done
}

func frame(b []byte) []byte { return append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...) }

// proof is what the hello of a node with this secret carries (hello.go), written down a second time.
func proof(t *testing.T, c *tls.Conn, secret, role, id string) []byte {
	t.Helper()
	state := c.ConnectionState()
	binding, err := state.ExportKeyingMaterial("EXPORTER-postraft-hello-1", nil, 32)
	if err != nil {
		t.Fatal(err)
	}
	key, err := hkdf.Key(sha256.New, []byte(secret), nil, "postraft hello 1", 32)
	if err != nil {
		t.Fatal(err)
	}
	mac := hmac.New(sha256.New, key)
	fmt.Fprintf(mac, "%s\x00%s\x00%s", binding, role, id)
	return mac.Sum(nil)
}

func helloOf(id string, proof []byte) []byte {
	b, _ := json.Marshal(map[string]any{"id": id, "proof": proof})
	return frame(b)
}

// TestHello ensures that a hello is believed from the node that its certificate names, with the secret, on this
// connection and in this direction, and from nobody else.
func TestHello(t *testing.T) {
	secret, ca := trust.NewSecret(), trusttest.New(t)
	files := ca.Issue("n2", nil)
	pair, err := tls.LoadX509KeyPair(files.Cert, files.Key)
	if err != nil {
		t.Fatal(err)
	}
	i := &impostor{t, identity(t, "n1/a", ca.Issue("n1", nil), secret), &tls.Config{
		Certificates: []tls.Certificate{pair}, InsecureSkipVerify: true, NextProtos: []string{protocol + "+hello"},
	}}
	if err := i.says(func(c *tls.Conn) []byte { return helloOf("n2/b", proof(t, c, secret, "client", "n2/b")) }); err != nil {
		t.Fatalf("a true hello: %v", err)
	}
	var heard []byte
	for _, c := range []struct {
		what, why string
		hello     func(*tls.Conn) []byte
	}{
		{"of another node", "not for n3", func(c *tls.Conn) []byte { return helloOf("n3/b", proof(t, c, secret, "client", "n3/b")) }},
		{"with another secret", "does not prove", func(c *tls.Conn) []byte {
			return helloOf("n2/b", proof(t, c, trust.NewSecret(), "client", "n2/b"))
		}},
		{"with the proof for another id", "does not prove", func(c *tls.Conn) []byte { return helloOf("n2/c", proof(t, c, secret, "client", "n2/b")) }},
		{"with the server's proof", "does not prove", func(c *tls.Conn) []byte { return helloOf("n2/b", proof(t, c, secret, "server", "n2/b")) }},
		{"sent back", "does not prove", func(c *tls.Conn) []byte {
			var size [2]byte
			io.ReadFull(c, size[:])
			b := make([]byte, binary.BigEndian.Uint16(size[:]))
			io.ReadFull(c, b)
			return frame(b)
		}},
		{"to be heard", "", func(c *tls.Conn) []byte {
			heard = helloOf("n2/b", proof(t, c, secret, "client", "n2/b"))
			return heard
		}},
		{"of another connection", "does not prove", func(*tls.Conn) []byte { return heard }},
		{"without a proof", "does not prove", func(*tls.Conn) []byte { return helloOf("n2/b", nil) }},
		{"of a bad id", "malformed", func(c *tls.Conn) []byte { return helloOf("n2", proof(t, c, secret, "client", "n2")) }},
		{"that is no JSON", "malformed", func(*tls.Conn) []byte { return frame([]byte("{")) }},
		{"that is too long", "at most", func(*tls.Conn) []byte { return frame(make([]byte, 60000)) }},
		{"that does not come", "timeout", func(*tls.Conn) []byte { return nil }},
		{"that stops", "timeout", func(*tls.Conn) []byte { return []byte{0} }},
	} {
		err := i.says(c.hello)
		if c.why == "" && err != nil || c.why != "" && (!errors.Is(err, trust.ErrStranger) || !strings.Contains(err.Error(), c.why)) {
			t.Errorf("a hello %s: %v, want %q", c.what, err, c.why)
		}
	}
}

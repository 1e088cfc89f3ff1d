package cluster_test

import (
	"encoding/binary"
	"io"
	"net"
	"testing"
	"time"

	"postraft/cluster/clustertest"
	"postraft/cluster/trust"
)

// TestNode_UnreadableCommand ensures that a leader refuses a command of a member that it cannot read, a newer one
// perhaps: in the log it would end all nodes.
func TestNode_UnreadableCommand(t *testing.T) {
	c := clustertest.New(t, 1)
	n := c.Nodes[0]
	newer := identity(t, c.Secret, "newer/1", "postraft-node/1")
	raw, err := net.Dial("tcp", n.Config.Bind)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	conn, err := newer.Client(t.Context(), raw, "postraft-node/1")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(clustertest.Patience))
	for _, command := range []string{"", "garbage", "\xfa\x07\x00"} { // the last is an empty body of kind 127
		request := binary.LittleEndian.AppendUint32(nil, uint32(1+len(command)))
		request = append(append(request, 1), command...)
		if _, err := conn.Write(request); err != nil {
			t.Fatal(err)
		}
		var head [5]byte
		if _, err := io.ReadFull(conn, head[:]); err != nil {
			t.Fatal(err)
		}
		if _, err := io.CopyN(io.Discard, conn, int64(binary.LittleEndian.Uint32(head[:]))-1); err != nil {
			t.Fatal(err)
		}
		if head[4] != 3 {
			t.Errorf("%q: answer %d, want 3 (refused)", command, head[4])
		}
	}
	n.Create("t")
	n.Put("t", "k", "v")
}

// identity makes one from the secret of a cluster, for a node that a test plays.
func identity(t *testing.T, secret, id, protocol string) *trust.Identity {
	t.Helper()
	secrets, err := trust.ParseSecrets([]byte(secret))
	if err != nil {
		t.Fatal(err)
	}
	made, err := trust.New(trust.Config{ID: id, Protocols: []string{protocol}, Secrets: secrets})
	if err != nil {
		t.Fatal(err)
	}
	return made
}

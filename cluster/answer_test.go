package cluster_test

import (
	"crypto/tls"
	"encoding/binary"
	"io"
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
	keys, err := trust.Derive(c.Secret, "newer/1", "postraft-node/1")
	if err != nil {
		t.Fatal(err)
	}
	conn, err := tls.Dial("tcp", n.Config.Bind, keys.TLS)
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

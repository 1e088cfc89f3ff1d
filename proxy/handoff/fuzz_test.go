package handoff

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// FuzzReadHello ensures that no packets of a front end do more harm than a refusal. The packets of an input
// are divided by newlines.
func FuzzReadHello(f *testing.F) {
	hello, err := json.Marshal(message{Kind: kindHello, Version: oldest, Newest: version, Hello: &Hello{Service: "proxymap", MailVersion: "3.7.11"}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(append([]byte("{\"kind\":\"list\",\"list\":\"cHJveHk6eDp5\"}\n"), hello...))
	f.Add([]byte("{\"kind\":\"hello\",\"version\":1}"))
	f.Add([]byte("{}\n\n[]"))
	f.Fuzz(func(t *testing.T, input []byte) {
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			t.Fatal(err)
		}
		for packet := range bytes.SplitSeq(input, []byte("\n")) {
			if err := unix.Sendto(pair[0], packet, 0, nil); err != nil {
				break // longer than the socket takes
			}
		}
		unix.Close(pair[0])
		conn, err := connOf(pair[1])
		if err != nil {
			t.Fatal(err)
		}
		l := newLink(conn.(*net.UnixConn), time.Second)
		defer l.close()
		h, p, err := readHello(l, slog.New(slog.DiscardHandler))
		p.close()
		if err == nil && len(h.Approved) > maxApproved {
			t.Errorf("approval list of %d bytes", len(h.Approved))
		}
	})
}

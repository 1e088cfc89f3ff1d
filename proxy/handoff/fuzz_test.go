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
		l := fed(t, input, false)
		defer l.close()
		h, p, err := readHello(l, slog.New(slog.DiscardHandler))
		p.close()
		if err == nil && len(h.Approved) > maxApproved {
			t.Errorf("approval list of %d bytes", len(h.Approved))
		}
	})
}

// fed returns a link on which the packets of input have come, each with a descriptor beside it if asked for,
// and then the end.
func fed(t *testing.T, input []byte, descriptors bool) *link {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pair[0])
	for packet := range bytes.SplitSeq(input, []byte("\n")) {
		var oob []byte
		if descriptors {
			end, other := streams(t)
			unix.Close(other) // the client has gone
			defer unix.Close(end)
			oob = unix.UnixRights(end)
		}
		if err := unix.Sendmsg(pair[0], packet, oob, nil, 0); err != nil {
			break // longer than the socket takes
		}
	}
	conn, err := connOf(pair[1])
	if err != nil {
		t.Fatal(err)
	}
	return newLink(conn.(*net.UnixConn), time.Second)
}

// streams returns the two ends of a connection.
func streams(t *testing.T) (int, int) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	return pair[0], pair[1]
}

// FuzzAgentMessages ensures that no packets of an agent, once welcomed, upset a front end: whatever they say of
// its clients, each of these sees its end when the front end finishes.
func FuzzAgentMessages(f *testing.F) {
	f.Add([]byte("{\"kind\":\"bye\"}\n{\"kind\":\"back\",\"id\":1,\"rest\":\"cmVxdWVzdA==\"}\n{\"kind\":\"done\",\"id\":2}"), false)
	f.Add([]byte("{\"kind\":\"back\",\"id\":1}\n{\"kind\":\"back\",\"id\":1}\n{\"kind\":\"pong\"}\n{\"kind\":\"dial\",\"id\":3}"), true)
	f.Add([]byte("{\"kind\":\"log\",\"text\":\"x\",\"attrs\":[\"a\"]}\n{"), true)
	f.Fuzz(func(t *testing.T, input []byte, old bool) {
		front := NewFrontEnd(FrontEndConfig{Hold: -1, Serve: service(t, Away{}).ServeConn, Logger: slog.New(slog.DiscardHandler)})
		in := fed(t, input, true)
		var p *page
		var err error
		if !old {
			var fd int
			if p, fd, err = newPage(); err != nil {
				t.Fatal(err)
			}
			unix.Close(fd)
		}
		l := newAgentLink(front, in, p)
		var clients []int
		for range 3 {
			ours, theirs := streams(t)
			defer unix.Close(theirs)
			clients = append(clients, theirs)
			front.usage.begin()
			l.slots.take()
			l.lastID++
			l.given[l.lastID] = given{&client{fd: ours}, int(l.lastID) - 1}
		}
		err = l.run(t.Context())
		front.lose(l, err, false)
		front.finish()
		for _, fd := range clients {
			unix.SetNonblock(fd, false)
			buf := make([]byte, 4096)
			for n := 1; n > 0; {
				if n, err = unix.Read(fd, buf); err != nil && err != unix.ECONNRESET {
					t.Errorf("client's connection: %v", err)
				}
			}
		}
	})
}

// FuzzFrontMessages ensures that no packets of a front end, once welcomed, upset an agent: its connections end
// with the link.
func FuzzFrontMessages(f *testing.F) {
	f.Add([]byte("{\"kind\":\"conn\",\"id\":1,\"slot\":5}\n{\"kind\":\"conn\",\"id\":2,\"slot\":-1,\"announced\":true,\"rest\":\"cmVxdWVzdA==\"}"), true)
	f.Add([]byte("{\"kind\":\"conn\",\"id\":1,\"slot\":8192}\n{\"kind\":\"ping\"}\n{\"kind\":\"dialed\",\"id\":1}\n{"), false)
	f.Fuzz(func(t *testing.T, input []byte, shared bool) {
		in := fed(t, input, true)
		defer in.close()
		var p *page
		if shared {
			var fd int
			var err error
			if p, fd, err = newPage(); err != nil {
				t.Fatal(err)
			}
			unix.Close(fd)
		}
		front := newFrontLink(in, testHello, p, &room{most: 10}, slog.New(slog.DiscardHandler))
		front.run(t.Context(), service(t, answers{name: "agent"}))
		p.close()
	})
}

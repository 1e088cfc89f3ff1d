package handoff

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestServer_Room ensures that an agent without room for another connection ends that one alone, says so once and names
// the limit, goes on with the others, and takes new ones when there is room again.
func TestServer_Room(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	srv, err := Listen(Config{Path: path, Open: newAgent(t, "agent").open, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if srv.room.most < 100 {
		t.Errorf("room for %d connections", srv.room.most)
	}
	srv.room.most = 2
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	f := startFront(t, FrontEndConfig{Path: path})
	a, b := f.client(t), f.client(t)
	both := func() {
		t.Helper()
		for _, c := range []*testClient{a, b} {
			if who, err := ask(c); who != "agent" {
				t.Fatalf("answered by %q, %v", who, err)
			}
		}
	}
	both()
	for range 3 {
		if who, err := ask(f.client(t)); err == nil {
			t.Errorf("one too many is answered by %q", who)
		}
	}
	within(t, 5*time.Second, "it says so", f.log.has("LimitNOFILE"))
	both()
	if said := strings.Count(f.log.String(), "not taken over"); said != 1 || strings.Contains(f.log.String(), "away") {
		t.Errorf("said %d times: %s", said, f.log)
	}
	a.Close()
	a = nil
	within(t, 5*time.Second, "there is room again", func() error {
		c := f.client(t)
		who, err := ask(c)
		if who != "agent" {
			return fmt.Errorf("answered by %q, %v", who, err)
		}
		a = c
		return nil
	})
	both()
}

// TestLink_NoRoom ensures that a message whose descriptor finds no place comes without it, and that the link goes on.
func TestLink_NoRoom(t *testing.T) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	var links [2]*link
	for i, fd := range pair {
		conn, err := connOf(fd)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		links[i] = newLink(conn.(*net.UnixConn), time.Second)
	}
	for id := range uint64(2) {
		if err := links[0].send(message{Kind: kindConn, ID: id}, 0); err != nil {
			t.Fatal(err)
		}
	}
	var was unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 0, Max: was.Max}); err != nil {
		t.Fatal(err)
	}
	m, fd, err := links[1].receive()
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
	if err != nil || m.Kind != kindConn || m.ID != 0 || fd >= 0 {
		t.Errorf("without room: %+v, descriptor %d, %v", m, fd, err)
	}
	m, fd, err = links[1].receive()
	closeFD(fd)
	if err != nil || m.ID != 1 || fd < 0 {
		t.Errorf("with room again: %+v, descriptor %d, %v", m, fd, err)
	}
}

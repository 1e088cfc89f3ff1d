package proxy_test

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"postraft/proxy"
)

// FuzzServeConn feeds bytes to a connection from its start, through each dialect. Whatever they are, the
// server must neither panic nor hang, and must end when the client has gone.
func FuzzServeConn(f *testing.F) {
	files, _ := filepath.Glob("testdata/captures/*.client.bin")
	for i, file := range files {
		if b, err := os.ReadFile(file); err == nil && i%6 == 0 {
			f.Add(b, byte(i))
		}
	}
	f.Fuzz(func(t *testing.T, b []byte, how byte) {
		set := newTables()
		fill(set)
		s := proxy.New(proxy.Config{Tables: set, WriteTimeout: time.Second, RequestTimeout: time.Second})
		defer s.Close()
		svc := &proxy.Service{Name: "proxywrite", Write: how&1 != 0, Announce: how&2 != 0, Modern: how&4 != 0, SMTPUTF8: how&8 != 0}
		svc.Approve(proxy.ParseApproval(approved))
		if how&16 != 0 {
			svc.Approve(proxy.ApproveAllRaft())
		}
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		client, server := fileConn(t, pair[0]), fileConn(t, pair[1])
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			s.ServeConn(context.Background(), server, svc, 1)
			server.Close()
		}()
		go func() {
			client.Write(b)
			client.(*net.UnixConn).CloseWrite()
		}()
		defer client.Close()
		buf := make([]byte, 4096)
		for {
			if _, err := client.Read(buf); err != nil {
				break
			}
		}
		select {
		case <-ended:
		case <-time.After(10 * time.Second):
			t.Fatal("the server does not end")
		}
	})
}

func FuzzParseApproval(f *testing.F) {
	f.Add("proxy:raft:a, {proxy:raft:b x} unionmap:{proxy:raft:c, pipemap:{proxy:x:y}}")
	f.Fuzz(func(t *testing.T, list string) {
		for _, table := range proxy.ParseApproval(list).Tables() {
			if table == "" {
				t.Error("an empty table is approved")
			}
		}
	})
}

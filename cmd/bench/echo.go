package main

import (
	"context"
	"errors"
	"net"
	"strconv"
	"sync"
)

// echo answers whatever it receives with the reply's number of bytes, until ctx ends: all that a server in Go can
// do for less is nothing.
func echo(ctx context.Context, path string, reply int) error {
	ln, err := net.Listen("unix", path)
	if err != nil {
		return err
	}
	var conns sync.WaitGroup
	defer conns.Wait()
	stop := context.AfterFunc(ctx, func() { ln.Close() })
	defer stop()
	for {
		conn, err := ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		conns.Go(func() {
			defer conn.Close()
			stop := context.AfterFunc(ctx, func() { conn.Close() })
			defer stop()
			buf := make([]byte, 4096)
			for {
				if _, err := conn.Read(buf); err != nil {
					return
				}
				if _, err := conn.Write(buf[:reply]); err != nil {
					return
				}
			}
		})
	}
}

// echoProcess is an echo as a process of its own. Its arguments are the socket and the reply's number of bytes.
func echoProcess(ctx context.Context, args []string) error {
	if len(args) != 2 {
		return errors.New("usage: echo SOCKET BYTES")
	}
	reply, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	return echo(ctx, args[0], reply)
}

// echoServer starts an echoProcess.
func (l *lab) echoServer(reply int) (socket string, server processes, err error) {
	socket = l.path("echo")
	d, err := l.helper("echo", socket, strconv.Itoa(reply))
	if err != nil {
		return "", nil, err
	}
	return socket, d.processes, l.until(waitStart, "echo", func() error {
		conn, err := net.Dial("unix", socket)
		if err == nil {
			conn.Close()
		}
		return err
	})
}

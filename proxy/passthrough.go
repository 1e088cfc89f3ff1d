package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

const maxStock = 8 // idle connections that are kept to the stock service

// A Stock is the stock proxymap(8) service, kept by the operator under another name. It implements
// Passthrough over a few connections, each with one request at a time.
type Stock struct {
	// Dial opens a connection to the service's socket.
	Dial func(ctx context.Context) (net.Conn, error)

	// Announce says that the service speaks first, as it does from Postfix 3.6 on.
	Announce bool

	mu   sync.Mutex
	idle []net.Conn
}

var _ Passthrough = (*Stock)(nil)

// Forward implements Passthrough. A connection that the service has closed meanwhile costs another try,
// which is safe because the request was then not read.
func (s *Stock) Forward(ctx context.Context, dst, request []byte) ([]byte, error) {
	for {
		conn, fresh, err := s.take(ctx)
		if err != nil {
			return dst, fmt.Errorf("connect to the stock service: %w", err)
		}
		reply, err := s.roundtrip(ctx, conn, dst, request)
		if err == nil {
			s.give(conn)
			return reply, nil
		}
		conn.Close()
		if fresh || ctx.Err() != nil {
			return dst, err
		}
	}
}

func (s *Stock) take(ctx context.Context) (conn net.Conn, fresh bool, err error) {
	s.mu.Lock()
	if n := len(s.idle); n > 0 {
		conn = s.idle[n-1]
		s.idle = s.idle[:n-1]
		s.mu.Unlock()
		return conn, false, nil
	}
	s.mu.Unlock()
	if conn, err = s.Dial(ctx); err != nil {
		return nil, true, err
	}
	if !s.Announce {
		return conn, true, nil
	}
	stop := bound(ctx, conn)
	defer stop()
	hello, err := readList(conn, nil)
	if err == nil && !bytes.Equal(hello, []byte(announcement)) {
		err = errors.New("it is not a proxymap service")
	}
	if err != nil {
		conn.Close()
		return nil, true, fmt.Errorf("announcement: %w", err)
	}
	return conn, true, nil
}

func (s *Stock) give(conn net.Conn) {
	conn.SetDeadline(time.Time{})
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.idle) >= maxStock {
		conn.Close()
		return
	}
	s.idle = append(s.idle, conn)
}

// Close closes the idle connections.
func (s *Stock) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, conn := range s.idle {
		conn.Close()
	}
	s.idle = nil
}

// bound makes I/O on conn end with ctx.
func bound(ctx context.Context, conn net.Conn) (stop func() bool) {
	return context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
}

func (s *Stock) roundtrip(ctx context.Context, conn net.Conn, dst, request []byte) ([]byte, error) {
	stop := bound(ctx, conn)
	defer stop()
	if _, err := conn.Write(request); err != nil {
		return nil, fmt.Errorf("send to the stock service: %w", err)
	}
	reply, err := readList(conn, dst)
	if err != nil {
		return nil, fmt.Errorf("reply of the stock service: %w", err)
	}
	return reply, nil
}

// readList appends one attribute list to dst. Nothing may follow it.
func readList(conn net.Conn, dst []byte) ([]byte, error) {
	from := len(dst)
	var l attrList
	buf := make([]byte, readSize)
	for {
		n, err := conn.Read(buf)
		dst = append(dst, buf[:n]...)
		switch size := l.parse(dst[from:]); {
		case size == len(dst)-from && size > 0:
			return dst, nil
		case size > 0:
			return nil, errors.New("more than one list")
		case len(dst)-from > MaxList:
			return nil, errors.New("list too long")
		case err != nil:
			return nil, err
		}
	}
}

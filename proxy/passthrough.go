package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"
)

const (
	maxStock = 8 // idle connections that are kept to the stock service

	// stockAge is how long a connection is used. The stock service looks for tables whose files have changed only when a
	// connection comes (proxymap(8)), and may not end for want of use while one stays; Postfix's own clients go on to a new one
	// after the same time (ipc_idle).
	stockAge = 5 * time.Second
)

// A Stock is the stock proxymap(8) service, kept by the operator under another name. It implements
// Passthrough over a few connections, each with one request at a time.
type Stock struct {
	// Dial opens a connection to the service's socket.
	Dial func(ctx context.Context) (net.Conn, error)

	// Announce says that the service speaks first, as it does from Postfix 3.6 on.
	Announce bool

	mu     sync.Mutex
	idle   []stockConn
	expiry *time.Timer // of idle connections; nil where there are none
}

type stockConn struct {
	net.Conn
	born time.Time
}

func (c stockConn) old() bool { return time.Since(c.born) >= stockAge }

var _ Passthrough = (*Stock)(nil)

// Forward implements Passthrough. A connection that the service has closed meanwhile costs another try, as it costs Postfix's own
// clients: where the service ended just after it had carried out a delete, the second one finds nothing to delete.
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

func (s *Stock) take(ctx context.Context) (conn stockConn, fresh bool, err error) {
	s.mu.Lock()
	s.dropOldLocked()
	if n := len(s.idle); n > 0 {
		conn = s.idle[n-1]
		s.idle = s.idle[:n-1]
		s.mu.Unlock()
		return conn, false, nil
	}
	s.mu.Unlock()
	conn.born = time.Now()
	if conn.Conn, err = s.Dial(ctx); err != nil {
		return stockConn{}, true, err
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
		return stockConn{}, true, fmt.Errorf("announcement: %w", err)
	}
	return conn, true, nil
}

func (s *Stock) give(conn stockConn) {
	conn.SetDeadline(time.Time{})
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dropOldLocked()
	if len(s.idle) >= maxStock || conn.old() {
		conn.Close()
		return
	}
	s.idle = append(s.idle, conn)
	if s.expiry == nil {
		s.expiry = time.AfterFunc(stockAge, s.expire)
	}
}

// expire closes old connections that nobody has asked for.
func (s *Stock) expire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dropOldLocked(); len(s.idle) > 0 {
		s.expiry.Reset(stockAge)
	} else {
		s.expiry = nil
	}
}

// dropOldLocked closes the connections that have been used for long enough.
func (s *Stock) dropOldLocked() {
	s.idle = slices.DeleteFunc(s.idle, func(c stockConn) bool {
		if c.old() {
			c.Close()
			return true
		}
		return false
	})
}

// Close closes the idle connections.
func (s *Stock) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, conn := range s.idle {
		conn.Close()
	}
	s.idle = nil
	if s.expiry != nil {
		s.expiry.Stop()
		s.expiry = nil
	}
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

package chaos

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// A client asks one of a node's sockets in the protocol of Postfix 3.6 to 3.10. Unlike Postfix it does not
// repeat a request whose connection broke, so that a write is asked for once.
type client struct {
	node    *node
	service string
	conn    net.Conn
}

const (
	statusOK    = "0"
	statusNoKey = "1"
	statusRetry = "2"

	patience = 25 * time.Second // for a reply; what takes longer than allowed is a violation, this is the end
)

// errUnsent says that the request never left: it has surely not happened.
var errUnsent = errors.New("not sent")

func (c *client) close() {
	if c.conn != nil {
		c.conn.Close()
		c.conn = nil
	}
}

// ask sends a request and returns the values of the reply. After an error that is not errUnsent nobody knows
// what became of it.
func (c *client) ask(want int, pairs ...string) ([]string, error) {
	if c.conn != nil && stale(c.conn) {
		c.close()
	}
	deadline := time.Now().Add(patience)
	if c.conn == nil {
		conn, err := net.DialTimeout("unix", c.node.socket(c.service), patience)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errUnsent, err)
		}
		c.conn = conn
		conn.SetDeadline(deadline)
		if hello, err := readList(conn); err != nil || fmt.Sprint(hello) != "[proxymap_protocol]" {
			c.close()
			return nil, fmt.Errorf("%w: announcement %q, %w", errUnsent, hello, err)
		}
	}
	var request bytes.Buffer
	for _, s := range pairs {
		request.WriteString(s + "\x00")
	}
	request.WriteByte(0)
	c.conn.SetDeadline(deadline)
	_, err := c.conn.Write(request.Bytes())
	var reply []string
	if err == nil {
		reply, err = readList(c.conn)
	}
	if err == nil && len(reply) != want {
		err = fmt.Errorf("reply %q", reply)
	}
	if err != nil {
		c.close()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			err = fmt.Errorf("no reply within %v", patience)
		}
		return nil, err
	}
	return reply, nil
}

// stale reports whether the server has ended an idle connection.
func stale(conn net.Conn) bool {
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		return true
	}
	ended := true
	err = raw.Control(func(fd uintptr) {
		var one [1]byte
		_, _, err := unix.Recvfrom(int(fd), one[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		ended = !errors.Is(err, unix.EAGAIN)
	})
	return ended || err != nil
}

func readList(conn net.Conn) ([]string, error) {
	var list []byte
	buf := make([]byte, 4096)
	for {
		n, err := conn.Read(buf)
		list = append(list, buf[:n]...)
		if values, whole := parseList(list); whole {
			return values, nil
		}
		if err == io.EOF && len(list) > 0 {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return nil, err
		}
	}
}

func parseList(list []byte) (values []string, whole bool) {
	for {
		name, rest, found := bytes.Cut(list, []byte{0})
		if !found {
			return nil, false
		}
		if len(name) == 0 {
			return values, true
		}
		value, rest, found := bytes.Cut(rest, []byte{0})
		if !found {
			return nil, false
		}
		values, list = append(values, string(value)), rest
	}
}

func (c *client) lookup(table, key string) (status, value string, err error) {
	reply, err := c.ask(2, "request", "lookup", "table", "raft:"+table, "flags", "540736", "key", key)
	if err != nil {
		return "", "", err
	}
	return reply[0], reply[1], nil
}

func (c *client) update(table, key, value string) (status string, err error) {
	reply, err := c.ask(1, "request", "update", "table", "raft:"+table, "flags", "590208", "key", key, "value", value)
	if err != nil {
		return "", err
	}
	return reply[0], nil
}

func (c *client) remove(table, key string) (status string, err error) {
	reply, err := c.ask(1, "request", "delete", "table", "raft:"+table, "flags", "590208", "key", key)
	if err != nil {
		return "", err
	}
	return reply[0], nil
}

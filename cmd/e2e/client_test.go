package e2e

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
)

// A client speaks the protocol of Postfix 3.6 to 3.10 as Postfix's own clients do: it looks whether the
// connection is still good before each request, and repeats a request whose connection broke.
type client struct {
	path    string
	pause   time.Duration // after a connection that broke; Postfix waits 1 s
	patient time.Duration // for a reply
	silent  bool          // Postfix before 3.6: the server does not announce itself
	conn    net.Conn
}

func newClient(path string) *client {
	return &client{path: path, pause: time.Second, patient: 10 * time.Second}
}

func (c *client) close() {
	if c.conn != nil {
		c.conn.Close()
		c.conn = nil
	}
}

// Statuses of replies.
const (
	ok    = "0"
	noKey = "1"
	retry = "2"
	deny  = "4"
)

// ask sends a request and returns the values of the reply in their order. The time it may take bounds the
// repetitions.
func (c *client) ask(pairs ...string) ([]string, error) {
	var request bytes.Buffer
	for _, s := range pairs {
		request.WriteString(s + "\x00")
	}
	request.WriteByte(0)
	deadline := time.Now().Add(c.patient)
	for {
		reply, err := c.try(request.Bytes(), deadline)
		if err == nil {
			return reply, nil
		}
		c.close()
		if time.Now().After(deadline) {
			return nil, err
		}
		time.Sleep(c.pause) // what Postfix does here
	}
}

func (c *client) try(request []byte, deadline time.Time) ([]string, error) {
	if c.conn != nil && c.stale() {
		c.close()
	}
	if c.conn == nil {
		conn, err := net.Dial("unix", c.path)
		if err != nil {
			return nil, err
		}
		c.conn = conn
		c.conn.SetDeadline(deadline)
		if !c.silent {
			hello, err := c.readList()
			if err != nil {
				return nil, fmt.Errorf("announcement: %w", err)
			}
			if fmt.Sprint(hello) != "[proxymap_protocol]" {
				return nil, fmt.Errorf("announcement %q", hello)
			}
		}
	}
	c.conn.SetDeadline(deadline)
	if _, err := c.conn.Write(request); err != nil {
		return nil, err
	}
	return c.readList()
}

// stale reports whether something is to be read on the connection, which can only be its end.
func (c *client) stale() bool {
	c.conn.SetReadDeadline(time.Now().Add(time.Millisecond))
	var one [1]byte
	_, err := c.conn.Read(one[:])
	ne, isNet := err.(net.Error)
	return !(isNet && ne.Timeout())
}

// readList reads one attribute list and returns its values.
func (c *client) readList() ([]string, error) {
	var list []byte
	buf := make([]byte, 4096)
	for {
		n, err := c.conn.Read(buf)
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

func (c *client) open(table string) ([]string, error) {
	return c.ask("request", "open", "table", table, "flags", "0")
}

func (c *client) lookup(table, key string) (status, value string, err error) {
	reply, err := c.ask("request", "lookup", "table", table, "flags", "540736", "key", key)
	if err != nil || len(reply) != 2 {
		return "", "", fmt.Errorf("lookup: %q, %w", reply, err)
	}
	return reply[0], reply[1], nil
}

func (c *client) update(table, key, value string) (status string, err error) {
	reply, err := c.ask("request", "update", "table", table, "flags", "590208", "key", key, "value", value)
	return strings.Join(reply, " "), err
}

func (c *client) remove(table, key string) (status string, err error) {
	reply, err := c.ask("request", "delete", "table", table, "flags", "590208", "key", key)
	return strings.Join(reply, " "), err
}

// scan asks for the first or next entry.
func (c *client) scan(table string, next bool) (status, key, value string, err error) {
	function := "0"
	if next {
		function = "1"
	}
	reply, err := c.ask("request", "sequence", "table", table, "flags", "590208", "function", function)
	if err != nil || len(reply) != 3 {
		return "", "", "", fmt.Errorf("sequence: %q, %w", reply, err)
	}
	return reply[0], reply[1], reply[2], nil
}

package main

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
)

// Entries of the tables. All keys are of one length, and so are all values.
const (
	keyFormat   = "user%08d@example.com"
	valueFormat = "mailbox%08d@host.example.net"
	otherFormat = "mailbox%08d@host.example.org" // in its place after an import that replaces all
)

var digitsOfKey = bytes.IndexByte([]byte(keyFormat), '%')

// A request is one for an entry of a table, whose number is written into the bytes.
type request struct {
	bytes  []byte
	digits int // where the number begins
}

// set writes a number of eight digits.
func (r *request) set(number int) { put(r.bytes[r.digits:], number) }

func put(digits []byte, number int) {
	for i := 7; i >= 0; i-- {
		digits[i] = byte('0' + number%10)
		number /= 10
	}
}

// newRequest makes a request of the Postfix 3.7 protocol: a lookup, or an update with a value of its own.
func newRequest(op, table string) request {
	text := "request\x00" + op + "\x00table\x00" + table + "\x00flags\x0016448\x00key\x00"
	r := request{digits: len(text) + digitsOfKey}
	text += fmt.Sprintf(keyFormat, 0)
	if op == "update" {
		text += "\x00value\x00" + fmt.Sprintf(valueFormat, 0)
	}
	r.bytes = []byte(text + "\x00\x00")
	return r
}

const retry = "status\x002\x00\x00"

// errRetry says that the service answered RETRY. The connection is good for the next request.
var errRetry = errors.New("the reply is RETRY")

const announcement = "protocol\x00proxymap_protocol\x00\x00"

// dialProxymap connects to a proxymap or proxywrite service and reads what it says first.
func dialProxymap(path string) (net.Conn, error) {
	conn, err := net.Dial("unix", path)
	if err != nil {
		return nil, err
	}
	buf := make([]byte, len(announcement))
	for n := 0; n < len(buf); {
		more, err := conn.Read(buf[n:])
		if err != nil {
			conn.Close()
			return nil, fmt.Errorf("%s: no announcement: %w", path, err)
		}
		n += more
	}
	if string(buf) != announcement {
		conn.Close()
		return nil, fmt.Errorf("%s: it announces %q", path, buf)
	}
	return conn, nil
}

// A lookupCaller looks random entries up.
type lookupCaller struct {
	net.Conn
	request
	entries int
	want    []byte // the whole reply
	digits  int    // of the number in want
	other   []byte // a reply that is right as well, nil if there is none
	echo    bool   // the server is an echo: only the length of the reply counts
	buf     []byte
}

// found returns the reply to the lookup of entry 0 in a table whose values have this format.
func found(format string) []byte {
	return []byte("status\x000\x00value\x00" + fmt.Sprintf(format, 0) + "\x00\x00")
}

// newLookup makes a caller of a table with that many entries.
func newLookup(conn net.Conn, table string, entries int) *lookupCaller {
	c := &lookupCaller{Conn: conn, request: newRequest("lookup", table), entries: entries, want: found(valueFormat), buf: make([]byte, 4096)}
	c.digits = bytes.Index(c.want, []byte("mailbox")) + len("mailbox")
	return c
}

// orReplaced makes the values of a table that was replaced right as well.
func (c *lookupCaller) orReplaced() *lookupCaller {
	c.other = found(otherFormat)
	return c
}

func (c *lookupCaller) call(r *rand.Rand) error {
	number := r.IntN(c.entries)
	c.set(number)
	if _, err := c.Write(c.bytes); err != nil {
		return err
	}
	n := 0
	for n < len(c.want) {
		more, err := c.Read(c.buf[n:])
		if err != nil {
			return err
		}
		n += more
	}
	if c.echo {
		return nil
	}
	put(c.want[c.digits:], number)
	if bytes.Equal(c.buf[:n], c.want) {
		return nil
	}
	if c.other != nil {
		put(c.other[c.digits:], number)
	}
	if c.other == nil || !bytes.Equal(c.buf[:n], c.other) {
		return fmt.Errorf("lookup of entry %d: the reply is %q", number, c.buf[:n])
	}
	return nil
}

func (c *lookupCaller) close() { c.Conn.Close() }

// An updateCaller changes random entries, each to a value that it did not have.
type updateCaller struct {
	net.Conn
	request
	entries int
	value   int // where the number of the value begins
	made    int
	buf     []byte
}

func newUpdate(conn net.Conn, table string, entries, first int) *updateCaller {
	c := &updateCaller{Conn: conn, request: newRequest("update", table), entries: entries, made: first, buf: make([]byte, 256)}
	c.value = bytes.Index(c.bytes, []byte("mailbox")) + len("mailbox")
	return c
}

func (c *updateCaller) call(r *rand.Rand) error {
	c.set(r.IntN(c.entries))
	c.made++
	put(c.bytes[c.value:], c.made%100_000_000)
	if _, err := c.Write(c.bytes); err != nil {
		return err
	}
	const done = "status\x000\x00\x00"
	n, err := c.Read(c.buf)
	switch {
	case err != nil:
		return err
	case string(c.buf[:n]) == retry:
		return errRetry
	case string(c.buf[:n]) != done:
		return errors.New("update: the reply is " + strconv.Quote(string(c.buf[:n])))
	}
	return nil
}

func (c *updateCaller) close() { c.Conn.Close() }

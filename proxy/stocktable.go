package proxy

import (
	"bytes"
	"context"
	"fmt"

	"postraft/dict"
)

// A stockTable is a table of the stock proxymap(8) inside one that is answered here. It is asked while its
// connection serves a request, with the flags of that.
type stockTable struct {
	c    *conn
	name string // maptype:mapname
}

// Lookup implements dict.Reader. The stock service has to approve the table by its own name.
func (t *stockTable) Lookup(key []byte) (value []byte, found bool, err error) {
	if bytes.IndexByte(key, 0) >= 0 {
		return nil, false, nil // no Postfix program can ask for it
	}
	c, r := t.c, &t.c.req
	request := appendBytes(appendBytes(nil, "request", []byte("lookup")), "table", []byte(t.name))
	if r.modern {
		request = appendUint(request, "instance_flags", uint32(r.instance))
	}
	request = appendUint(request, "flags", uint32(r.flags&^(dict.Fixed|dict.Pattern)))
	request = appendEnd(appendBytes(request, "key", key))
	ctx, cancel := context.WithTimeout(c.s.ctx, c.s.cfg.WriteTimeout)
	defer cancel()
	reply, err := c.svc.Passthrough.Forward(ctx, nil, request)
	if err != nil {
		c.tally.notPassed.Add(1)
		return nil, false, fmt.Errorf("ask the stock proxymap(8) for %s: %w: %w", t.name, err, dict.ErrRetry)
	}
	c.tally.passed.Add(1)
	return t.read(reply, r.modern)
}

// read reads the reply to a lookup.
func (t *stockTable) read(reply []byte, modern bool) (value []byte, found bool, err error) {
	var l attrList
	l.parse(reply)
	at := 1
	if modern {
		at = 2
	}
	if !l.is(0, "status") || !l.is(at, "value") {
		return nil, false, fmt.Errorf("the stock proxymap(8) gives no answer to a lookup in %s: %w", t.name, dict.ErrRetry)
	}
	number, ok := parseUint(l.attrs[0].value)
	switch s := status(number); {
	case ok && s == statusOK:
		return l.attrs[at].value, true, nil
	case ok && s == statusNoKey:
		return nil, false, nil
	case ok && s == statusConfig:
		return nil, false, fmt.Errorf("%s of the stock proxymap(8): %w", t.name, dict.ErrConfig)
	case ok && s == statusDeny:
		parameter, _ := t.c.svc.parameter()
		return nil, false, fmt.Errorf("the stock proxymap(8) does not approve %s: list proxy:%s in main.cf:%s: %w", t.name, t.name, parameter, dict.ErrRetry)
	default:
		return nil, false, fmt.Errorf("%s is not available to the stock proxymap(8), whose log says why: %w", t.name, dict.ErrRetry)
	}
}

// Next implements dict.Reader; tables that hold others have no list of entries.
func (t *stockTable) Next([]byte) (key, value []byte, found bool, err error) {
	return nil, nil, false, fmt.Errorf("%s is not listed here: %w", t.name, dict.ErrRetry)
}

// Kind implements dict.Reader.
func (t *stockTable) Kind() dict.Flags { return kindOf(t.name) }

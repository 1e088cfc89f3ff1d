package proxy

import (
	"context"
	"errors"
	"fmt"

	"postraft/dict"
)

// Locals are the local tables that are answered here, without the stock proxymap(8).
type Locals interface {
	// Open returns the table maptype:mapname, nil if somebody else is to answer it. It waits for nothing. The table
	// belongs to the connection that asks for it.
	Open(name string, o LocalOptions) dict.Reader
}

// LocalOptions say how a local table is opened.
type LocalOptions struct {
	Write bool // for changes
	UTF8  bool // smtputf8_enable

	// Stock returns the table of the stock proxymap(8) that goes by a name, for use in a table that is answered here.
	// It is nil where there is no such service.
	Stock func(name string) dict.Reader
}

// openLocal returns the local table of a name if it is answered here.
func (c *conn) openLocal(name string) Table {
	if c.s.cfg.Locals == nil {
		return nil
	}
	o := LocalOptions{Write: c.svc.Write, UTF8: c.svc.SMTPUTF8}
	if c.svc.Passthrough != nil {
		o.Stock = func(name string) dict.Reader { return &stockTable{c, name} }
	}
	if t := c.s.cfg.Locals.Open(name, o); t != nil {
		return localTable{t}
	}
	return nil
}

// localTable is a local table, which nobody can change.
type localTable struct{ dict.Reader }

var errLocal = fmt.Errorf("local tables are not changed through proxymap: %w", dict.ErrRetry)

func (localTable) Update(context.Context, []byte, []byte) error           { return errLocal }
func (localTable) Delete(context.Context, []byte) (bool, error)           { return false, errLocal }
func (localTable) DeleteIf(context.Context, []byte, []byte) (bool, error) { return false, errLocal }
func (localTable) Create(context.Context) error                           { return errLocal }

// LookupFlags implements dict.FlagReader.
func (t localTable) LookupFlags(key []byte, flags dict.Flags) (value []byte, found bool, err error) {
	if f, ok := t.Reader.(dict.FlagReader); ok {
		return f.LookupFlags(key, flags)
	}
	return t.Lookup(key)
}

// serveLocal answers a request for a local table that is answered here.
func (c *conn) serveLocal(h *handle, raw []byte) {
	r := &c.req
	switch {
	case (r.flags|r.instance)&dict.SrcRHSIsFile == 0 && r.op == opLookup:
		value, s, err := c.attempt(h)
		if errors.Is(err, dict.ErrUnserved) && c.svc.Passthrough != nil {
			c.forward(h, raw)
			return
		}
		value, s = c.settled(h, value, s, err)
		c.count(h, s)
		c.out = r.appendReply(c.out, s, nil, value)
	case (r.flags|r.instance)&dict.SrcRHSIsFile == 0: // no values that name files
		c.serveTable(h)
	case c.svc.Passthrough != nil:
		c.forward(h, raw)
	case r.op == opOpen:
		r.flags = r.instance&^(dict.Fixed|dict.Pattern) | h.table.Kind()
		c.out = r.appendReply(c.out, statusOK, nil, nil)
	default:
		c.out = r.appendReply(c.out, c.failed(h, fmt.Errorf("values that name files are for the stock proxymap(8): %w", dict.ErrRetry)), nil, nil)
	}
}

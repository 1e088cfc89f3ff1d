package proxy

import (
	"cmp"
	"context"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"postraft/dict"
)

const (
	readSize  = 4096
	keepReply = 64 << 10 // a larger reply buffer is not kept
	maxOpened = 1024     // tables that a connection remembers
	maxKept   = 4 << 10  // bytes of a table's name that is remembered though it is not served
	maxShown  = 512      // bytes of a table's name in the log
)

// announcement is what a server says first, from Postfix 3.6 on.
const announcement = "protocol\x00proxymap_protocol\x00\x00"

// A conn is one connection. At any time it belongs to one goroutine: its own, or that of a loop.
type conn struct {
	s    *Server
	svc  *Service
	loop *loop
	fd   int
	pid  int

	turns    chan turn   // from the loop, which never waits: one at most is under way
	recalled atomic.Bool // its context has ended
	ended    atomic.Bool // the client has sent its last
	here     bool        // guarded by loop.mu: the loop has it
	missed   bool        // guarded by loop.mu: something came while the loop did not have it
	interest uint32      // guarded by loop.mu: events that epoll looks for
	due      time.Time   // guarded by loop.mu: the deadline as the loop knows it; zero without
	queued   bool        // of the loop: it is going to have a turn

	unread   bool      // there may be something to be read
	deadline time.Time // of a request that has begun to arrive, or of replies that are not taken; zero without

	in       []byte // bytes received and not consumed
	out      []byte // replies not sent yet
	sent     int    // as much of out was sent
	fold     []byte
	list     attrList
	req      request
	approved *Approval // for which opened holds
	aliases  *Aliases  // for which opened holds
	opened   map[string]*handle
	writing  patience
	change   change
	*gated   // nil for a connection that no other server gets

	tally           *tally
	reads           uint      // so far
	arrived         time.Time // when what is being served was received; zero while it is not timed
	lookups, writes int       // in out, with this much to be counted when it is sent
}

// A handle is a table as one connection knows it.
type handle struct {
	name   string // maptype:mapname
	raft   string // name of the raft table; empty for local tables
	table  Table  // nil for tables of the stock service
	local  bool   // table is a local one
	denied bool
	bad    bool // not a table name
	prompt bool // it is a raft table of fixed keys: a lookup does not wait

	starter dict.Starter // nil where its updates need a goroutine that waits

	tally *tableTally
	named bool // it is counted by its name, if there may be one more
}

// ServeConn serves one connection of the process pid; 0 is whoever is at the other end. It returns when the client
// has gone or broke the limits, or when ctx has ended and the request at hand is answered. It takes nc over, which
// must be a socket.
func (s *Server) ServeConn(ctx context.Context, nc net.Conn, svc *Service, pid int) {
	fd, err := own(nc)
	if err != nil {
		s.notices.warn(s.logger(svc), "connection not served", "service", svc.Name, "err", err)
		return
	}
	defer unix.Close(fd)
	s.ServeHandover(ctx, fd, svc, cmp.Or(pid, PeerPID(fd)), &Handover{})
}

// newConn begins with a connection. fresh says that no other server has had it.
func (s *Server) newConn(fd int, svc *Service, pid int, fresh bool) (*conn, error) {
	l, err := s.nextLoop()
	if err != nil {
		return nil, err
	}
	c := &conn{
		s: s, svc: svc, loop: l, fd: fd, pid: pid, turns: make(chan turn, 1), in: make([]byte, 0, readSize),
		tally: s.counting.begin(svc.Name, fresh),
	}
	c.change.done = func() { l.tell(c) }
	return c, nil
}

// serveList answers one list, which is parsed into c.list.
func (c *conn) serveList(raw []byte) {
	r := &c.req
	verdict := r.parse(&c.list, c.svc.Modern)
	if verdict != serve {
		c.tally.malformed.Add(1)
	}
	switch verdict {
	case ignore:
		c.s.notices.warn(c.logger(), "not a request", "service", c.svc.Name, "pid", c.pid)
		return
	case strange:
		c.s.notices.warn(c.logger(), "request of unknown name", "service", c.svc.Name, "pid", c.pid)
		c.out = appendEnd(appendUint(c.out, "status", uint32(statusBad)))
		return
	case reject:
		c.s.notices.warn(c.logger(), "malformed request", "service", c.svc.Name, "pid", c.pid, "request", r.op.String())
		c.out = r.appendReply(c.out, statusBad, nil, nil)
		return
	}
	h := c.open(r.table)
	if (r.op == opUpdate || r.op == opDelete) && !c.svc.Write {
		h.tally.denied.Add(1)
		c.s.notices.warn(c.logger(), "refusing "+shortened(dict.TrimProxy(string(r.table)))+" "+r.op.String()+" request on non-proxywrite service", "service", c.svc.Name)
		c.out = r.appendReply(c.out, statusDeny, nil, nil)
		return
	}
	switch {
	case h.bad:
		c.tally.malformed.Add(1)
		c.out = r.appendReply(c.out, statusBad, nil, nil)
	case h.denied:
		c.deny(h)
		c.out = r.appendReply(c.out, statusDeny, nil, nil)
	case h.table == nil:
		c.forward(h, raw)
	case h.local:
		c.serveLocal(h, raw)
	default:
		c.serveTable(h)
	}
}

// current reports whether what was decided about tables still holds.
func (c *conn) current() bool {
	return c.svc.approved.Load() == c.approved && c.s.aliases.Load() == c.aliases
}

// open returns the handle of a table, deciding once for the connection whether it is approved.
func (c *conn) open(name []byte) *handle {
	approved, aliases := c.svc.approved.Load(), c.s.aliases.Load()
	if !c.current() || len(c.opened) >= maxOpened {
		c.approved, c.aliases, c.opened = approved, aliases, nil
	}
	if h, ok := c.opened[string(name)]; ok {
		return h
	}
	h := &handle{name: dict.TrimProxy(string(name))}
	parsed, err := dict.ParseName(h.name)
	raft, isRaft := aliases.resolve(parsed)
	switch {
	case err != nil:
		h.bad = true
		c.s.notices.warn(c.logger(), "malformed table name", "service", c.svc.Name, "table", shortened(h.name))
	case !approved.Allows(h.name) && !(isRaft && approved.everyRaft()):
		h.denied = true
	case isRaft:
		if err := dict.CheckTableName(raft); err != nil {
			h.bad = true
			c.s.notices.warn(c.logger(), "raft table of this name cannot exist", "service", c.svc.Name, "table", shortened(h.name), "err", err)
			break
		}
		h.table = c.s.cfg.Tables.Table(raft)
		h.prompt = true
		h.starter, _ = h.table.(dict.Starter)
	default:
		h.table = c.openLocal(h.name)
		h.local = h.table != nil
		h.denied = h.table == nil && c.svc.Passthrough == nil
	}
	if err == nil && !h.bad && isRaft && dict.CheckTableName(raft) == nil {
		h.raft = raft
	}
	c.tallyFor(h)
	if (h.bad || h.denied) && len(name) > maxKept {
		return h
	}
	if c.opened == nil {
		c.opened = map[string]*handle{}
	}
	c.opened[string(name)] = h
	return h
}

// shortened returns a name of any length as it is to be logged.
func shortened(name string) string {
	if len(name) > maxShown {
		return strings.ToValidUTF8(name[:maxShown], "") + "..."
	}
	return name
}

// deny counts and logs a refused table in the words of proxymap(8), so that what greps for them goes on.
func (c *conn) deny(h *handle) {
	h.tally.denied.Add(1)
	parameter, access := c.svc.parameter()
	allowed, table := c.approved.Allows(h.name), shortened(h.name)
	if allowed {
		c.s.notices.warn(c.logger(), "no way to local table: \""+table+"\"; "+c.svc.Hint, "service", c.svc.Name)
		return
	}
	c.s.notices.warn(c.logger(), "request for unapproved table: \""+table+"\"", "service", c.svc.Name)
	c.s.notices.warn(c.logger(), "to approve this table for "+access+" access, list proxy:"+table+" in main.cf:"+parameter, "service", c.svc.Name)
}

// forward hands a request to the stock service.
func (c *conn) forward(h *handle, raw []byte) {
	before := len(c.out)
	ctx, cancel := context.WithTimeout(c.s.ctx, c.s.cfg.WriteTimeout)
	defer cancel()
	out, err := c.svc.Passthrough.Forward(ctx, c.out, raw)
	if err == nil {
		c.tally.passed.Add(1)
		c.out = out
		return
	}
	c.tally.notPassed.Add(1)
	c.out = c.out[:before]
	c.s.notices.warn(c.logger(), "local table not answered by the stock service", "service", c.svc.Name, "table", h.name, "err", err)
	r := &c.req
	if r.op == opOpen {
		r.flags = r.instance&^(dict.Fixed|dict.Pattern) | kindOf(h.name)
		c.out = r.appendReply(c.out, statusOK, nil, nil)
		return
	}
	c.out = r.appendReply(c.out, statusRetry, nil, nil)
}

// kindOf says how Postfix asks a local table of which nothing but the name is known.
func kindOf(table string) dict.Flags {
	name, _ := dict.ParseName(table)
	switch name.Type {
	case "cidr", "regexp", "pcre", "tcp", "socketmap", "randmap", "fail":
		return dict.Pattern
	default:
		return dict.Fixed
	}
}

func (c *conn) serveTable(h *handle) {
	r := &c.req
	switch r.op {
	case opOpen:
		r.flags = c.openFlags(h.table.Kind())
		if c.svc.Write && !h.local {
			c.s.ensure(dict.RaftType+":"+h.raft, h.table, c.logger())
		}
		c.out = r.appendReply(c.out, statusOK, nil, nil)
	case opLookup:
		value, s := c.lookup(h)
		c.count(h, s)
		c.out = r.appendReply(c.out, s, nil, value)
	case opUpdate:
		c.timeWrite()
		s := c.update(h)
		c.count(h, s)
		c.out = r.appendReply(c.out, s, nil, nil)
	case opDelete:
		c.timeWrite()
		s := c.remove(h)
		c.count(h, s)
		c.out = r.appendReply(c.out, s, nil, nil)
	case opSequence:
		key, value, s := c.sequence(h)
		c.count(h, s)
		c.out = r.appendReply(c.out, s, key, value)
	}
}

// openFlags returns what an opened table is: what the client asked for, fixed or pattern, and whether the
// UTF-8 work is done here (from Postfix 3.11 on, which leaves it to the server when that says so).
func (c *conn) openFlags(kind dict.Flags) dict.Flags {
	f := c.req.instance&^(dict.Fixed|dict.Pattern) | kind
	if c.req.modern && f&dict.UTF8Request != 0 && c.svc.SMTPUTF8 {
		f |= dict.UTF8Active
	}
	return f
}

// key returns the key to look up, folded where the client wants it. valid is false for a key that is not
// UTF-8 where only UTF-8 keys count.
func (c *conn) key(h *handle) (key []byte, valid bool) {
	r := &c.req
	if r.modern && r.flags&dict.UTF8Active != 0 && !utf8.Valid(r.key) {
		return nil, false
	}
	if r.flags&dict.FoldFix != 0 && h.table.Kind()&dict.Fixed != 0 {
		c.fold = dict.AppendFold(c.fold[:0], r.key)
		return c.fold, true
	}
	return r.key, true
}

func (c *conn) lookup(h *handle) ([]byte, status) {
	value, s, err := c.attempt(h)
	if c.made(h, err) {
		value, s, err = c.attempt(h)
	}
	return c.settled(h, value, s, err)
}

// settled says what is wrong with an attempt, and returns the answer.
func (c *conn) settled(h *handle, value []byte, s status, err error) ([]byte, status) {
	switch {
	case errors.Is(err, errKeyNotUTF8), errors.Is(err, errValueNotUTF8):
		c.notUTF8(h, err)
	case err != nil:
		return nil, c.failed(h, err)
	}
	return value, s
}

var (
	errKeyNotUTF8   = errors.New("key is not UTF-8")
	errValueNotUTF8 = errors.New("value is not UTF-8")
)

func (c *conn) notUTF8(h *handle, err error) {
	c.s.notices.warn(c.logger(), err.Error(), "service", c.svc.Name, "table", h.name)
}

// attempt looks the request's key up. It never waits if h is prompt. With errKeyNotUTF8 and errValueNotUTF8 the status
// is the answer nevertheless.
func (c *conn) attempt(h *handle) (value []byte, s status, err error) {
	key, valid := c.key(h)
	if !valid {
		return nil, statusNoKey, errKeyNotUTF8
	}
	value, found, err := c.find(h, key)
	switch {
	case err != nil:
		return nil, statusRetry, err
	case !found:
		return nil, statusNoKey, nil
	case c.req.modern && c.req.flags&dict.UTF8Active != 0 && !utf8.Valid(value):
		return nil, statusConfig, errValueNotUTF8
	}
	return value, statusOK, nil
}

// find asks the table, with the flags of the request where they count.
func (c *conn) find(h *handle, key []byte) (value []byte, found bool, err error) {
	if t, ok := h.table.(dict.FlagReader); ok {
		return t.LookupFlags(key, c.req.instance|c.req.flags)
	}
	return h.table.Lookup(key)
}

func (c *conn) update(h *handle) status {
	key, ok := c.updateKey(h)
	if !ok {
		if _, valid := c.key(h); !valid {
			c.notUTF8(h, errKeyNotUTF8)
		}
		return statusOK // Postfix's own tables do nothing and say so
	}
	limit := c.limit(h)
	until := time.Now().Add(limit)
	return c.updated(h, h.table.Update(c.writing.within(c.s.ctx, limit), key, c.req.value), until)
}

// updateKey returns the key of an update that is to be made. ok is false where one of key and value is not UTF-8 and
// ought to be.
func (c *conn) updateKey(h *handle) (key []byte, ok bool) {
	key, valid := c.key(h)
	if !valid || c.req.modern && c.req.flags&dict.UTF8Active != 0 && !utf8.Valid(c.req.value) {
		return nil, false
	}
	c.s.cursors.forget(cursorKey{c.svc.Name, c.pid, h.name}, key)
	return key, true
}

// updated returns the answer to an update that ended with err. A table that is not there is made, if there is time until
// then: a new limit would be another one, for what a table allows is known while it is there.
func (c *conn) updated(h *handle, err error, until time.Time) status {
	if errors.Is(err, dict.ErrNoTable) {
		ctx, cancel := context.WithDeadline(c.s.ctx, until)
		defer cancel()
		if err = h.table.Create(ctx); err == nil {
			key, _ := c.key(h)
			err = h.table.Update(ctx, key, c.req.value)
		}
	}
	if err != nil {
		return c.failed(h, err)
	}
	return statusOK
}

func (c *conn) remove(h *handle) status {
	key, valid := c.key(h)
	if !valid {
		c.notUTF8(h, errKeyNotUTF8)
		return statusOK
	}
	ctx := c.writing.within(c.s.ctx, c.limit(h))
	remove := func() (bool, error) { return h.table.Delete(ctx, key) }
	if seen, ok := c.s.cursors.given(cursorKey{c.svc.Name, c.pid, h.name}, key); ok {
		remove = func() (bool, error) { return h.table.DeleteIf(ctx, key, seen) }
	}
	found, err := remove()
	if c.made(h, err) {
		found, err = remove()
	}
	switch {
	case err != nil:
		return c.failed(h, err)
	case !found:
		return statusNoKey
	}
	return statusOK
}

func (c *conn) sequence(h *handle) (key, value []byte, s status) {
	k := cursorKey{c.svc.Name, c.pid, h.name}
	var last []byte
	if c.req.next {
		var end bool
		if last, end = c.s.cursors.get(k); end {
			return nil, nil, statusNoKey
		}
	}
	key, value, found, err := h.table.Next(last)
	if c.made(h, err) {
		key, value, found, err = h.table.Next(last)
	}
	if err != nil {
		return nil, nil, c.failed(h, err)
	}
	c.s.cursors.set(k, key, value, !found)
	if !found {
		return nil, nil, statusNoKey
	}
	return key, value, statusOK
}

// failed logs why a request could not be served and returns its status.
func (c *conn) failed(h *handle, err error) status {
	s := statusOf(err)
	c.s.notices.warn(c.logger(), c.req.op.String()+" not served", "service", c.svc.Name, "table", h.name, "err", err)
	return s
}

// statusOf turns an error of a table into a status. What is not known to be lasting is RETRY.
func statusOf(err error) status {
	switch {
	case errors.Is(err, dict.ErrRetry):
		return statusRetry
	case errors.Is(err, dict.ErrConfig), errors.Is(err, dict.ErrBadSource):
		return statusConfig
	default:
		return statusRetry
	}
}

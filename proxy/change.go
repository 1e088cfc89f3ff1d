package proxy

import (
	"sync/atomic"
	"time"

	"postraft/dict"
)

// A change is the update that a connection waits for without a goroutine, one at most: c.req, as long as it is under way.
type change struct {
	update dict.Change // nil without
	table  *handle
	size   int         // of the request in c.in
	limit  time.Time   // when it is given up
	over   atomic.Bool // there is an outcome
	done   func()      // sets over, and has the loop look
}

// begin starts the next request in c.in if that is an update that needs nobody to wait for it. It returns true if it has:
// nothing else is done for the connection until that is over.
func (c *conn) begin() bool {
	if !c.svc.Write || len(c.out) > 0 {
		return false
	}
	size := c.list.parse(c.in) // again: what is parsed may have been moved since
	r := &c.req
	if r.parse(&c.list, c.svc.Modern) != serve || r.op != opUpdate || !c.current() {
		return false
	}
	h, ok := c.opened[string(r.table)]
	if !ok || h.starter == nil {
		return false
	}
	key, ok := c.updateKey(h)
	if !ok {
		return false
	}
	c.timeWrite()
	c.change.over.Store(false) // nobody else sets it before Start: the one before has been asked for its outcome
	limit := c.limit(h)
	update, err := h.starter.Start(key, r.value, limit, c.change.done)
	if err != nil {
		return false // the goroutine meets the same error, and may say so
	}
	c.change.update, c.change.table, c.change.size = update, h, size
	c.change.limit = time.Now().Add(limit)
	c.deadline = c.change.limit
	return true
}

// conclude answers the update under way, which ended with err. Unless that is nil, it may take time.
func (c *conn) conclude(err error) {
	h := c.change.table
	c.change.update = nil
	c.deadline = time.Time{} // that was the update's
	s := c.updated(h, err, c.change.limit)
	c.count(h, s)
	c.out = c.req.appendReply(c.out, s, nil, nil)
	c.consumed(c.change.size)
}

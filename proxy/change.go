package proxy

import (
	"sync/atomic"
	"time"

	"postraft/dict"
)

// A change is the update that a connection waits for without a goroutine, one at most: c.req, as long as it is under way.
type change struct {
	started dict.Change // nil without
	table   *handle
	size    int         // of the request in c.in
	over    atomic.Bool // there is an outcome; set under loop.mu
	done    func()      // sets over, and has the loop look
}

// begin starts the request that is parsed into c.list if it is an update that needs nobody to wait for it. It returns
// true if it has: nothing else is done for the connection until that is over.
func (c *conn) begin() bool {
	if !c.svc.Write || len(c.out) > 0 {
		return false
	}
	size := c.list.parse(c.in)
	r := &c.req
	if r.parse(&c.list, c.svc.Modern) != serve || r.op != opUpdate || !c.current() {
		return false
	}
	h, ok := c.opened[string(r.table)]
	if !ok || h.starter == nil {
		return false
	}
	limit := c.limit(h)
	key, ok := c.updateKey(h)
	if !ok {
		return false
	}
	c.timeWrite()
	c.change.over.Store(false)
	started, err := h.starter.Start(key, r.value, limit, c.change.done)
	if err != nil {
		return false
	}
	c.change.started, c.change.table, c.change.size = started, h, size
	c.deadline = time.Now().Add(limit)
	return true
}

// conclude answers the update under way. Where it has failed, or is not over and thereby given up, that may take time.
func (c *conn) conclude() {
	h := c.change.table
	err := c.change.started.Outcome()
	c.change.started = nil
	s := c.updated(h, err)
	c.count(h, s)
	c.out = c.req.appendReply(c.out, s, nil, nil)
	c.consumed(c.change.size)
}

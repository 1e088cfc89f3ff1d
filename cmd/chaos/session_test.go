package chaos

import (
	"context"
	"errors"
	"time"

	"postraft/ops"
)

// How long an answer may take.
const (
	lookupLimit = 2 * time.Second
	updateLimit = 6 * time.Second
	adminTime   = 5 * time.Second // what the operator's API is given
	importLimit = 60 * time.Second
)

// An outcome is what a worker knows of a request.
type outcome string

const (
	done     outcome = "done"
	absent   outcome = "not found"
	undone   outcome = "not done" // a write that surely did not happen, a read without an answer
	unsure   outcome = "unknown"  // a write of which nobody knows
	deferred outcome = "RETRY"    // a lookup
)

// A session is a worker's way to one node.
type session struct {
	s           *site
	n           *node
	worker      string
	read, write *client
	api         *ops.Client
}

func (s *site) session(n *node, worker string) *session {
	return &session{s: s, n: n, worker: worker, read: &client{node: n, service: "proxymap"},
		write: &client{node: n, service: "proxywrite"}, api: n.admin(adminTime)}
}

// sessions returns a session with each node.
func (s *site) sessions(worker string) []*session {
	var list []*session
	for _, n := range s.nodes {
		list = append(list, s.session(n, worker))
	}
	return list
}

func (c *session) close() {
	c.read.close()
	c.write.close()
}

// timed runs a request, records it and checks that it was answered in time.
func (c *session) timed(limit time.Duration, o operation, request func() (answer string)) {
	r := c.s.record
	o.worker, o.node, o.began = c.worker, c.n.name, r.now()
	began := time.Now()
	o.answer = request()
	ended := time.Now()
	o.took = ended.Sub(began)
	r.add(o)
	r.checks.Add(1)
	if o.took > limit && !c.n.excused(began, ended) && !c.s.stalled(began, ended) {
		r.violate("I7", o.table, o.key, "%s answered %q to %s %s %s after %v, more than %v", c.n.name, o.answer, o.what, o.table, o.key, o.took, limit)
	}
}

// lookup reads the node's own memory.
func (c *session) lookup(table, key string) (value string, out outcome) {
	c.timed(lookupLimit, operation{what: "lookup", table: table, key: key}, func() string {
		status, v, err := c.read.lookup(table, key)
		switch {
		case err != nil:
			out = undone
			return err.Error()
		case status == statusOK:
			value, out = v, done
			return v
		case status == statusNoKey:
			out = absent
		case status == statusRetry:
			out = deferred
		default:
			c.s.record.violate("I7", table, key, "%s answered status %s to a lookup: BAD, DENY and CONFIG end a Postfix process", c.n.name, status)
			out = undone
		}
		return string(out)
	})
	return value, out
}

// wrote returns what a status of proxywrite tells.
func wrote(status string, err error) outcome {
	switch {
	case errors.Is(err, errUnsent):
		return undone
	case err != nil || status == statusRetry:
		return unsure
	case status == statusOK:
		return done
	case status == statusNoKey:
		return absent
	}
	return unsure
}

func answer(out outcome, err error) string {
	if err != nil {
		return string(out) + ": " + err.Error()
	}
	return string(out)
}

// update writes through proxywrite.
func (c *session) update(table, key, value string) (out outcome) {
	c.timed(updateLimit, operation{what: "update", table: table, key: key, value: value}, func() string {
		status, err := c.write.update(table, key, value)
		out = wrote(status, err)
		return answer(out, err)
	})
	return out
}

// remove deletes through proxywrite.
func (c *session) remove(table, key string) (out outcome) {
	c.timed(updateLimit, operation{what: "delete", table: table, key: key}, func() string {
		status, err := c.write.remove(table, key)
		out = wrote(status, err)
		return answer(out, err)
	})
	return out
}

// judged returns what an error of the operator's API tells of a write.
func judged(err error) outcome {
	var e *ops.Error
	switch {
	case err == nil:
		return done
	case errors.As(err, &e) && (e.Kind == ops.Retry || e.Kind == ops.NoAgent || e.Kind == ops.Refused):
		return undone
	}
	return unsure
}

// put writes through the operator's API, which also says when a write has surely not happened.
func (c *session) put(ctx context.Context, table, key, value string) (out outcome) {
	c.timed(updateLimit, operation{what: "put", table: table, key: key, value: value}, func() string {
		err := c.api.Put(ctx, table, []byte(key), []byte(value))
		out = judged(err)
		return answer(out, err)
	})
	return out
}

// erase deletes through the operator's API.
func (c *session) erase(ctx context.Context, table, key string) (out outcome) {
	c.timed(updateLimit, operation{what: "erase", table: table, key: key}, func() string {
		found, err := c.api.Delete(ctx, table, []byte(key))
		if out = judged(err); out == done && !found {
			out = absent
		}
		return answer(out, err)
	})
	return out
}

// consult reads as of now for the whole cluster.
func (c *session) consult(ctx context.Context, table, key string) (value string, out outcome) {
	c.timed(updateLimit, operation{what: "consistent get", table: table, key: key}, func() string {
		v, err := c.api.Get(ctx, table, []byte(key), true)
		switch {
		case err != nil:
			out = undone
			return answer(out, err)
		case !v.Found:
			out = absent
			return string(out)
		}
		value, out = string(v.Value), done
		return value
	})
	return value, out
}

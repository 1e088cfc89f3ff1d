package proxy

import (
	"context"
	"time"
)

// A patience makes the contexts of the writes of a connection, which end when the client is to be answered. To make one
// costs as much as a lookup, so writes that follow each other share one: an eighth of the time may have passed already.
type patience struct {
	ctx   context.Context
	end   context.CancelFunc // nil without ctx
	limit time.Duration
	since time.Time
}

// within returns a context below parent, always the same, that ends within limit. It is valid until the next call.
func (p *patience) within(parent context.Context, limit time.Duration) context.Context {
	if now := time.Now(); p.end == nil || p.limit != limit || now.Sub(p.since) > limit/8 {
		p.stop()
		p.limit, p.since = limit, now
		p.ctx, p.end = context.WithTimeout(parent, limit)
	}
	return p.ctx
}

// stop ends the context.
func (p *patience) stop() {
	if p.end != nil {
		p.end()
	}
	p.ctx, p.end = nil, nil
}

// limit returns how long a write may take.
func (c *conn) limit(h *handle) time.Duration {
	limit := c.s.cfg.WriteTimeout
	if t, ok := h.table.(DeadlineTable); ok {
		if d := t.WriteWithin(); d > 0 {
			limit = min(limit, d)
		}
	}
	return limit
}

package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"
)

const seqKeys = 5

// An order is the model of the table seq: each value of a key is written once, one after the other.
type order struct {
	mu   sync.Mutex
	keys map[string]*sequence
}

// A sequence is what is known of a key. A write of unknown outcome may happen any time, once.
type sequence struct {
	last    string          // acknowledged
	unknown map[string]bool // perhaps to come, or past
	refused map[string]bool // surely never happened
	next    int
}

func newOrder() *order {
	o := &order{keys: map[string]*sequence{}}
	for i := range seqKeys {
		o.keys[seqKey(i)] = &sequence{unknown: map[string]bool{}, refused: map[string]bool{}}
	}
	return o
}

func seqKey(i int) string { return fmt.Sprintf("seq-%d", i) }

// allowed reports whether a value may be the present one.
func (q *sequence) allowed(value string, out outcome) bool {
	if out == absent {
		return q.last == ""
	}
	return value == q.last || q.unknown[value]
}

// writeOrder writes the next value of a key through any node, and looks whether that node shows it.
func (l *load) writeOrder(ctx context.Context) {
	all := l.s.sessions("writer")
	for _, c := range all {
		defer c.close()
	}
	l.each(ctx, 60*time.Millisecond, func() {
		key, c := seqKey(rand.IntN(seqKeys)), all[rand.IntN(len(all))]
		l.order.mu.Lock()
		q := l.order.keys[key]
		q.next++
		value := fmt.Sprintf("%s value %d", key, q.next)
		q.unknown[value] = true
		l.order.mu.Unlock()
		var out outcome
		if rand.IntN(2) == 0 {
			out = c.put(ctx, seqTable, key, value)
		} else {
			out = c.update(seqTable, key, value)
		}
		l.order.mu.Lock()
		switch out {
		case done:
			delete(q.unknown, value)
			q.last = value
		case undone:
			delete(q.unknown, value)
			q.refused[value] = true
		}
		l.order.mu.Unlock()
		if out != done {
			return
		}
		got, out := c.lookup(seqTable, key)
		if out == absent || out == done && !q.allowed(got, out) {
			l.s.record.violate("I5", seqTable, key, "%s acknowledged %q and shows %s %q", c.n.name, value, out, got)
		}
	})
}

// A view is what one reader has seen of the keys: never again a value that another has replaced.
type view map[string]*seen

type seen struct {
	now  string
	past map[string]bool
}

// see notes a value and reports whether it had been replaced before.
func (v view) see(key, value string) (again bool) {
	s := v[key]
	if s == nil {
		s = &seen{past: map[string]bool{}}
		v[key] = s
	}
	if value == s.now {
		return false
	}
	s.past[s.now] = true
	s.now = value
	return s.past[value]
}

// readOrder checks I4 with one node's own memory, over all lives of the node.
func (l *load) readOrder(ctx context.Context, n *node) {
	c := l.s.session(n, "reader")
	defer c.close()
	v := view{}
	l.each(ctx, 40*time.Millisecond, func() {
		key := seqKey(rand.IntN(seqKeys))
		value, out := c.lookup(seqTable, key)
		if out != done && out != absent {
			return
		}
		l.s.record.checks.Add(1)
		if v.see(key, value) {
			l.s.record.violate("I4", seqTable, key, "%s shows %q again, which it had shown to be replaced", n.name, value)
		}
		l.order.mu.Lock()
		defer l.order.mu.Unlock()
		if l.order.keys[key].refused[value] {
			l.s.record.violate("I10", seqTable, key, "%s shows %q, which was surely not written", n.name, value)
		}
	})
}

// consultOrder checks I10 with consistent reads through all nodes: a value that was replaced never returns.
func (l *load) consultOrder(ctx context.Context) {
	all := l.s.sessions("consultant")
	v := view{}
	l.each(ctx, 100*time.Millisecond, func() {
		key, c := seqKey(rand.IntN(seqKeys)), all[rand.IntN(len(all))]
		value, out := c.consult(ctx, seqTable, key)
		if out != done && out != absent {
			return
		}
		l.s.record.checks.Add(1)
		if v.see(key, value) {
			l.s.record.violate("I10", seqTable, key, "a consistent read at %s returns %q, which had been replaced: it happened twice", c.n.name, value)
		}
	})
}

// check compares the keys of a node with the model. Nothing may be under way.
func (o *order) check(r *record, node string, has map[string]string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for key, q := range o.keys {
		value, ok := has[key]
		out := done
		if !ok {
			out = absent
		}
		r.checks.Add(1)
		if !q.allowed(value, out) {
			r.violate("I1", seqTable, key, "%s has %s %q, acknowledged was %q", node, out, value, q.last)
		}
	}
}

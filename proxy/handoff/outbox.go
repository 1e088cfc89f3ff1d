package handoff

import (
	"context"
	"log/slog"
	"sync"
)

// maxOutbox bounds the messages that wait for a front end. It is more than the connections of a link, each
// of which ends in one message.
const maxOutbox = 2 * maxLinkConns

// maxRecords is the number of waiting messages beyond which log records are left out.
const maxRecords = 256

// An outbox sends messages in order from a goroutine of its own, so that a front end that does not read
// holds nobody up.
type outbox struct {
	link *link
	done chan struct{}

	mu      sync.Mutex // guards what follows
	wake    *sync.Cond
	waiting []message
	closed  bool
}

func newOutbox(l *link) *outbox {
	o := &outbox{link: l, done: make(chan struct{})}
	o.wake = sync.NewCond(&o.mu)
	return o
}

// start must be followed by stop, which waits for the goroutine.
func (o *outbox) start() { go o.run() }

// post sends m when its turn comes. The link ends when too much waits.
func (o *outbox) post(m message) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.closed:
		return
	case len(o.waiting) >= maxOutbox:
		o.link.close()
		return
	case m.Kind == kindLog && len(o.waiting) >= maxRecords:
		return
	}
	o.waiting = append(o.waiting, m)
	o.wake.Signal()
}

// stop sends what waits, unless the link is down, and ends.
func (o *outbox) stop() {
	o.mu.Lock()
	o.closed = true
	o.wake.Signal()
	o.mu.Unlock()
	<-o.done
}

func (o *outbox) run() {
	defer close(o.done)
	for {
		o.mu.Lock()
		for len(o.waiting) == 0 && !o.closed {
			o.wake.Wait()
		}
		batch := o.waiting
		o.waiting = nil
		closed := o.closed
		o.mu.Unlock()
		for _, m := range batch {
			if err := o.link.send(m, -1); err != nil {
				o.link.close() // the reader ends the link
				return
			}
		}
		if closed && len(batch) == 0 {
			return
		}
	}
}

// A tee passes records to the agent's log, and warnings and errors to the front end too.
type tee struct {
	slog.Handler
	out   *outbox
	attrs []string // of With, names and values in turn
}

func (t *tee) Handle(ctx context.Context, r slog.Record) error {
	if r.Level >= slog.LevelWarn {
		m := message{Kind: kindLog, Level: int(r.Level), Text: cut(r.Message), Attrs: t.attrs[:len(t.attrs):len(t.attrs)]}
		r.Attrs(func(a slog.Attr) bool {
			m.Attrs = appendAttr(m.Attrs, a)
			return true
		})
		t.out.post(m)
	}
	if !t.Handler.Enabled(ctx, r.Level) {
		return nil
	}
	return t.Handler.Handle(ctx, r)
}

// Enabled implements slog.Handler: warnings always go to the front end.
func (t *tee) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn || t.Handler.Enabled(ctx, level)
}

// WithAttrs implements slog.Handler.
func (t *tee) WithAttrs(attrs []slog.Attr) slog.Handler {
	more := t.attrs[:len(t.attrs):len(t.attrs)]
	for _, a := range attrs {
		more = appendAttr(more, a)
	}
	return &tee{t.Handler.WithAttrs(attrs), t.out, more}
}

// appendAttr leaves the service out: Postfix's log knows it by the process that writes.
func appendAttr(attrs []string, a slog.Attr) []string {
	if a.Key == "service" {
		return attrs
	}
	return append(attrs, a.Key, cut(a.Value.String()))
}

// WithGroup implements slog.Handler.
func (t *tee) WithGroup(name string) slog.Handler {
	return &tee{t.Handler.WithGroup(name), t.out, t.attrs}
}

// cut keeps a record well below the size of a packet.
func cut(s string) string { return s[:min(len(s), 2000)] }

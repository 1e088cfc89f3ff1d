package proxy

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"postraft/dict"
)

const (
	noticePause = 10 * time.Second // the same warning is not repeated before this
	maxNotices  = 1024
)

// notices keeps clients from flooding the log: each warning, told apart by its text, table and service, is
// written at most once in noticePause, with the number of those left out.
type notices struct {
	mu   sync.Mutex
	seen map[string]*notice
}

type notice struct {
	written time.Time
	left    int
}

func (n *notices) warn(to *slog.Logger, msg string, attrs ...any) {
	id := msg
	for i := 0; i+1 < len(attrs); i += 2 {
		if name := attrs[i]; name == "table" || name == "service" {
			id += "\x00" + attrs[i+1].(string)
		}
	}
	n.mu.Lock()
	if n.seen == nil || len(n.seen) > maxNotices {
		n.seen = map[string]*notice{}
	}
	e, ok := n.seen[id]
	if !ok {
		e = &notice{}
		n.seen[id] = e
	}
	if ok && time.Since(e.written) < noticePause {
		e.left++
		n.mu.Unlock()
		return
	}
	left := e.left
	*e = notice{written: time.Now()}
	n.mu.Unlock()
	if left > 0 {
		attrs = append(attrs, "left_out", left)
	}
	to.WarnContext(context.Background(), msg, attrs...)
}

func (c *conn) logger() *slog.Logger { return c.s.logger(c.svc) }

func (s *Server) logger(svc *Service) *slog.Logger {
	if svc.Logger != nil {
		return svc.Logger
	}
	return s.cfg.Logger
}

// ensure makes a raft table in the background unless it is there, or being made.
func (s *Server) ensure(name string, t Table, logger *slog.Logger) {
	if _, _, err := t.Lookup(nil); !errors.Is(err, dict.ErrNoTable) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.created[name] != nil || s.ctx.Err() != nil {
		return
	}
	done := make(chan struct{})
	s.created[name] = done
	s.creating.Go(func() {
		ctx, cancel := context.WithTimeout(s.ctx, s.cfg.WriteTimeout)
		defer cancel()
		if err := t.Create(ctx); err != nil {
			s.notices.warn(logger, "table not created", "table", name, "err", err)
		} else {
			logger.Info("table created", "table", name)
		}
		s.mu.Lock()
		delete(s.created, name)
		s.mu.Unlock()
		close(done)
	})
}

// made reports whether an access that failed with err is to be tried again, because the table was being made
// for the open before it. It waits for that, so that a cache that is new is empty and not out of order.
func (c *conn) made(h *handle, err error) bool {
	if !c.svc.Write || !errors.Is(err, dict.ErrNoTable) {
		return false
	}
	c.s.mu.Lock()
	done := c.s.created[dict.RaftType+":"+h.raft]
	c.s.mu.Unlock()
	if done != nil {
		<-done // within the write timeout
	}
	return true
}

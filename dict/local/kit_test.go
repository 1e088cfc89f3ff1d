package local_test

import (
	"bytes"
	"log/slog"
	"sync"
)

// records keeps what was logged.
type records struct {
	mu  sync.Mutex // guards buf
	buf bytes.Buffer
}

func (r *records) logger() *slog.Logger { return slog.New(slog.NewTextHandler(r, nil)) }

func (r *records) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.buf.Write(b)
}

func (r *records) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.buf.String()
}

package main

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"log/syslog"
	"sync"
)

// newLogger returns the agent's logger and what closes it.
func newLogger(s *settings, level *slog.LevelVar, stderr io.Writer) (*slog.Logger, func(), error) {
	opts := &slog.HandlerOptions{Level: level}
	if !s.syslog {
		if s.logFormat == "json" {
			return slog.New(slog.NewJSONHandler(stderr, opts)), func() {}, nil
		}
		return slog.New(slog.NewTextHandler(stderr, opts)), func() {}, nil
	}
	w, err := syslog.New(syslog.LOG_MAIL|syslog.LOG_INFO, "postraft")
	if err != nil {
		return nil, nil, configError("open syslog: %v", err).Advise("leave --syslog out to log to standard error")
	}
	return slog.New(newSyslogHandler(w, s.logFormat, level)), func() { w.Close() }, nil
}

// A syslogHandler writes each record at its priority. syslog knows the time.
type syslogHandler struct {
	slog.Handler // formats into buf
	shared       *syslogShared
}

type syslogShared struct {
	to syslogWriter

	mu  sync.Mutex // guards buf
	buf bytes.Buffer
}

// A syslogWriter is what a syslogHandler needs of a *syslog.Writer.
type syslogWriter interface {
	Debug(string) error
	Info(string) error
	Warning(string) error
	Err(string) error
}

func newSyslogHandler(to syslogWriter, format string, level slog.Leveler) *syslogHandler {
	shared := &syslogShared{to: to}
	opts := &slog.HandlerOptions{Level: level, ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) == 0 && a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}
	if format == "json" {
		return &syslogHandler{slog.NewJSONHandler(&shared.buf, opts), shared}
	}
	return &syslogHandler{slog.NewTextHandler(&shared.buf, opts), shared}
}

// Handle implements slog.Handler.
func (h *syslogHandler) Handle(ctx context.Context, r slog.Record) error {
	s := h.shared
	s.mu.Lock()
	defer s.mu.Unlock()
	s.buf.Reset()
	if err := h.Handler.Handle(ctx, r); err != nil {
		return err
	}
	line := string(bytes.TrimSpace(s.buf.Bytes()))
	switch {
	case r.Level >= slog.LevelError:
		return s.to.Err(line)
	case r.Level >= slog.LevelWarn:
		return s.to.Warning(line)
	case r.Level >= slog.LevelInfo:
		return s.to.Info(line)
	default:
		return s.to.Debug(line)
	}
}

// WithAttrs implements slog.Handler.
func (h *syslogHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &syslogHandler{h.Handler.WithAttrs(attrs), h.shared}
}

// WithGroup implements slog.Handler.
func (h *syslogHandler) WithGroup(name string) slog.Handler {
	return &syslogHandler{h.Handler.WithGroup(name), h.shared}
}

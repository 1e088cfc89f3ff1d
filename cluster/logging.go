package cluster

import (
	"bytes"
	"context"
	"io"
	"log"
	"log/slog"
	"strings"

	"github.com/hashicorp/go-hclog"
)

// raftLogger returns a logger for raft and its stores that writes into ours.
func raftLogger(to *slog.Logger) hclog.Logger {
	l := hclog.NewInterceptLogger(&hclog.LoggerOptions{Name: "raft", Output: io.Discard, Level: hclog.Debug})
	l.RegisterSink(hclogSink{to})
	return l
}

type hclogSink struct{ to *slog.Logger }

// Accept implements hclog.SinkAdapter.
func (s hclogSink) Accept(name string, level hclog.Level, msg string, args ...any) {
	at := slog.LevelDebug
	switch {
	case level >= hclog.Error:
		at = slog.LevelError
	case level >= hclog.Warn:
		at = slog.LevelWarn
	}
	s.to.Log(context.Background(), at, msg, append([]any{"part", name}, args...)...)
}

// gossipLogger returns a logger for memberlist that writes into ours.
func gossipLogger(to *slog.Logger) *log.Logger { return log.New(gossipWriter{to}, "", 0) }

type gossipWriter struct{ to *slog.Logger }

// Write takes one line of the form "[LEVEL] memberlist: text".
func (w gossipWriter) Write(line []byte) (int, error) {
	text := string(bytes.TrimSpace(line))
	level := slog.LevelDebug
	for prefix, l := range map[string]slog.Level{"[ERR] ": slog.LevelWarn, "[WARN] ": slog.LevelWarn, "[INFO] ": slog.LevelDebug, "[DEBUG] ": slog.LevelDebug} {
		if rest, ok := strings.CutPrefix(text, prefix); ok {
			text, level = rest, l
		}
	}
	w.to.Log(context.Background(), level, strings.TrimPrefix(text, "memberlist: "), "part", "gossip")
	return len(line), nil
}

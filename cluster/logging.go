package cluster

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
)

// repeatPause is how long a warning is not repeated. The libraries write one at each failed try to reach a
// peer, several a second while one is down, and a stranger can make as many as he likes.
const repeatPause = 30 * time.Second

// repeats remembers what was written lately.
type repeats struct {
	most int // lines within repeatPause, whatever they say; 0 is no limit

	mu      sync.Mutex
	written map[string]time.Time
	lines   int // since
	since   time.Time
}

// again reports whether id was written within repeatPause; if not, it counts as written now.
func (r *repeats) again(id string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	if now.Sub(r.written[id]) < repeatPause {
		return true
	}
	if now.Sub(r.since) >= repeatPause {
		r.lines, r.since = 0, now
	}
	if r.lines++; r.most > 0 && r.lines > r.most {
		return true
	}
	if r.written == nil || len(r.written) > 1000 {
		r.written = map[string]time.Time{}
	}
	r.written[id] = now
	return false
}

// raftLogger returns a logger for raft and its stores that writes into ours.
func raftLogger(to *slog.Logger) hclog.Logger {
	l := hclog.NewInterceptLogger(&hclog.LoggerOptions{Name: "raft", Output: io.Discard, Level: hclog.Debug})
	l.RegisterSink(&hclogSink{to: to})
	return l
}

type hclogSink struct {
	to      *slog.Logger
	repeats repeats // of warnings and errors, by their text and whom they are about
}

// Accept implements hclog.SinkAdapter.
func (s *hclogSink) Accept(name string, level hclog.Level, msg string, args ...any) {
	at := slog.LevelDebug
	switch {
	case level >= hclog.Error:
		at = slog.LevelError
	case level >= hclog.Warn:
		at = slog.LevelWarn
	}
	if at > slog.LevelDebug && s.repeated(msg, args) {
		at = slog.LevelDebug
	}
	s.to.Log(context.Background(), at, msg, append([]any{"part", name}, args...)...)
}

func (s *hclogSink) repeated(msg string, args []any) bool {
	id := msg
	for i := 0; i+1 < len(args); i += 2 {
		switch args[i] {
		case "peer", "target", "server-id":
			id += fmt.Sprint(" ", args[i+1])
		}
	}
	return s.repeats.again(id)
}

// gossipLogger returns a logger for memberlist that writes into ours.
func gossipLogger(to *slog.Logger) *log.Logger { return log.New(&gossipWriter{to: to}, "", 0) }

type gossipWriter struct {
	to      *slog.Logger
	repeats repeats // of warnings, by their first words
}

// Write takes one line of the form "[LEVEL] memberlist: text".
func (w *gossipWriter) Write(line []byte) (int, error) {
	text := string(bytes.TrimSpace(line))
	level := slog.LevelDebug
	for prefix, l := range map[string]slog.Level{"[ERR] ": slog.LevelWarn, "[WARN] ": slog.LevelWarn, "[INFO] ": slog.LevelDebug, "[DEBUG] ": slog.LevelDebug} {
		if rest, ok := strings.CutPrefix(text, prefix); ok {
			text, level = rest, l
		}
	}
	text = strings.TrimPrefix(text, "memberlist: ")
	words := strings.SplitN(text, " ", 4)
	if level > slog.LevelDebug && w.repeats.again(strings.Join(words[:min(3, len(words))], " ")) {
		level = slog.LevelDebug
	}
	w.to.Log(context.Background(), level, text, "part", "gossip")
	return len(line), nil
}

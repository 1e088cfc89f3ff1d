package master

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// LevelFatal is the level of the last record of a process that gives up.
const LevelFatal = slog.LevelError + 4

const (
	syslogPath     = "/dev/log"
	syslogFacility = 2 << 3 // mail
	maxLogText     = 2000   // postlogd(8) reads datagrams of up to 4096 bytes
	logTimeout     = time.Second
)

// A LogConfig says where the records of a process go and what they look like.
type LogConfig struct {
	Tag     string // such as postfix: the text before the slash
	Process string // the last component of the command
	PID     int

	PostlogPath string // postlogd's datagram socket; empty: syslog
	PostlogHost string
	SyslogPath  string // /dev/log when empty

	Level  slog.Level
	Mirror io.Writer // gets each record too, a line each; nil for none

	// Outside opens the socket again after a chroot; nil while there is none.
	Outside *Outside
}

// A Log writes records as Postfix's daemons do: one datagram each to syslog or postlogd, the severity as
// a word before the text. Attributes follow the message as name=value.
type Log struct {
	sink  *logSink
	attrs string
	group string
}

// logSink is what all handlers made from one Log share.
type logSink struct {
	cfg LogConfig
	now func() time.Time

	mu   sync.Mutex // guards conn
	conn net.Conn
}

// NewLog opens the socket at once, because a chroot may follow. A socket that does not answer is tried
// again at each record.
func NewLog(cfg LogConfig) *Log {
	s := &logSink{cfg: cfg, now: time.Now}
	s.mu.Lock()
	s.dialLocked()
	s.mu.Unlock()
	return &Log{sink: s}
}

// Close closes the socket. Later records open it again.
func (l *Log) Close() error {
	s := l.sink
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn == nil {
		return nil
	}
	err := s.conn.Close()
	s.conn = nil
	return err
}

// Enabled implements slog.Handler.
func (l *Log) Enabled(_ context.Context, level slog.Level) bool { return level >= l.sink.cfg.Level }

// Handle implements slog.Handler.
func (l *Log) Handle(_ context.Context, r slog.Record) error {
	var text strings.Builder
	text.WriteString(r.Message)
	text.WriteString(l.attrs)
	r.Attrs(func(a slog.Attr) bool {
		appendAttr(&text, l.group, a)
		return true
	})
	return l.sink.write(r.Level, text.String())
}

// WithAttrs implements slog.Handler.
func (l *Log) WithAttrs(attrs []slog.Attr) slog.Handler {
	var text strings.Builder
	text.WriteString(l.attrs)
	for _, a := range attrs {
		appendAttr(&text, l.group, a)
	}
	return &Log{l.sink, text.String(), l.group}
}

// WithGroup implements slog.Handler.
func (l *Log) WithGroup(name string) slog.Handler {
	if name == "" {
		return l
	}
	return &Log{l.sink, l.attrs, l.group + name + "."}
}

func appendAttr(text *strings.Builder, group string, a slog.Attr) {
	a.Value = a.Value.Resolve()
	if a.Value.Kind() == slog.KindGroup {
		if a.Key != "" {
			group += a.Key + "."
		}
		for _, member := range a.Value.Group() {
			appendAttr(text, group, member)
		}
		return
	}
	if a.Key == "" {
		return
	}
	value := a.Value.String()
	if value == "" || strings.ContainsFunc(value, func(r rune) bool { return r <= ' ' || r == '"' || r == 0x7f }) {
		value = strconv.Quote(value)
	}
	text.WriteByte(' ')
	text.WriteString(group + a.Key + "=" + value)
}

// severity returns the word before the text and the syslog priority.
func severity(level slog.Level) (word string, priority int) {
	switch {
	case level >= LevelFatal:
		return "fatal: ", 2
	case level >= slog.LevelError:
		return "error: ", 3
	case level >= slog.LevelWarn:
		return "warning: ", 4
	default:
		return "", 6
	}
}

// printable replaces control characters, as Postfix does before it logs.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
}

func (s *logSink) write(level slog.Level, text string) error {
	word, priority := severity(level)
	text = printable(word + text)
	if len(text) > maxLogText {
		text = strings.ToValidUTF8(text[:maxLogText], "")
	}
	stamp := s.now().Format(time.Stamp)
	ident := s.cfg.Tag + "/" + s.cfg.Process + "[" + strconv.Itoa(s.cfg.PID) + "]: "
	host, _, _ := strings.Cut(s.cfg.PostlogHost, ".")
	record := stamp + " " + host + " " + ident + text
	if s.cfg.Mirror != nil {
		io.WriteString(s.cfg.Mirror, ident+text+"\n")
	}
	if s.cfg.PostlogPath == "" {
		record = "<" + strconv.Itoa(syslogFacility|priority) + ">" + stamp + " " + ident + text
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	err := errNoSocket
	for range 2 { // the logger may have been restarted since
		if s.conn == nil {
			s.dialLocked()
		}
		if s.conn == nil {
			return err
		}
		s.conn.SetWriteDeadline(time.Now().Add(logTimeout))
		if _, err = s.conn.Write([]byte(record)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
		s.conn.Close()
		s.conn = nil
	}
	return err
}

var errNoSocket = errors.New("log socket does not answer")

func (s *logSink) dialLocked() {
	path := s.cfg.PostlogPath
	if path == "" {
		path = or(s.cfg.SyslogPath, syslogPath)
	}
	dial := func() {
		// Not a nil *net.UnixConn in the interface.
		if conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"}); err == nil {
			s.conn = conn
		}
	}
	if s.cfg.Outside != nil {
		s.cfg.Outside.Do(dial)
		return
	}
	dial()
}

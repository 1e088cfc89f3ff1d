package master

import (
	"bytes"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// collector is a datagram socket like /dev/log.
func collector(t *testing.T) (path string, next func() string, conn *net.UnixConn) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "log")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	next = func() string {
		t.Helper()
		buf := make([]byte, 8192)
		conn.SetReadDeadline(time.Now().Add(5 * time.Second))
		n, err := conn.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		return string(buf[:n])
	}
	return path, next, conn
}

var fixedTime = time.Date(2026, time.March, 5, 6, 7, 8, 0, time.UTC)

// TestLog_Records ensures that records look like those of Postfix's own daemons, for syslog and postlogd.
func TestLog_Records(t *testing.T) {
	tests := []struct {
		log       func(*slog.Logger)
		pri, text string
	}{
		{log: func(l *slog.Logger) { l.Info("agent is back") }, pri: "<22>", text: "agent is back"},
		{log: func(l *slog.Logger) { l.Warn("away", "path", "/run/x", "err", "no such file") }, pri: "<20>", text: `warning: away path=/run/x err="no such file"`},
		{log: func(l *slog.Logger) { l.Error("lost", slog.Group("peer", "pid", 3)) }, pri: "<19>", text: "error: lost peer.pid=3"},
		{log: func(l *slog.Logger) { l.Log(t.Context(), LevelFatal, "no tables") }, pri: "<18>", text: "fatal: no tables"},
		{log: func(l *slog.Logger) { l.With("a", 1).WithGroup("g").With("b", 2).Info("x", "c", "") }, pri: "<22>", text: `x a=1 g.b=2 g.c=""`},
		{log: func(l *slog.Logger) { l.Info("one\ntwo\x00\xff") }, pri: "<22>", text: "one?two??"},
		{log: func(l *slog.Logger) { l.Info(strings.Repeat("é", 3000)) }, pri: "<22>", text: strings.Repeat("é", 1000)},
	}
	for _, postlog := range []bool{false, true} {
		path, next, _ := collector(t)
		cfg := LogConfig{Tag: "postfix", Process: "postraft-proxymap", PID: 42, PostlogHost: "mx.example.com", SyslogPath: path}
		if postlog {
			cfg.PostlogPath, cfg.SyslogPath = path, "/nowhere"
		}
		var mirror bytes.Buffer
		cfg.Mirror = &mirror
		log := NewLog(cfg)
		log.sink.now = func() time.Time { return fixedTime }
		for _, tt := range tests {
			tt.log(slog.New(log))
			want := tt.pri + "Mar  5 06:07:08 postfix/postraft-proxymap[42]: " + tt.text
			if postlog {
				want = "Mar  5 06:07:08 mx postfix/postraft-proxymap[42]: " + tt.text
			}
			if got := next(); got != want {
				t.Errorf("record\n got %q\nwant %q", got, want)
			}
		}
		slog.New(log).Debug("not asked for")
		if n := strings.Count(mirror.String(), "\n"); n != len(tests) {
			t.Errorf("mirror has %d lines, want %d", n, len(tests))
		}
		log.Close()
	}
}

// TestLog_LoggerRestarts ensures that the log finds a syslog daemon that was restarted, and survives one
// that is not there.
func TestLog_LoggerRestarts(t *testing.T) {
	path, next, conn := collector(t)
	log := NewLog(LogConfig{Tag: "postfix", Process: "p", SyslogPath: path})
	defer log.Close()
	slog.New(log).Info("one")
	next()
	conn.Close()
	os.Remove(path)
	if err := log.Handle(t.Context(), slog.NewRecord(fixedTime, slog.LevelInfo, "lost", 0)); err == nil {
		t.Error("record delivered to nobody")
	}
	again, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	slog.New(log).Info("two")
	buf := make([]byte, 8192)
	again.SetReadDeadline(time.Now().Add(5 * time.Second))
	if n, err := again.Read(buf); err != nil || !strings.HasSuffix(string(buf[:n]), "two") {
		t.Errorf("after the restart: %q, %v", buf[:n], err)
	}
}

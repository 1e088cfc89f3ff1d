package ops

import (
	"context"
	"errors"
	"iter"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// An importer keeps what was imported last.
type importer struct {
	mu    sync.Mutex
	text  string
	count int
	err   error

	tables []TableInfo
}

func (i *importer) Tables(context.Context) ([]TableInfo, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.tables, nil
}

func (i *importer) Import(_ context.Context, _ string, _ ImportOptions, entries iter.Seq2[[]byte, []byte]) (ImportResult, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.count++
	if i.err != nil {
		return ImportResult{}, i.err
	}
	i.text = ""
	for k, v := range entries {
		i.text += string(k) + "=" + string(v) + " "
	}
	return ImportResult{Added: 1}, nil
}

func (i *importer) get() (string, int) {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.text, i.count
}

func (i *importer) fail(err error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.err = err
}

// TestFileWatch ensures that a file is imported, again when it was written or replaced, not while it is bad, and
// again after a failure that passes; and that an equal file is left alone.
func TestFileWatch(t *testing.T) {
	path := filepath.Join(t.TempDir(), "source")
	to, log := &importer{}, &logLines{}
	w := &FileWatch{Table: "t", Path: path, To: to, Logger: slog.New(slog.NewTextHandler(log, nil)), Poll: 5 * time.Millisecond}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); w.Run(ctx) }()
	defer func() { cancel(); <-done }()
	until := func(what string, check func() bool) {
		t.Helper()
		for end := time.Now().Add(10 * time.Second); !check(); time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				text, count := to.get()
				t.Fatalf("not so: %s; %q after %d imports; log: %s", what, text, count, log)
			}
		}
	}
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path+".new", []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	has := func(want string) func() bool {
		return func() bool { text, _ := to.get(); return text == want }
	}
	until("it says that there is no file", func() bool { return strings.Contains(log.String(), "no such file") })
	write("a 1\n")
	until("the first file", has("a=1 "))
	write("a 1\nlonely\n")
	until("it names the bad line", func() bool { return strings.Contains(log.String(), "line 2") })
	if text, count := to.get(); text != "a=1 " || count != 1 {
		t.Errorf("a bad file came to %q, imported %d times", text, count)
	}
	to.fail(errors.New("away"))
	write("b 2\n")
	until("it says why", func() bool { return strings.Contains(log.String(), "away") })
	to.fail(nil)
	until("it tries again", has("b=2 "))
	_, before := to.get()
	now := time.Now()
	if err := os.Chtimes(path, now, now); err != nil {
		t.Fatal(err)
	}
	until("a touched file is imported again", func() bool { _, count := to.get(); return count == before+1 })
	write("c 3\n")
	until("the last file", has("c=3 "))
}

// logLines is a log that is read while it is written.
type logLines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logLines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logLines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

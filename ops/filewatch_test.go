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
	"syscall"
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
	opts   ImportOptions
}

func (i *importer) Tables(context.Context) ([]TableInfo, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.tables, nil
}

func (i *importer) Import(_ context.Context, _ string, opts ImportOptions, entries iter.Seq2[[]byte, []byte]) (ImportResult, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.count++
	if i.err != nil {
		return ImportResult{}, i.err
	}
	i.opts, i.text = opts, ""
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
	to.fail(Errorf(BadData, "too much"))
	write("b 3\n")
	until("it says that it is too much", func() bool { return strings.Contains(w.Problem(), "too much") })
	to.fail(nil) // somebody has imported it with --force
	until("nothing is wrong any more", func() bool { return w.Problem() == "" && has("b=3 ")() })
	_, before := to.get()
	now := time.Now()
	if err := os.Chtimes(path, now, now); err != nil {
		t.Fatal(err)
	}
	until("a touched file is imported again", func() bool { _, count := to.get(); return count == before+1 })
	write("c 3\n")
	until("the last file", has("c=3 "))
}

// TestFileWatch_FIFO ensures that what is no file when it is opened, though it was one before, is not waited for.
func TestFileWatch_FIFO(t *testing.T) {
	w := &FileWatch{Table: "t", Path: filepath.Join(t.TempDir(), "source"), To: &importer{}, Logger: slog.New(slog.DiscardHandler)}
	if err := syscall.Mkfifo(w.Path, 0o644); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		_, err := w.load(t.Context())
		done <- err
	}()
	select {
	case err := <-done:
		if err == nil || !strings.Contains(err.Error(), "is not a regular file") {
			t.Errorf("a FIFO: %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("it waits for somebody to write to the FIFO")
	}
}

// TestFileWatch_Rules ensures that a file is read as what the table is, that bad rules are named with their lines and
// change nothing, and that an import says that it comes from a watched file, with its digest where there is one.
func TestFileWatch_Rules(t *testing.T) {
	path := filepath.Join(t.TempDir(), "source")
	for _, test := range []struct{ typ, there, want string }{
		{"cidr", "", "00000001=# ours 00000002=192.0.2.0/24 OK "}, {"", "cidr", "00000001=# ours 00000002=192.0.2.0/24 OK "}, {"", "", "192.0.2.0/24=OK "},
	} {
		to, log := &importer{}, &logLines{}
		if test.there != "" {
			to.tables = []TableInfo{{Name: "other", Type: "pcre"}, {Name: "t", Type: test.there}}
		}
		w := &FileWatch{Table: "t", Path: path, To: to, Import: ImportOptions{Type: test.typ}, Logger: slog.New(slog.NewTextHandler(log, nil)),
			Digest: func(entries iter.Seq2[[]byte, []byte]) (text string) {
				for range entries {
					text += "+"
				}
				return text
			}}
		load := func(text string) error {
			t.Helper()
			if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
			_, err := w.load(context.Background())
			return err
		}
		if err := load("# ours\n192.0.2.0/24 OK\n"); err != nil || to.text != test.want {
			t.Errorf("%+v: %v, %q", test, err, to.text)
		}
		if typ := strings.TrimSpace(test.typ + test.there); to.opts.Way != WayWatchFile || typ != "" && to.opts.Type != typ || len(to.opts.Digest) != strings.Count(test.want, "=") {
			t.Errorf("%+v: imported with %+v", test, to.opts)
		}
		var e *Error
		if err := load("192.0.2.0/24 OK\n192.0.2.0/33 OK\nlonely\n"); !errors.As(err, &e) || e.Kind != BadData || !strings.Contains(e.Text, "line 3") || to.text != test.want {
			t.Errorf("%+v: bad lines: %v, %q", test, err, to.text)
		}
	}
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

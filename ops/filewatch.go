package ops

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"log/slog"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"postraft/dict"
	"postraft/dict/pattern"
)

// An Importer makes tables equal to entries: an Agent, or a Client.
type Importer interface {
	Tables(ctx context.Context) ([]TableInfo, error)
	Import(ctx context.Context, table string, opts ImportOptions, entries iter.Seq2[[]byte, []byte]) (ImportResult, error)
}

// A FileWatch imports a file into a table, and again whenever the file has changed. It may be on at several nodes
// with equal files: an import that changes nothing writes nothing.
type FileWatch struct {
	Table  string
	Path   string
	Source dict.SourceOptions
	Import ImportOptions // without a Type: that of the table, or of fixed keys where there is none
	To     Importer
	Logger *slog.Logger
	Digest func(iter.Seq2[[]byte, []byte]) string // of entries, as in ImportOptions; nil: they are always sent

	Poll    time.Duration // how often the file is looked at; 0 is a second
	Timeout time.Duration // of an import; 0 is ten minutes

	problem atomic.Pointer[string]
}

// Problem says why the file, as it is now, is not in the table; it is empty when all is well. It may be called from any
// goroutine.
func (w *FileWatch) Problem() string {
	if p := w.problem.Load(); p != nil {
		return *p
	}
	return ""
}

// fileVersion tells whether a file is another one than before.
type fileVersion struct {
	info fs.FileInfo
	size int64
	time time.Time
}

func (v fileVersion) equal(other fileVersion) bool {
	return v.size == other.size && v.time.Equal(other.time) && (v.info == nil) == (other.info == nil) && (v.info == nil || os.SameFile(v.info, other.info))
}

// Run imports until ctx ends. A file that is being written is left alone until it has been the same for one Poll.
// What a file says wrong is logged once, and changes nothing; what may pass is tried again after a while.
func (w *FileWatch) Run(ctx context.Context) {
	poll := w.Poll
	if poll == 0 {
		poll = time.Second
	}
	var done, before fileVersion
	var again time.Time // when a failed import of done is to be tried again; zero is never
	complain := func(err error) {
		if text := err.Error(); text != w.Problem() {
			w.Logger.Error("file not imported", "table", w.Table, "file", w.Path, "err", err)
			w.problem.Store(&text)
		}
	}
	wait := func() bool {
		select {
		case <-time.After(poll):
			return true
		case <-ctx.Done():
			return false
		}
	}
	for first := true; first || wait(); first = false {
		now, err := w.version()
		if err != nil {
			complain(err)
			before = fileVersion{}
			continue
		}
		stable := now.equal(before)
		before = now
		if !stable || now.equal(done) && (again.IsZero() || time.Now().Before(again)) {
			continue
		}
		result, err := w.load(ctx)
		if ctx.Err() != nil {
			return
		}
		done, again = now, time.Time{}
		var e *Error
		switch {
		case err == nil:
			w.problem.Store(nil)
			if result.Added+result.Changed+result.Removed > 0 {
				w.Logger.Info("file imported", "table", w.Table, "file", w.Path, "added", result.Added, "changed", result.Changed, "removed", result.Removed)
			}
		case errors.As(err, &e) && e.Kind == BadData:
			complain(err)
			again = time.Now().Add(60 * poll) // the table may be what it should be by then: somebody has imported it with --force
		default:
			complain(err)
			again = time.Now().Add(10 * poll)
		}
	}
}

func (w *FileWatch) version() (fileVersion, error) {
	info, err := os.Stat(w.Path)
	if err != nil {
		return fileVersion{}, err
	}
	if err := regular(w.Path, info); err != nil {
		return fileVersion{}, err
	}
	return fileVersion{info, info.Size(), info.ModTime()}, nil
}

func regular(path string, info fs.FileInfo) error {
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file", path)
	}
	return nil
}

// load imports the file once.
func (w *FileWatch) load(ctx context.Context) (ImportResult, error) {
	timeout := w.Timeout
	if timeout == 0 {
		timeout = 10 * time.Minute
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	opts := w.Import
	opts.Way = WayWatchFile
	if opts.Type == "" {
		var err error
		if opts.Type, err = w.tableType(ctx); err != nil {
			return ImportResult{}, Classify(err)
		}
	}
	entries, warnings, err := w.read(opts.Type)
	if err != nil {
		return ImportResult{}, err
	}
	for _, warning := range warnings {
		w.Logger.Warn("file has a bad line", "table", w.Table, "file", w.Path, "problem", warning.String())
	}
	if w.Digest != nil {
		opts.Digest = w.Digest(entries)
	}
	result, err := w.To.Import(ctx, w.Table, opts, entries)
	if err != nil {
		return result, Classify(err)
	}
	return result, nil
}

// tableType returns the type of the table, as soon as the agent knows.
func (w *FileWatch) tableType(ctx context.Context) (string, error) {
	for {
		tables, err := w.To.Tables(ctx)
		if err != nil && Classify(err).Kind == Retry && ctx.Err() == nil {
			select {
			case <-time.After(againEvery):
			case <-ctx.Done():
			}
			continue
		}
		for _, t := range tables {
			if t.Name == w.Table {
				return t.Type, err
			}
		}
		return dict.TypeHash, err
	}
}

// read returns what the file holds, a BadData error that names the lines where that is no table of this type.
func (w *FileWatch) read(typ string) (entries iter.Seq2[[]byte, []byte], warnings []dict.Problem, err error) {
	f, err := os.OpenFile(w.Path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a FIFO would be waited for
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil {
		return nil, nil, err
	} else if err := regular(w.Path, info); err != nil {
		return nil, nil, err
	}
	if !dict.IsPattern(typ) {
		source, warnings, err := dict.LoadSource(f, w.Source)
		if err != nil {
			return nil, warnings, Errorf(BadData, "%v", err)
		}
		return source.All(), warnings, nil
	}
	text, err := io.ReadAll(f)
	if err != nil {
		return nil, nil, err
	}
	if warnings, err = pattern.CheckText(typ, text, w.Source.Lenient); err != nil {
		return nil, warnings, Errorf(BadData, "%v", err)
	}
	return pattern.Entries(text), warnings, nil
}

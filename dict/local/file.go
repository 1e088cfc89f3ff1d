package local

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"postraft/dict"
)

// maxFile bounds a file, in bytes.
const maxFile = 1 << 31

// maxRestless is the number of looks after which a file that is written to all the time is read all the same.
const maxRestless = 10

// A file is a table that is in a file.
type file struct {
	name, path string
	typ        FileType
	utf8       bool
	cfg        *Config

	content atomic.Pointer[content] // nil: never read
	first   chan struct{}           // closed when there is content

	mu       sync.Mutex // guards what follows
	seen     stamp      // of the content
	restless int        // looks in a row at which the file was being written to
}

// content is what was in a file, or why there is none.
type content struct {
	table Lookuper
	err   error
}

// A stamp tells states of a file apart.
type stamp struct {
	dev, ino     uint64
	size         int64
	mtime, ctime time.Time
}

func stampOf(info os.FileInfo) stamp {
	s := stamp{size: info.Size(), mtime: info.ModTime()}
	if sys, ok := info.Sys().(*syscall.Stat_t); ok {
		s.dev, s.ino, s.ctime = uint64(sys.Dev), sys.Ino, time.Unix(sys.Ctim.Unix())
	}
	return s
}

// refresh reads the file if it has changed and been left alone since.
func (f *file) refresh() {
	f.mu.Lock()
	defer f.mu.Unlock()
	info, err := os.Stat(f.path)
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a file", f.path)
	}
	if err == nil && info.Size() > maxFile {
		err = fmt.Errorf("%s has more than %d bytes", f.path, maxFile)
	}
	if err != nil {
		f.seen = stamp{}
		f.set(nil, err)
		return
	}
	now := stampOf(info)
	if now == f.seen {
		return
	}
	if age := time.Since(now.mtime); age >= 0 && age < f.cfg.Every && f.restless < maxRestless {
		f.restless++
		return
	}
	text, err := os.ReadFile(f.path)
	if err != nil {
		f.seen = stamp{}
		f.set(nil, err)
		return
	}
	if info, err = os.Stat(f.path); err != nil || stampOf(info) != now || int64(len(text)) != now.size {
		if f.restless++; f.restless < maxRestless {
			return
		}
	}
	f.seen, f.restless = now, 0
	table, problems, err := f.typ.Compile(text, f.utf8)
	for _, p := range problems {
		f.cfg.Logger.Warn("line of a table file left out", "table", f.name, "line", p.Line, "reason", p.Text)
	}
	f.set(table, err)
}

// set puts content in place, and tells where that changes what lookups see.
func (f *file) set(table Lookuper, err error) {
	old := f.content.Load()
	next := &content{table: table}
	if err != nil {
		next.table, next.err = nil, fmt.Errorf("%s is unavailable: %w: %w", f.name, err, dict.ErrRetry)
	}
	switch {
	case next.err != nil && (old == nil || old.err == nil || old.err.Error() != next.err.Error()):
		msg := "table file not usable: lookups get RETRY"
		if errors.Is(err, dict.ErrUnserved) {
			msg = "table file not usable here: lookups go to the stock proxymap where there is one, and get RETRY where not"
		}
		f.cfg.Logger.Warn(msg, "table", f.name, "err", err)
	case next.err == nil && old != nil:
		f.cfg.Logger.Info("table file read again", "table", f.name)
	}
	f.content.Store(next)
	if old == nil {
		close(f.first)
	}
}

func (f *file) load() (*content, error) {
	c := f.content.Load()
	if c == nil {
		timer := time.NewTimer(f.cfg.Wait)
		defer timer.Stop()
		select {
		case <-f.first:
			c = f.content.Load()
		case <-timer.C:
			return nil, fmt.Errorf("%s is unavailable: its file is being written to: %w", f.name, dict.ErrRetry)
		}
	}
	return c, c.err
}

// Lookup implements dict.Reader.
func (f *file) Lookup(key []byte) ([]byte, bool, error) {
	c, err := f.load()
	if err != nil {
		return nil, false, err
	}
	return c.table.Lookup(key)
}

// LookupFlags implements dict.FlagReader.
func (f *file) LookupFlags(key []byte, flags dict.Flags) ([]byte, bool, error) {
	c, err := f.load()
	if err != nil {
		return nil, false, err
	}
	return lookupFlags(c.table, key, flags)
}

func lookupFlags(t Lookuper, key []byte, flags dict.Flags) ([]byte, bool, error) {
	if table, ok := t.(dict.FlagReader); ok {
		return table.LookupFlags(key, flags)
	}
	return t.Lookup(key)
}

// Next implements dict.Reader.
func (f *file) Next(after []byte) (key, value []byte, found bool, err error) {
	c, err := f.load()
	if err != nil {
		return nil, nil, false, err
	}
	if list, ok := c.table.(interface {
		Next(after []byte) (key, value []byte, found bool, err error)
	}); ok {
		return list.Next(after)
	}
	return nil, nil, false, errNotListed
}

// Kind implements dict.Reader.
func (f *file) Kind() dict.Flags { return f.typ.Kind }

package ops

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"postraft/dict"
)

// prefix begins the names of files that are being made, beside the one that they replace.
func (m *Mirror) prefix() string { return "." + filepath.Base(m.Target.Map) + ".postraft-" }

// files describes text and database as they are in place; nil is one that is not there or not needed.
func (m *Mirror) files() (f [2]os.FileInfo) {
	f[0], _ = os.Stat(m.Target.Map)
	if suffix, ok := databases[m.Target.Type]; ok {
		f[1], _ = os.Stat(m.Target.Map + suffix)
	}
	return f
}

// sameFiles reports whether both have stayed what they were.
func sameFiles(a, b [2]os.FileInfo) bool {
	for i := range a {
		if (a[i] == nil) != (b[i] == nil) {
			return false
		}
		if a[i] != nil && (!os.SameFile(a[i], b[i]) || a[i].Size() != b[i].Size() || !a[i].ModTime().Equal(b[i].ModTime())) {
			return false
		}
	}
	return true
}

// tidy removes what a run that was cut off has left, whose postmap may have outlived it.
func (m *Mirror) tidy() error {
	entries, err := os.ReadDir(filepath.Dir(m.Target.Map))
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), m.prefix()) {
			errs = append(errs, os.Remove(filepath.Join(filepath.Dir(m.Target.Map), e.Name())))
		}
	}
	return errors.Join(errs...)
}

// write makes text and database of the table as it is now, and puts them in place if they are other ones. It returns the
// files that it put or left there: what somebody has changed by the time it returns must differ from them.
func (m *Mirror) write(ctx context.Context, info TableInfo) (placed [2]os.FileInfo, err error) {
	timeout := m.Timeout
	if timeout == 0 {
		timeout = 10 * time.Minute
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if err := m.tidy(); err != nil {
		return placed, fmt.Errorf("tidy the directory: %w", err)
	}
	path := m.Target.Map
	mode := fs.FileMode(0o644)
	if old, err := os.Stat(path); err == nil {
		mode = old.Mode().Perm()
	}
	f, err := os.CreateTemp(filepath.Dir(path), m.prefix())
	if err != nil {
		var at *fs.PathError
		if errors.As(err, &at) {
			err = at.Err
		}
		return placed, fmt.Errorf("make a file beside %s: %w", path, err)
	}
	text := f.Name()
	defer func() {
		if err != nil { // the same each time, so that it is told once
			err = errors.New(strings.ReplaceAll(err.Error(), text, path))
		}
	}()
	suffix, isDatabase := databases[m.Target.Type]
	defer func() {
		f.Close()
		os.Remove(text)
		if isDatabase {
			os.Remove(text + suffix)
		}
	}()
	plain, exotic, err := m.text(ctx, f, dict.IsPattern(info.Type))
	if err == nil {
		err = f.Chmod(mode)
	}
	if err == nil {
		err = f.Sync()
	}
	if err != nil {
		return placed, fmt.Errorf("write the text: %w", err)
	}
	if exotic > 0 {
		m.Logger.Warn("entries that postmap(1) cannot read are left out of a mirror", "table", m.Table, "target", m.Target.String(), "entries", exotic)
	}
	placed = m.files()
	if same(text, path) && (!isDatabase || newer(path+suffix, path)) {
		return placed, nil
	}
	if isDatabase {
		if err := m.postmap(ctx, io.Discard, m.Target.Type+":"+text); err != nil {
			return placed, err
		}
		if err := m.check(ctx, text, plain); err != nil {
			return placed, err
		}
		if err := os.Chmod(text+suffix, mode); err != nil {
			return placed, err
		}
		if err := syncFile(text + suffix); err != nil {
			return placed, err
		}
		if placed[1], err = os.Stat(text + suffix); err != nil {
			return placed, err
		}
		// The database first: one that is older than its text would be complained of.
		if err := os.Rename(text+suffix, path+suffix); err != nil {
			return placed, err
		}
	}
	if placed[0], err = f.Stat(); err != nil {
		return placed, err
	}
	if err := os.Rename(text, path); err != nil {
		return placed, err
	}
	m.set(func(s *MirrorState) { s.Written = time.Now().UTC().Format(time.RFC3339) })
	m.Logger.Info("mirror written", "table", m.Table, "target", m.Target.String(), "entries", info.Entries, "version", info.Version)
	return placed, syncFile(filepath.Dir(path))
}

// text writes the table as text for postmap(1), or as rules. plain counts the entries in it, exotic those that such text
// cannot carry.
func (m *Mirror) text(ctx context.Context, to io.Writer, rules bool) (plain, exotic int, err error) {
	entries, err := m.From.Entries(ctx, m.Table, nil)
	if err != nil {
		return 0, 0, err
	}
	out := bufio.NewWriterSize(to, 64<<10)
	w := dict.NewSourceWriter(out)
	for key, value := range entries {
		if ctx.Err() != nil {
			return 0, 0, ctx.Err()
		}
		plain++
		if !rules {
			err = w.Entry(key, value)
		} else if _, err = out.Write(value); err == nil {
			err = out.WriteByte('\n')
		}
		if err != nil {
			return 0, 0, err
		}
	}
	return plain - w.Exotic, w.Exotic, out.Flush()
}

// postmap runs postmap(1), with what it prints to out.
func (m *Mirror) postmap(ctx context.Context, out io.Writer, args ...string) error {
	if m.ConfigDir != "" {
		args = append([]string{"-c", m.ConfigDir}, args...)
	}
	cmd := exec.CommandContext(ctx, m.Postmap, args...)
	cmd.WaitDelay = time.Second
	var said lastLine
	cmd.Stdout, cmd.Stderr = out, &said
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", m.Postmap, m.Target.Type, err, said.line)
	}
	return nil
}

// check reads the database of a text back: with lmdb and a full disk postmap(1) makes one that lacks entries, and does
// not say so. Those of cdb cannot be listed, and it does say so.
func (m *Mirror) check(ctx context.Context, text string, plain int) error {
	if m.Target.Type == "cdb" {
		return nil
	}
	var lines lineCount
	if err := m.postmap(ctx, &lines, "-s", m.Target.Type+":"+text); err != nil {
		return fmt.Errorf("read the database back: %w", err)
	}
	if int(lines) != plain {
		return fmt.Errorf("the database that %s made has %d entries, not %d: is the disk full?", m.Postmap, lines, plain)
	}
	return nil
}

// A lineCount counts what is written to it.
type lineCount int

func (n *lineCount) Write(b []byte) (int, error) {
	*n += lineCount(bytes.Count(b, []byte{'\n'}))
	return len(b), nil
}

// A lastLine keeps the last line that is written to it, or the end of that.
type lastLine struct{ line, rest string }

func (l *lastLine) Write(b []byte) (int, error) {
	l.rest += string(b)
	if i := strings.LastIndexByte(strings.TrimRight(l.rest, "\n"), '\n'); i >= 0 {
		l.rest = l.rest[i+1:]
	}
	l.rest = l.rest[max(0, len(l.rest)-1000):]
	l.line = strings.TrimSpace(l.rest)
	return len(b), nil
}

// same reports whether two files hold the same.
func same(a, b string) bool {
	x, errX := os.Open(a)
	if errX != nil {
		return false
	}
	defer x.Close()
	y, errY := os.Open(b)
	if errY != nil {
		return false
	}
	defer y.Close()
	bufX, bufY := make([]byte, 64<<10), make([]byte, 64<<10)
	for {
		n, errX := io.ReadFull(x, bufX)
		k, errY := io.ReadFull(y, bufY)
		if !bytes.Equal(bufX[:n], bufY[:k]) {
			return false
		}
		if errX != nil || errY != nil {
			ended := func(err error) bool { return err == io.EOF || err == io.ErrUnexpectedEOF }
			return ended(errX) && ended(errY)
		}
	}
}

// newer reports whether file a is there and not older than b.
func newer(a, b string) bool {
	x, errX := os.Stat(a)
	y, errY := os.Stat(b)
	return errX == nil && errY == nil && !x.ModTime().Before(y.ModTime())
}

func syncFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

// PostfixCommand returns the path of a command of Postfix: services, and users, often have no sbin in their PATH.
func PostfixCommand(name string) string {
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	return filepath.Join("/usr/sbin", name)
}

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

// tidy removes what a run that was cut off has left.
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

// write makes text and database of the table as it is now, and puts them in place if they are other ones.
func (m *Mirror) write(ctx context.Context, info TableInfo) (err error) {
	timeout := m.Timeout
	if timeout == 0 {
		timeout = 10 * time.Minute
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	path := m.Target.Map
	mode := fs.FileMode(0o644)
	if old, err := os.Stat(path); err == nil {
		mode = old.Mode().Perm()
	}
	f, err := os.CreateTemp(filepath.Dir(path), m.prefix())
	if err != nil {
		return err
	}
	text := f.Name()
	suffix, isDatabase := databases[m.Target.Type]
	defer func() {
		f.Close()
		os.Remove(text)
		if isDatabase {
			os.Remove(text + suffix)
		}
	}()
	exotic, err := m.text(ctx, f, dict.IsPattern(info.Type))
	if err == nil {
		err = f.Chmod(mode)
	}
	if err == nil {
		err = f.Sync()
	}
	if err != nil {
		return fmt.Errorf("write the text: %w", err)
	}
	if exotic > 0 {
		m.Logger.Warn("entries that postmap(1) cannot read are left out of a mirror", "table", m.Table, "target", m.Target.String(), "entries", exotic)
	}
	if same(text, path) && (!isDatabase || newer(path+suffix, path)) {
		return nil
	}
	if isDatabase {
		if err := m.postmap(ctx, text); err != nil {
			return err
		}
		if err := os.Chmod(text+suffix, mode); err != nil {
			return err
		}
		if err := syncFile(text + suffix); err != nil {
			return err
		}
		// The database first: one that is older than its text would be complained of.
		if err := os.Rename(text+suffix, path+suffix); err != nil {
			return err
		}
	}
	if err := os.Rename(text, path); err != nil {
		return err
	}
	m.set(func(s *MirrorState) { s.Written = time.Now().UTC().Format(time.RFC3339) })
	m.Logger.Info("mirror written", "table", m.Table, "target", m.Target.String(), "entries", info.Entries, "version", info.Version)
	return syncFile(filepath.Dir(path))
}

// text writes the table as text for postmap(1), or as rules. exotic counts entries that such text cannot carry.
func (m *Mirror) text(ctx context.Context, to io.Writer, rules bool) (exotic int, err error) {
	entries, err := m.From.Entries(ctx, m.Table, nil)
	if err != nil {
		return 0, err
	}
	out := bufio.NewWriterSize(to, 64<<10)
	w := dict.NewSourceWriter(out)
	for key, value := range entries {
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
		if !rules {
			err = w.Entry(key, value)
		} else if _, err = out.Write(value); err == nil {
			err = out.WriteByte('\n')
		}
		if err != nil {
			return 0, err
		}
	}
	return w.Exotic, out.Flush()
}

// postmap makes the database of a text.
func (m *Mirror) postmap(ctx context.Context, text string) error {
	var args []string
	if m.ConfigDir != "" {
		args = append(args, "-c", m.ConfigDir)
	}
	cmd := exec.CommandContext(ctx, m.Postmap, append(args, m.Target.Type+":"+text)...)
	cmd.WaitDelay = time.Second
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Run(); err != nil {
		line, _, _ := strings.Cut(strings.TrimSpace(said.String()), "\n")
		return fmt.Errorf("%s %s: %w: %s", m.Postmap, m.Target.Type, err, line)
	}
	return nil
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

package trust

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

const maxSecretFile = 64 << 10

// ReadSecretFile returns the secrets in a file (see ParseSecrets). The file must not be accessible by others
// than its owner and group, for a secret is all that it takes to join the cluster.
func ReadSecretFile(path string) (Secrets, error) {
	text, _, err := readPrivate(path, ErrSecret)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w; make one with: postraft keygen, and copy it to every node", err)
	}
	if errors.Is(err, fs.ErrPermission) {
		return nil, fmt.Errorf("%w; the agent's user has to read it: run the agent as that user, or: chgrp postraft %s && chmod 640 %s", err, path, path)
	}
	if err != nil {
		return nil, err
	}
	s, err := ParseSecrets(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return s, nil
}

// readPrivate reads a file that others must not be able to access.
func readPrivate(path string, kind error) ([]byte, fs.FileInfo, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0) // a pipe must not make anybody wait
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", kind, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", kind, err)
	}
	if !info.Mode().IsRegular() {
		return nil, nil, fmt.Errorf("%w: %s is not a file", kind, path)
	}
	if mode := info.Mode().Perm(); mode&0o007 != 0 {
		return nil, nil, fmt.Errorf("%w: others may access %s (mode %04o); run: chmod o= %s", kind, path, mode, path)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxSecretFile+1))
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", kind, err)
	}
	if len(text) > maxSecretFile {
		return nil, nil, fmt.Errorf("%w: %s is longer than %d bytes", kind, path, maxSecretFile)
	}
	return text, info, nil
}

// AddToFile adds a new secret to a secret file, as the last one that is accepted, and returns its fingerprint.
func AddToFile(path string) (fingerprint string, err error) {
	secret := NewSecret()
	err = editFile(path, func(_ Secrets, lines [][]byte) ([][]byte, error) {
		return append(lines, []byte(secret+"\n")), nil
	})
	return Fingerprint(secret), err
}

// UseInFile makes the secret with this fingerprint the first one in a secret file.
func UseInFile(path, fingerprint string) error {
	return editFile(path, func(s Secrets, lines [][]byte) ([][]byte, error) {
		i, err := s.index(fingerprint)
		if err != nil || i == 0 {
			return lines, err
		}
		from, to := lineOf(lines, s[i]), lineOf(lines, s[0])
		line := lines[from]
		return slices.Insert(slices.Delete(lines, from, from+1), to, line), nil
	})
}

// RemoveFromFile removes the secret with this fingerprint from a secret file. The first is an ErrInUse.
func RemoveFromFile(path, fingerprint string) error {
	return editFile(path, func(s Secrets, lines [][]byte) ([][]byte, error) {
		if _, err := s.Remove(fingerprint); err != nil {
			return nil, err
		}
		i, err := s.index(fingerprint)
		if err != nil {
			return nil, err
		}
		at := lineOf(lines, s[i])
		return slices.Delete(lines, at, at+1), nil
	})
}

func lineOf(lines [][]byte, secret string) int {
	return slices.IndexFunc(lines, func(line []byte) bool {
		s, ok := secretOf(line)
		return ok && s == secret
	})
}

// editFile replaces a secret file in one step: a reader sees the old or the new one, and so does who starts
// after a crash. The new file has the mode and the owner of the old one. Editors wait for each other on a lock
// of the directory; links are followed, so that the file and not the link is replaced.
func editFile(path string, edit func(s Secrets, lines [][]byte) ([][]byte, error)) error {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrSecret, err)
	}
	dir, err := os.Open(filepath.Dir(real))
	if err != nil {
		return fmt.Errorf("edit %s: %w", path, err)
	}
	defer dir.Close()
	if err := unix.Flock(int(dir.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("edit %s: lock its directory: %w", path, err)
	}
	text, info, err := readPrivate(real, ErrSecret)
	if err != nil {
		return err
	}
	s, err := ParseSecrets(text)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if len(text) > 0 && text[len(text)-1] != '\n' {
		text = append(text, '\n')
	}
	lines, err := edit(s, slices.Collect(bytes.Lines(text)))
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	next := bytes.Join(lines, nil)
	if bytes.Equal(next, text) {
		return nil
	}
	if _, err := ParseSecrets(next); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if err := replace(real, next, info); err != nil {
		return fmt.Errorf("edit %s: %w", path, err)
	}
	return dir.Sync()
}

// replace writes a file beside path, with mode and owner of the one there, and puts it in its place.
func replace(path string, content []byte, like fs.FileInfo) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	_, err = f.Write(content)
	if stat, ok := like.Sys().(*syscall.Stat_t); ok && err == nil {
		err = f.Chown(int(stat.Uid), int(stat.Gid))
	}
	if err == nil {
		err = f.Chmod(like.Mode().Perm())
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

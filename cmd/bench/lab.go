package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// A lab is the place of one scenario: its files, and what has to end with it.
type lab struct {
	ctx     context.Context
	dir     string
	bin     string // holds postraft and postraft-proxymap
	say     func(format string, args ...any)
	cleanup []func()
}

func newLab(ctx context.Context, bin string, say func(string, ...any)) (*lab, error) {
	// Short, because a socket's name has 107 bytes at most; open to Postfix's user.
	dir, err := os.MkdirTemp("", "pb")
	if err != nil {
		return nil, err
	}
	l := &lab{ctx: ctx, dir: dir, bin: bin, say: say}
	l.atEnd(func() { os.RemoveAll(dir) })
	return l, os.Chmod(dir, 0o755)
}

func (l *lab) path(elem ...string) string { return filepath.Join(append([]string{l.dir}, elem...)...) }

// atEnd has f called when the lab closes, the last first.
func (l *lab) atEnd(f func()) { l.cleanup = append(l.cleanup, f) }

func (l *lab) close() {
	for len(l.cleanup) > 0 {
		last := len(l.cleanup) - 1
		f := l.cleanup[last]
		l.cleanup = l.cleanup[:last]
		f()
	}
}

// daemon starts a program that ends with the lab.
func (l *lab) daemon(name, program string, args ...string) (*daemon, error) {
	d, err := startDaemon(l.path(name+".log"), program, args...)
	if err != nil {
		return nil, err
	}
	l.atEnd(d.stop)
	return d, nil
}

// helper starts one of helpers, which ends with the lab.
func (l *lab) helper(name string, args ...string) (*daemon, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return l.daemon(name+"-process", self, append([]string{name}, args...)...)
}

// run runs a command to its end and returns what it printed.
func (l *lab) run(name string, args ...string) (string, error) {
	cmd := exec.CommandContext(l.ctx, name, args...)
	cmd.WaitDelay = time.Second // a daemon that it leaves behind may hold its output open
	out, err := cmd.CombinedOutput()
	if err != nil && !errors.Is(err, exec.ErrWaitDelay) {
		return string(out), fmt.Errorf("%s %v: %w\n%s", filepath.Base(name), args, err, out)
	}
	return string(out), nil
}

// A job is a command that was run to its end.
type job struct {
	Took time.Duration `json:"took_ns"`
	CPU  time.Duration `json:"cpu_ns"` // of the command, and of the servers that it made work
}

// timed runs a command to its end and says what that took, of servers nothing.
func (l *lab) timed(name string, args ...string) (job, error) {
	cmd := exec.CommandContext(l.ctx, name, args...)
	begin := time.Now()
	out, err := cmd.CombinedOutput()
	if err != nil {
		return job{}, fmt.Errorf("%s %v: %w\n%s", filepath.Base(name), args, err, out)
	}
	return job{time.Since(begin), cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()}, nil
}

// until waits for a condition.
func (l *lab) until(limit time.Duration, what string, ok func() error) error {
	deadline := time.Now().Add(limit)
	for {
		err := ok()
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s: not within %v: %w", what, limit, err)
		}
		if wait(l.ctx, time.Now().Add(5*time.Millisecond)); l.ctx.Err() != nil {
			return l.ctx.Err()
		}
	}
}

// freePorts returns loopback addresses that were free a moment ago.
func freePorts(n int) (addresses []string, err error) {
	for range n {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer ln.Close()
		addresses = append(addresses, ln.Addr().String())
	}
	return addresses, nil
}

// writeSource writes a table's source of n entries shuffled, always in the same order. format is of the values.
func writeSource(path string, n int, format string) (err error) {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	return source(file, n, format)
}

// source writes each entry once.
func source(w io.Writer, n int, format string) error {
	buf := make([]byte, 0, 1<<16)
	for i, at := range random(n).Perm(n) {
		buf = fmt.Appendf(buf, keyFormat+" "+format+"\n", at, at)
		if len(buf) > 1<<16-100 || i == n-1 {
			if _, err := w.Write(buf); err != nil {
				return err
			}
			buf = buf[:0]
		}
	}
	return nil
}

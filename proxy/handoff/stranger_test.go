package handoff

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestServer_OtherUsers ensures that a local user who may not hand connections over is told so, takes no place
// from those who may, and does not fill the log.
func TestServer_OtherUsers(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can be another user")
	}
	dir, err := os.MkdirTemp("", "handoff") // not t.TempDir, which others cannot enter
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "s")
	log := &records{}
	srv, err := Listen(Config{Path: path, Open: newAgent(t, "agent").open, Logger: slog.New(slog.NewTextHandler(log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ctx) }()
	defer func() { cancel(); <-done }()
	const times = 2 * maxLinks
	refused := make(chan int)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread, which becomes another user, ends with this goroutine
		count := 0
		defer func() { refused <- count }()
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, 65534, 65534, 65534); errno != 0 {
			return
		}
		for range times {
			fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
			if err != nil || unix.Connect(fd, &unix.SockaddrUnix{Name: path}) != nil {
				return
			}
			defer unix.Close(fd)
			b := make([]byte, 1000)
			if n, err := unix.Read(fd, b); err == nil && n > 0 {
				if n, err = unix.Read(fd, b); n == 0 && err == nil { // hung up
					count++
				}
			}
		}
	}()
	if got := <-refused; got != times {
		t.Errorf("%d of %d links were refused and hung up", got, times)
	}
	if n := strings.Count(log.String(), "refused"); n < 1 || n > 3 {
		t.Errorf("%d log lines:\n%s", n, log)
	}
	f := startFront(t, FrontEndConfig{Path: path})
	within(t, 5*time.Second, "a front end of ours is welcome", func() error {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.agent == nil {
			return os.ErrNotExist
		}
		return nil
	})
}

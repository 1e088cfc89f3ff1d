package ops

import (
	"bufio"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

const nobody = 65534

// dialAs connects to a unix socket as another user. It needs root: the thread that connects, and only that one,
// becomes that user, and ends.
func dialAs(t *testing.T, uid int, path string) (net.Conn, error) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can be another user")
	}
	type outcome struct {
		conn net.Conn
		err  error
	}
	done := make(chan outcome)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with this goroutine
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, uintptr(uid), uintptr(uid), uintptr(uid)); errno != 0 {
			done <- outcome{nil, errno}
			return
		}
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err == nil {
			err = unix.Connect(fd, &unix.SockaddrUnix{Name: path})
		}
		if err != nil {
			unix.Close(fd)
			done <- outcome{nil, err}
			return
		}
		f := os.NewFile(uintptr(fd), path)
		defer f.Close()
		conn, err := net.FileConn(f)
		done <- outcome{conn, err}
	}()
	o := <-done
	return o.conn, o.err
}

// TestServer_OtherUsers ensures that another local user cannot open the socket, and is told nothing by it where its
// mode was loosened.
func TestServer_OtherUsers(t *testing.T) {
	dir, err := os.MkdirTemp("", "ops") // not t.TempDir, which others cannot enter
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "admin.sock")
	a := newFake()
	serve(t, a, func(cfg *ServerConfig) { cfg.Path, cfg.Allowed = path, nil })
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("mode %v %v", info.Mode(), err)
	}
	if _, err := dialAs(t, nobody, path); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("connect as another user: %v", err)
	}
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	for _, request := range []string{
		"GET /v1/status", "GET /v1/members", "GET /v1/keyring", "POST /v1/keyring/reload", "GET /v1/table/entries?name=t&prefix=", "GET /v1/snapshot",
		"POST /v1/leave", "POST /v1/table/put?name=t", "GET /nowhere",
	} {
		conn, err := dialAs(t, nobody, path)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(conn, request+" HTTP/1.1\r\nHost: agent\r\nContent-Length: 0\r\n\r\n")
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		if resp.StatusCode != http.StatusForbidden || !strings.Contains(string(body), "user 65534 may not operate") {
			t.Errorf("%s: %s %s", request, resp.Status, body)
		}
		conn.Close()
	}
	if a.calls != nil {
		t.Errorf("the agent was asked: %v", a.calls)
	}
}

// TestChmodSocket ensures that only a socket gets another mode, not what somebody put in its place.
func TestChmodSocket(t *testing.T) {
	dir := t.TempDir()
	secret, link := filepath.Join(dir, "secret"), filepath.Join(dir, "link")
	if err := os.WriteFile(secret, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(secret, link); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{secret, link, filepath.Join(dir, "none")} {
		if err := chmodSocket(path, 0o660); err == nil {
			t.Errorf("%s is no socket", path)
		}
	}
	if info, err := os.Stat(secret); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v %v", info.Mode(), err)
	}
	ln, err := ListenUnix(filepath.Join(dir, "s"), 0o640)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if info, err := os.Stat(filepath.Join(dir, "s")); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("mode %v %v", info.Mode(), err)
	}
}

package master

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The tests below start this test binary again as master would start a service.
const childVar = "POSTRAFT_TEST_CHILD"

func TestMain(m *testing.M) {
	if task := os.Getenv(childVar); task != "" {
		if err := child(task); err != nil {
			fmt.Println("child:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// child is the service: it answers each connection with one line and leaves when master says so.
func child(task string) error {
	env, err := ReadEnvironment(os.Getenv)
	if err != nil {
		return err
	}
	opts, err := ParseArgs(os.Args)
	if err != nil {
		return err
	}
	in, err := Inherit(env, opts)
	if err != nil {
		return err
	}
	var outside *Outside
	var account *Account
	if task == "confined" {
		if outside, err = NewOutside(); err != nil {
			return err
		}
		defer outside.Close()
		nobody, err := LookupAccount("nobody")
		if err != nil {
			return err
		}
		account = &nobody
		if err := Confine(account, os.Getenv("ROOT")); err != nil {
			return err
		}
	}
	done := make(chan error, 1)
	go func() {
		served := false
		for {
			fd, err := in.Listeners[0].Accept()
			if err != nil {
				if err != io.EOF {
					done <- err
				}
				close(done)
				return
			}
			text := "hello " + strconv.Itoa(os.Getuid())
			if outside != nil {
				_, inside := os.Stat("/beacon")
				var out error
				outside.Do(func() { _, out = os.Stat(os.Getenv("ROOT") + "/beacon") })
				text += fmt.Sprintf(" inside=%v outside=%v", inside == nil, out == nil)
			}
			if !served {
				served = true
				if err := in.Status.Served(); err != nil {
					done <- err
				}
			}
			unix.Write(fd, []byte(text+"\n"))
			unix.Close(fd)
		}
	}()
	<-in.Status.Gone()
	if err := in.Close(); err != nil {
		return err
	}
	return <-done
}

// run starts the child with a status socket and a listening socket, as master does.
func run(t *testing.T, task, root string) (status *os.File, address string, cmd *exec.Cmd, out *strings.Builder) {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	far := os.NewFile(uintptr(pair[1]), "status")
	unix.SetNonblock(pair[0], true)
	near := os.NewFile(uintptr(pair[0]), "status")
	t.Cleanup(func() { near.Close() })
	address = filepath.Join(t.TempDir(), "s")
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: address, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	listening, err := ln.File()
	if err != nil {
		t.Fatal(err)
	}
	flow := os.NewFile(uintptr(must(unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0))), "null")
	self := must(os.Executable())
	cmd = exec.Command(self, "-n", "svc", "-t", "unix", "-u")
	cmd.Env = []string{childVar + "=" + task, "GENERATION=17", "ROOT=" + root}
	cmd.ExtraFiles = []*os.File{flow, flow, far, listening}
	out = &strings.Builder{}
	cmd.Stdout = out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill() })
	for _, f := range cmd.ExtraFiles {
		f.Close()
	}
	return near, address, cmd, out
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func hello(t *testing.T, address string) string {
	t.Helper()
	conn, err := net.Dial("unix", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	text, err := io.ReadAll(conn)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}

// TestInherit_Life ensures that a service accepts on fd 6, reports TAKEN and AVAIL once with pid and
// generation, leaves with status 0 when fd 5 ends, and leaves the socket to master.
func TestInherit_Life(t *testing.T) {
	status, address, cmd, out := run(t, "plain", "")
	for range 3 {
		if got, want := hello(t, address), "hello "+strconv.Itoa(os.Getuid()); got != want {
			t.Fatalf("service says %q, want %q", got, want)
		}
	}
	status.SetReadDeadline(time.Now().Add(10 * time.Second))
	var msg [24]byte
	if _, err := io.ReadFull(status, msg[:]); err != nil {
		t.Fatal(err)
	}
	for i, avail := range []uint32{0, 1} {
		var got [3]uint32
		for k := range got {
			got[k] = binary.NativeEndian.Uint32(msg[12*i+4*k:])
		}
		if want := [3]uint32{uint32(cmd.Process.Pid), 0o17, avail}; got != want {
			t.Errorf("status message %d = %v, want %v", i, got, want)
		}
	}
	status.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if n, err := status.Read(msg[:]); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("more status messages: %d bytes, %v", n, err)
	}
	status.Close() // postfix reload
	if err := cmd.Wait(); err != nil {
		t.Errorf("end of the service: %v; %s", err, out)
	}
	if _, err := os.Stat(address); err != nil {
		t.Errorf("the socket went with the service: %v", err)
	}
}

// TestInherit_ByHand ensures that a process that master did not start touches nothing and says so.
func TestInherit_ByHand(t *testing.T) {
	for _, env := range []Environment{{}, {Managed: true}} {
		if _, err := Inherit(env, Options{Sockets: 1}); !errors.Is(err, ErrByHand) {
			t.Errorf("%+v: %v", env, err)
		}
	}
}

// TestConfine ensures that the process leaves root and its root directory behind while the outside thread
// still sees the world.
func TestConfine(t *testing.T) {
	if os.Getuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("needs root")
		}
		t.Skip("NOT RUN: changing user and root directory needs root")
	}
	root := t.TempDir()
	// The tree above is private to root; the test user passes through it by its own root only.
	if err := os.WriteFile(filepath.Join(root, "beacon"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for dir := root; dir != "/" && dir != "/tmp"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	status, address, cmd, out := run(t, "confined", root)
	nobody := must(LookupAccount("nobody"))
	if got, want := hello(t, address), fmt.Sprintf("hello %d inside=true outside=true", nobody.UID); got != want {
		t.Errorf("service says %q, want %q", got, want)
	}
	status.Close()
	if err := cmd.Wait(); err != nil {
		t.Errorf("end of the service: %v; %s", err, out)
	}
}

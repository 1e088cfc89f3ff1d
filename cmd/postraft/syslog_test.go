package main

import (
	"fmt"
	"log/syslog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"postraft/cluster/clustertest"
	"postraft/cluster/trust"
)

// withDev names a directory that a child, which has its mounts for itself, shall see as /dev.
const withDev = "TEST_WITH_DEV"

// devices are what a process may want of /dev.
var devices = []string{"null", "urandom"}

// mountDev puts a directory in the place of /dev, with the true devices in it.
func mountDev(dir string) {
	must := func(err error) {
		if err != nil {
			panic(fmt.Sprintf("mount %s on /dev: %v", dir, err))
		}
	}
	must(unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, ""))
	for _, name := range devices {
		must(unix.Mount(filepath.Join("/dev", name), filepath.Join(dir, name), "", unix.MS_BIND, ""))
	}
	must(unix.Mount(dir, "/dev", "", unix.MS_BIND|unix.MS_REC, ""))
}

// ownMounts starts a process with mounts of its own, as root or as a user who may be root for itself.
func ownMounts() *syscall.SysProcAttr {
	if os.Geteuid() == 0 {
		return &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	}
	return &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWNS | syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}},
	}
}

// A devLog is a /dev/log that keeps what it is sent.
type devLog struct {
	mu   sync.Mutex
	said []string
}

func newDevLog(t *testing.T, path string) *devLog {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	d := &devLog{}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 64<<10)
		for {
			n, err := conn.Read(buf)
			if err != nil {
				return
			}
			d.mu.Lock()
			d.said = append(d.said, string(buf[:n]))
			d.mu.Unlock()
		}
	}()
	t.Cleanup(func() { conn.Close(); <-done })
	return d
}

func (d *devLog) lines() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]string(nil), d.said...)
}

// TestSyslog_DevLog ensures that an agent with --syslog writes each line to /dev/log in the facility of mail, at its
// level and under its name and pid, and nothing to standard error.
func TestSyslog_DevLog(t *testing.T) {
	probe := exec.Command("true")
	probe.SysProcAttr = ownMounts()
	if err := probe.Run(); err != nil {
		t.Skipf("LEFT OUT: this user cannot have mounts of its own: %v", err)
	}
	dir := shortDir(t)
	dev := filepath.Join(dir, "dev")
	if err := os.Mkdir(dev, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range devices {
		if err := os.WriteFile(filepath.Join(dev, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	said := newDevLog(t, filepath.Join(dev, "log"))
	if err := os.WriteFile(filepath.Join(dir, "secret"), []byte(trust.NewSecret()), 0o600); err != nil {
		t.Fatal(err)
	}
	conf := filepath.Join(dir, "postraft.cf")
	if err := os.WriteFile(conf, []byte("syslog = yes\nvoters = 3\nvoters = 5\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	c := startChildWith(t, ownMounts(), []string{withDev + "=" + dev}, "agent", "--config", conf, "--name", "n1", "--http", "", "--bootstrap-expect", "1",
		"--data-dir", filepath.Join(dir, "data"), "--run-dir", filepath.Join(dir, "run"), "--secret-file", filepath.Join(dir, "secret"),
		"--bind", clustertest.FreePort(t), "--gossip", clustertest.FreePort(t))
	const info, warning = syslog.LOG_MAIL | syslog.LOG_INFO, syslog.LOG_MAIL | syslog.LOG_WARNING
	form := regexp.MustCompile(fmt.Sprintf(`^<[0-9]+>[A-Z][a-z]{2} [ 0-9]{2} [0-9:]{8} postraft\[%d\]: level=`, c.cmd.Process.Pid))
	clustertest.Eventually(t, "the log has the start and the warning", func() error {
		all := strings.Join(said.lines(), "")
		for _, want := range []string{`level=INFO msg="agent runs"`, `level=WARN msg=configuration`, "voters overrides line 2"} {
			if !strings.Contains(all, want) {
				return fmt.Errorf("there is no %q in %s", want, all)
			}
		}
		return nil
	})
	for _, line := range said.lines() {
		want := fmt.Sprintf("<%d>", info)
		if strings.Contains(line, "level=WARN") {
			want = fmt.Sprintf("<%d>", warning)
		}
		if !form.MatchString(line) || !strings.HasPrefix(line, want) && !strings.Contains(line, "level=ERROR") {
			t.Errorf("line %q, want it to begin with %s", line, want)
		}
	}
	if code, _ := c.end(syscall.SIGTERM); code != 0 || c.out.String() != "" {
		t.Errorf("exit %d, standard error %q", code, c.out.String())
	}
}

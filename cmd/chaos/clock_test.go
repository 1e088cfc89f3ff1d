package chaos

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// clockVariable names the file from which a built agent takes how much its wall clock is wrong.
const clockVariable = "CHAOS_CLOCK_FILE"

// clockSource is added to package time. It maps the file and adds the seconds in its first eight bytes to the
// wall clock; the monotonic clock stays as it is, as on a host whose clock somebody sets.
const clockSource = `package time

import (
	"sync/atomic"
	"syscall"
	"unsafe"
)

var chaosClock = mapChaosClock()

func mapChaosClock() *int64 {
	path, ok := syscall.Getenv("` + clockVariable + `")
	if !ok {
		return nil
	}
	fd, err := syscall.Open(path, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		panic("clock file: " + err.Error())
	}
	b, err := syscall.Mmap(fd, 0, 8, syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		panic("clock file: " + err.Error())
	}
	return (*int64)(unsafe.Pointer(&b[0]))
}

func chaosSeconds() int64 {
	if p := chaosClock; p != nil {
		return atomic.LoadInt64(p)
	}
	return 0
}
`

// clockOverlay writes an overlay for go build that lets the wall clock be set, and returns its path.
func clockOverlay(dir string) (string, error) {
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return "", err
	}
	original := filepath.Join(strings.TrimSpace(string(root)), "src", "time", "time.go")
	text, err := os.ReadFile(original)
	if err != nil {
		return "", err
	}
	const now = "\tsec, nsec, mono := runtimeNow()\n"
	if bytes.Count(text, []byte(now)) != 1 {
		return "", fmt.Errorf("%s: time.Now is not written as expected", original)
	}
	text = bytes.Replace(text, []byte(now), []byte(now+"\tsec += chaosSeconds()\n"), 1)
	patched, added := filepath.Join(dir, "time.go"), filepath.Join(dir, "clock.go")
	overlay, err := json.Marshal(map[string]map[string]string{"Replace": {
		original: patched,
		filepath.Join(filepath.Dir(original), "chaos_clock.go"): added,
	}})
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "overlay.json")
	return path, errors.Join(os.WriteFile(patched, text, 0o600), os.WriteFile(added, []byte(clockSource), 0o600), os.WriteFile(path, overlay, 0o600))
}

// A clock is a node's wall clock.
type clock struct{ path string }

// set makes the clock wrong by d.
func (c clock) set(d time.Duration) error {
	f, err := os.OpenFile(c.path, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	var b [8]byte
	binary.NativeEndian.PutUint64(b[:], uint64(int64(d/time.Second)))
	_, err = f.WriteAt(b[:], 0)
	return errors.Join(err, f.Close())
}

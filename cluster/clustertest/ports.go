package clustertest

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
)

// Ports are taken from below the range that the kernel gives to outgoing connections (32768 and up), one of
// which could otherwise sit on the port of a node that is down.
const (
	lowestPort  = 10000
	highestPort = 32000
)

// FreePort returns a loopback address, TCP and UDP, that belongs to the test until it ends.
func FreePort(t testing.TB) string {
	t.Helper()
	return address(FreePorts(t, 1))
}

// FreePorts returns the first of some ports in a row that nobody listens on and that belong to the test until
// it ends: other tests, also those of other processes, are not given them.
func FreePorts(t testing.TB, count int) int {
	t.Helper()
	dir := filepath.Join(os.TempDir(), "postraft-test-ports")
	if err := os.MkdirAll(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	os.Chmod(dir, 0o777) // shared with the tests of other users
	for range 1000 {
		first := lowestPort + rand.IntN(highestPort-lowestPort-count)
		if locks, ok := lockPorts(dir, first, count); ok {
			t.Cleanup(func() { unlock(locks) })
			return first
		}
	}
	t.Fatal("no free ports")
	return 0
}

// lockPorts locks a file for each port, so that it belongs to one test, and looks whether the ports are free.
func lockPorts(dir string, first, count int) (locks []*os.File, ok bool) {
	for port := first; port < first+count; port++ {
		f, err := os.OpenFile(filepath.Join(dir, strconv.Itoa(port)), os.O_RDWR|os.O_CREATE, 0o666)
		if err == nil {
			locks = append(locks, f)
			err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		}
		if err != nil || !free(port) {
			unlock(locks)
			return nil, false
		}
	}
	return locks, true
}

func unlock(locks []*os.File) {
	for _, f := range locks {
		f.Close()
	}
}

func address(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }

func free(port int) bool {
	ln, err := net.Listen("tcp", address(port))
	if err != nil {
		return false
	}
	defer ln.Close()
	udp, err := net.ListenPacket("udp", address(port))
	if err != nil {
		return false
	}
	udp.Close()
	return true
}

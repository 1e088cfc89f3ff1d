package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// traffic is how many bytes each TCP socket of a process has sent, by the socket's inode.
type traffic map[string]uint64

// sentBy asks the kernel about all TCP sockets of a process (TCP_INFO, on a copy of each descriptor). What sockets have
// sent that were closed since is lost, so only long connections are counted well. It needs the right to trace the process.
func sentBy(pid int) (traffic, error) {
	process, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil, fmt.Errorf("open process %d: %w", pid, err)
	}
	defer unix.Close(process)
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	sent := traffic{}
	for _, e := range entries {
		inode, err := os.Readlink(dir + "/" + e.Name())
		if errors.Is(err, fs.ErrNotExist) || err == nil && !strings.HasPrefix(inode, "socket:") {
			continue
		}
		if err != nil {
			return nil, err
		}
		number, err := strconv.Atoi(e.Name())
		if err != nil {
			return nil, fmt.Errorf("%s/%s: %w", dir, e.Name(), err)
		}
		fd, err := unix.PidfdGetfd(process, number, 0)
		if errors.Is(err, unix.EBADF) {
			continue // closed meanwhile
		}
		if err != nil {
			return nil, fmt.Errorf("copy descriptor %d of process %d: %w", number, pid, err)
		}
		info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		unix.Close(fd)
		if err == nil { // else it is no TCP socket
			sent[inode] = info.Bytes_sent
		}
	}
	return sent, nil
}

// since returns the bytes that were sent after an earlier look.
func (t traffic) since(earlier traffic) (bytes uint64) {
	for inode, n := range t {
		bytes += n - min(n, earlier[inode])
	}
	return bytes
}

// threadTime returns the processor time of all threads of a process, to the nanosecond where the kernel keeps that.
func threadTime(pid int) (total time.Duration, err error) {
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return 0, err
	}
	for _, e := range entries {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/schedstat", pid, e.Name()))
		if err != nil {
			return processes(func() ([]int, error) { return []int{pid}, nil }).cpu()
		}
		first, _, _ := strings.Cut(string(text), " ")
		n, err := strconv.ParseInt(first, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("/proc/%d/task/%s/schedstat: %q", pid, e.Name(), text)
		}
		total += time.Duration(n)
	}
	return total, nil
}

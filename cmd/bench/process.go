package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// processes names the processes that make up a server at a moment.
type processes func() ([]int, error)

// clockTick is the unit of processor time in proc(5): USER_HZ, 100 on every Linux that Go runs on.
const clockTick = 10 * time.Millisecond

// cpu returns the processor time that the processes have used.
func (p processes) cpu() (total time.Duration, err error) {
	pids, err := p()
	for _, pid := range pids {
		fields, statErr := stat(pid)
		if statErr != nil {
			return 0, statErr
		}
		for _, field := range fields[11:13] { // utime, stime
			ticks, err := strconv.Atoi(field)
			if err != nil {
				return 0, fmt.Errorf("processor time of process %d: %w", pid, err)
			}
			total += time.Duration(ticks) * clockTick
		}
	}
	return total, err
}

// memory returns the bytes that are resident.
func (p processes) memory() (total int64, err error) {
	pids, err := p()
	for _, pid := range pids {
		n, err := statusBytes(pid, "VmRSS")
		if err != nil {
			return 0, err
		}
		total += n
	}
	return total, err
}

// stat returns the fields of /proc/PID/stat behind the command's name, from the state on.
func stat(pid int) ([]string, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil, err
	}
	end := bytes.LastIndexByte(data, ')')
	fields := strings.Fields(string(data[end+1:]))
	if len(fields) < 20 {
		return nil, fmt.Errorf("/proc/%d/stat: %q", pid, data)
	}
	return fields, nil
}

// statusBytes returns a line of /proc/PID/status that counts kilobytes: VmRSS, or VmHWM, its highest value.
func statusBytes(pid int, name string) (int64, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(data), "\n"+name+":")
	fields := strings.Fields(rest)
	if len(fields) == 0 {
		return 0, fmt.Errorf("/proc/%d/status: no %s", pid, name)
	}
	kb, err := strconv.ParseInt(fields[0], 10, 64)
	return kb << 10, err
}

// forgetPeak sets VmHWM back to what is resident now.
func forgetPeak(pid int) error {
	return os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0)
}

// children returns the processes of a parent that run a program.
func children(parent int, program string) processes {
	return func() (pids []int, err error) {
		entries, err := os.ReadDir("/proc")
		for _, e := range entries {
			pid, notPID := strconv.Atoi(e.Name())
			if notPID != nil {
				continue
			}
			fields, err := stat(pid)
			if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
				continue // it has ended
			}
			if err != nil {
				return nil, err
			}
			exe, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
			if fields[1] == strconv.Itoa(parent) && filepath.Base(exe) == program {
				pids = append(pids, pid)
			}
		}
		return pids, err
	}
}

// join makes one server of several.
func join(all ...processes) processes {
	return func() (pids []int, err error) {
		for _, p := range all {
			more, err := p()
			if err != nil {
				return nil, err
			}
			pids = append(pids, more...)
		}
		return pids, nil
	}
}

// A daemon is a process of ours.
type daemon struct {
	cmd   *exec.Cmd
	log   string
	ended chan struct{} // closed when it was waited for
}

// startDaemon starts a program, which logs to a file.
func startDaemon(log string, name string, args ...string) (*daemon, error) {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	d := &daemon{cmd: exec.Command(name, args...), log: log, ended: make(chan struct{})}
	d.cmd.Stdout, d.cmd.Stderr = out, out
	if err := d.cmd.Start(); err != nil {
		return nil, err
	}
	go func() { // ends with the process, which stop and kill await
		d.cmd.Wait()
		close(d.ended)
	}()
	return d, nil
}

func (d *daemon) processes() ([]int, error) { return []int{d.cmd.Process.Pid}, nil }

// stop ends it, in ten seconds at most.
func (d *daemon) stop() {
	d.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-d.ended:
	case <-time.After(10 * time.Second):
		d.kill()
	}
}

// kill ends it as a power failure would.
func (d *daemon) kill() {
	d.cmd.Process.Kill()
	<-d.ended
}

// failure says why the daemon did not do what was expected, with the end of its log.
func (d *daemon) failure(what string) error {
	text, err := os.ReadFile(d.log)
	if err != nil {
		return errors.Join(errors.New(what), err)
	}
	return fmt.Errorf("%s; %s ends with:\n%s", what, filepath.Base(d.log), text[max(0, len(text)-2000):])
}

package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// A stock is a private Postfix instance: its proxymap service is postraft's front end, its proxymap-local the stock
// proxymap(8).
type stock struct {
	lab    *lab
	master int // process
}

// missingPostfix says why there can be no stock, empty where there can.
func missingPostfix() string {
	if os.Getuid() != 0 {
		return "a private Postfix instance needs root"
	}
	return missingPostmap()
}

// missingPostmap says why there can be no lmdb databases, empty where there can.
func missingPostmap() string {
	out, err := exec.Command("postconf", "-m").Output()
	if err != nil || !strings.Contains("\n"+string(out), "\nlmdb\n") {
		return "Postfix with lmdb is not installed"
	}
	return ""
}

const stockMaster = `
proxymap unix - - n - 1 postraft-proxymap --run-dir %[1]s
proxymap-local unix - - n - %[2]s proxymap -n proxymap
postlog unix-dgram n - n - 1 postlogd
`

// postfix starts an instance whose front end speaks to an agent. tables are those that may be asked for.
func (l *lab) postfix(runDir string, tables ...string) (*stock, error) {
	dir := l.path("pf")
	for _, sub := range []string{"", "etc", "q", "d", "sbin"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o755); err != nil {
			return nil, err
		}
	}
	out, err := l.run("postconf", "-dh", "daemon_directory")
	if err != nil {
		return nil, err
	}
	if err := os.CopyFS(filepath.Join(dir, "sbin"), os.DirFS(strings.TrimSpace(out))); err != nil {
		return nil, err
	}
	program, err := os.ReadFile(filepath.Join(l.bin, "postraft-proxymap"))
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, "sbin/postraft-proxymap"), program, 0o755); err != nil {
		return nil, err
	}
	if _, err := l.run("chown", "postfix", filepath.Join(dir, "d")); err != nil {
		return nil, err
	}
	main := fmt.Sprintf(`compatibility_level = 3.6
queue_directory = %[1]s/q
data_directory = %[1]s/d
daemon_directory = %[1]s/sbin
maillog_file = %[1]s/log
maillog_file_prefixes = %[1]s
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = mx.bench.test
alias_maps =
proxy_read_maps = %[2]s
%[3]s`, dir, strings.Join(tables, " "), roomyLMDB)
	if err := os.WriteFile(filepath.Join(dir, "etc/main.cf"), []byte(main), 0o644); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, "etc/master.cf"), fmt.Appendf(nil, stockMaster, runDir, "-"), 0o644); err != nil {
		return nil, err
	}
	if _, err := l.run("postfix", "-c", filepath.Join(dir, "etc"), "start"); err != nil {
		return nil, err
	}
	l.atEnd(func() { exec.Command("postfix", "-c", filepath.Join(dir, "etc"), "stop").Run() })
	s := &stock{lab: l}
	return s, l.until(10*time.Second, "Postfix", func() error {
		for _, service := range []string{"proxymap", "proxymap-local"} {
			conn, err := net.Dial("unix", s.socket(service))
			if err != nil {
				return err
			}
			conn.Close()
		}
		pid, err := os.ReadFile(filepath.Join(dir, "q/pid/master.pid"))
		if err != nil {
			return err
		}
		if s.master, err = strconv.Atoi(strings.TrimSpace(string(pid))); err != nil {
			return errors.New("master has not written its process id")
		}
		return nil
	})
}

func (s *stock) socket(service string) string { return s.lab.path("pf/q/private", service) }

// roomyLMDB gives databases room from the start. With the default of 16 MB, postmap begins a large one again each time
// it is full.
const roomyLMDB = "lmdb_map_size = 8589934592\n"

// postmap makes a database of a source, for the instance that postfix has started.
func (l *lab) postmap(source string) error {
	_, err := l.run("postmap", "-c", l.path("pf/etc"), "lmdb:"+source)
	return err
}

// mapConfig makes a configuration for a postmap that needs no instance, and returns its directory.
func (l *lab) mapConfig() (string, error) {
	dir := l.path("pm")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return "", err
	}
	return dir, os.WriteFile(filepath.Join(dir, "main.cf"), []byte("compatibility_level = 3.6\n"+roomyLMDB), 0o644)
}

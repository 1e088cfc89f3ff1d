package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"postraft/cluster"
)

// nonvotersProcess runs nonvoters in one process: as many as each line of standard input says, until its end. It answers
// a line with the same number when so many are ready. Its arguments are a directory for their data, the file with the
// cluster's secret, and a gossip address to join.
func nonvotersProcess(ctx context.Context, args []string) error {
	if len(args) != 3 {
		return errors.New("usage: nonvoters DIR SECRET-FILE ADDRESS")
	}
	var nodes []*cluster.Node
	defer func() {
		for _, n := range nodes {
			n.Kill()
		}
	}()
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		want, err := strconv.Atoi(lines.Text())
		if err != nil {
			return err
		}
		had := len(nodes)
		for i := had; i < want; i++ {
			name := fmt.Sprintf("r%d", i+1)
			n, err := cluster.Open(ctx, cluster.Config{
				Name: name, DataDir: filepath.Join(args[0], name), SecretFile: args[1], Join: args[2:], Version: "bench",
				Nonvoter: true, Bind: "127.0.0.1:0", Gossip: "127.0.0.1:0",
			})
			if err != nil {
				return err
			}
			nodes = append(nodes, n)
		}
		for _, n := range nodes[had:] {
			ready, cancel := context.WithTimeout(ctx, 2*time.Minute)
			err := n.WaitReady(ready)
			cancel()
			if err != nil {
				return err
			}
		}
		fmt.Println(want)
	}
	return nil
}

// nonvoters are a nonvotersProcess, seen from outside.
type nonvoters struct {
	in  io.Writer
	out *bufio.Reader
	log string
}

// nonvoters starts the process, with no nonvoter yet. It ends with the lab.
func (l *lab) nonvoters(secret, join string) (*nonvoters, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	dir, err := l.memoryDir()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self, "nonvoters", dir, secret, join)
	n := &nonvoters{log: l.path("nonvoters.log")}
	log, err := os.Create(n.log)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd.Stderr = log
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	l.atEnd(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	n.in, n.out = in, bufio.NewReader(out)
	return n, nil
}

// grow waits until there are so many.
func (n *nonvoters) grow(to int) error {
	if _, err := fmt.Fprintln(n.in, to); err != nil {
		return err
	}
	line, err := n.out.ReadString('\n')
	if err != nil || strings.TrimSpace(line) != strconv.Itoa(to) {
		text, _ := os.ReadFile(n.log)
		return fmt.Errorf("%d nonvoters: the answer is %q, %w; %s", to, line, err, text)
	}
	return nil
}

// memoryDir returns a directory in memory, or an ordinary one where there is none.
func (l *lab) memoryDir() (string, error) {
	const memory = "/dev/shm"
	var files unix.Statfs_t
	if unix.Statfs(memory, &files) != nil || files.Type != unix.TMPFS_MAGIC {
		return l.path("memory"), os.Mkdir(l.path("memory"), 0o700)
	}
	dir, err := os.MkdirTemp(memory, "pb")
	if err != nil {
		return "", err
	}
	l.atEnd(func() { os.RemoveAll(dir) })
	return dir, nil
}

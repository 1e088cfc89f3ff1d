package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// snapshotDue is by how many entries the log must have grown before raft takes a snapshot: more than it wants.
const snapshotDue = 8300

// snapshotWait is how long raft may take to look whether one is due, and some more for the snapshot.
const snapshotWait = 2 * time.Minute

// growLog makes small changes through all agents until a snapshot of raft is due on each. Raft looks for that every
// 30 to 60 seconds.
func (l *lab) growLog(agents []*agent) error {
	s, err := agents[0].status()
	if err != nil {
		return err
	}
	aim := s.LastLogIndex + snapshotDue
	failures := make([]error, len(agents))
	var writers sync.WaitGroup
	for i, a := range agents {
		writers.Go(func() { failures[i] = l.writeUntil(a, i, aim) })
	}
	writers.Wait()
	return errors.Join(failures...)
}

// writeUntil makes one change after the other through one agent, so that each is an entry of its own. The tables
// that are measured stay as they are.
func (l *lab) writeUntil(a *agent, nth int, aim uint64) error {
	conn, err := dialProxymap(a.socket("proxywrite"))
	if err != nil {
		return err
	}
	c := newUpdate(conn, "raft:small", 100, nth*10_000_000)
	defer c.close()
	r := random(nth)
	for l.ctx.Err() == nil {
		for range 100 {
			if err := c.call(r); err != nil {
				return err
			}
		}
		s, err := a.status()
		if err != nil || s.LastLogIndex >= aim {
			return err
		}
	}
	return l.ctx.Err()
}

// snapshotNames returns the snapshots of raft that an agent has on disk, and whether one is being written.
func snapshotNames(a *agent) (finished string, writing bool, err error) {
	entries, err := os.ReadDir(filepath.Join(a.data, "snapshots"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", false, err
	}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".tmp") {
			writing = true
		} else {
			finished += e.Name() + " "
		}
	}
	return finished, writing, nil
}

// awaitSnapshots waits until each agent has another newest snapshot than it had when it is called.
func (l *lab) awaitSnapshots(agents []*agent) error {
	had := make([]string, len(agents))
	var err error
	for i, a := range agents {
		if had[i], _, err = snapshotNames(a); err != nil {
			return err
		}
	}
	return l.until(snapshotWait, "snapshots of raft", func() error {
		for i, a := range agents {
			has, writing, err := snapshotNames(a)
			if err != nil {
				return err
			}
			if writing || has == had[i] {
				return fmt.Errorf("%s has taken none", a.name)
			}
		}
		return nil
	})
}

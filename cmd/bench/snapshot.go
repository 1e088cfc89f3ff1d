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

// A due is agents whose logs have grown so much that raft will take a snapshot, and the snapshots that they had before.
type due struct {
	lab    *lab
	agents []*agent
	had    []string
}

// growLog makes small changes through all agents until a snapshot of raft is due on each. Raft looks for that every
// 30 to 60 seconds, so it may come at once.
func (l *lab) growLog(agents []*agent) (*due, error) {
	d := &due{lab: l, agents: agents}
	for _, a := range agents {
		had, _, err := snapshotNames(a)
		if err != nil {
			return nil, err
		}
		d.had = append(d.had, had)
	}
	s, err := agents[0].status()
	if err != nil {
		return nil, err
	}
	aim := s.LastLogIndex + snapshotDue
	failures := make([]error, len(agents))
	var writers sync.WaitGroup
	for i, a := range agents {
		writers.Go(func() { failures[i] = l.writeUntil(a, i, aim) })
	}
	writers.Wait()
	return d, errors.Join(failures...)
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

// taken reports whether each agent has the snapshot that was due, whole.
func (d *due) taken() error {
	for i, a := range d.agents {
		has, writing, err := snapshotNames(a)
		if err != nil {
			return err
		}
		if writing || has == d.had[i] {
			return fmt.Errorf("%s has taken none", a.name)
		}
	}
	return nil
}

// await waits until all are taken.
func (d *due) await() error { return d.lab.until(snapshotWait, "snapshots of raft", d.taken) }

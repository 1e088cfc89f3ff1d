package chaos

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"postraft/ops"
)

const memberBound = 40 * time.Second // for the cluster to do what an operator asks of it

func memberFaults() []fault {
	return []fault{
		{"remove", alone, 3, func(r *rand.Rand) act {
			v, by := drawVictim(r), 1+r.IntN(nodeCount-1)
			return act{fmt.Sprintf("%s, and it comes back with an empty disk", v), func(ctx context.Context, l *load) error {
				n := v.find(ctx, l.s)
				if err := n.kill(); err != nil {
					return err
				}
				api := l.s.nodes[(n.number+by)%nodeCount].admin(adminTime)
				if err := until(ctx, memberBound, func() error { return api.Remove(ctx, n.name) }); err != nil {
					l.s.record.violate("I13", "", "", "%s is not removed: %v", n.name, err)
					return nil
				}
				l.s.record.step("  %s is removed", n.name)
				return l.reborn(n)
			}}
		}},
		{"new-disk", alone, 3, func(r *rand.Rand) act {
			v, away := drawVictim(r), between(r, 0, 4*time.Second)
			return act{fmt.Sprintf("%s, away %v", v, away), func(ctx context.Context, l *load) error {
				n := v.find(ctx, l.s)
				if err := n.kill(); err != nil {
					return err
				}
				every(ctx, away)
				return l.reborn(n)
			}}
		}},
		{"leave", alone, 3, func(r *rand.Rand) act {
			v := drawVictim(r)
			return act{fmt.Sprintf("%s, and it comes back with an empty disk", v), func(ctx context.Context, l *load) error {
				n := v.find(ctx, l.s)
				n.mu.Lock()
				n.expects = true
				n.mu.Unlock()
				err := until(ctx, memberBound, func() error {
					err := n.admin(adminTime).Leave(ctx)
					var e *ops.Error
					if errors.As(err, &e) && (e.Kind == ops.NoAgent || e.Kind == ops.UnknownOutcome) {
						return nil // it may be gone before it can answer
					}
					return err
				})
				if err != nil {
					l.s.record.violate("I13", "", "", "%s cannot leave: %v", n.name, err)
					return nil
				}
				if err := n.ended(stopPatience); err != nil {
					l.s.record.violate("I13", "", "", "%s has left and does not end: %v", n.name, err)
					return nil
				}
				l.s.record.step("  %s has left", n.name)
				return l.reborn(n)
			}}
		}},
		{"snapshot", alone, 3, func(r *rand.Rand) act {
			number := r.IntN(nodeCount)
			return act{fmt.Sprintf("of n%d, restored elsewhere", number+1), func(ctx context.Context, l *load) error {
				return l.snapshot(ctx, l.s.nodes[number])
			}}
		}},
		{"restore", alone, 3, func(r *rand.Rand) act {
			number, by := r.IntN(nodeCount), r.IntN(nodeCount)
			return act{fmt.Sprintf("a table from a snapshot of n%d, through n%d", number+1, by+1), func(ctx context.Context, l *load) error {
				return l.restoreTable(ctx, l.s.nodes[number], l.s.nodes[by])
			}}
		}},
	}
}

// reborn starts a node that has ended with an empty disk.
func (l *load) reborn(n *node) error {
	if err := n.wipe(); err != nil {
		return err
	}
	l.s.record.step("  start %s with an empty disk", n.name)
	return n.start()
}

// save takes a snapshot through a node, with the command that an operator uses.
func (l *load) save(ctx context.Context, n *node) (file string, info snapshotInfo, err error) {
	file = filepath.Join(l.s.dir, "snapshot")
	out, err := exec.CommandContext(ctx, l.s.binary, "snapshot", "save", file, "--json", "--run-dir", n.runDir()).CombinedOutput()
	if err != nil {
		return file, info, fmt.Errorf("snapshot save at %s: %w: %s", n.name, err, out)
	}
	out, err = exec.CommandContext(ctx, l.s.binary, "snapshot", "inspect", file, "--json").Output()
	if err == nil {
		err = json.Unmarshal(out, &info)
	}
	if err != nil {
		l.s.record.violate("I9", "", "", "a snapshot that %s saved is not sound: %v", n.name, err)
	}
	return file, info, nil
}

type snapshotInfo struct {
	Index  uint64          `json:"index"`
	Tables []ops.TableInfo `json:"tables"`
}

// snapshot checks I9: a snapshot's tables are what nodes had at those versions, and an agent that starts from
// it has them.
func (l *load) snapshot(ctx context.Context, n *node) error {
	file, info, err := l.save(ctx, n)
	if err != nil {
		return err
	}
	l.digests.note(l.s.record, "a snapshot of "+n.name, info.Tables)
	scratch, err := l.s.scratch(ctx)
	if err != nil {
		return err
	}
	defer scratch.close()
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	api := scratch.admin(20 * time.Second)
	if _, err := api.RestoreSnapshot(ctx, f, nil); err != nil {
		if ctx.Err() == nil {
			l.s.record.violate("I9", "", "", "a snapshot of %s cannot be restored: %v", n.name, err)
		}
		return nil
	}
	tables, err := api.Tables(ctx)
	if err != nil {
		return err
	}
	digests := map[string]string{}
	for _, t := range tables {
		digests[t.Name] = t.Digest
	}
	for _, t := range info.Tables {
		if digests[t.Name] != t.Digest {
			l.s.record.violate("I9", t.Name, "", "table %s has digest %s in a snapshot of %s at index %d, and %s where it was restored", t.Name, t.Digest, n.name, info.Index, digests[t.Name])
		}
	}
	l.s.record.checks.Add(int64(len(info.Tables)))
	return nil
}

// scratch starts an agent that is a cluster of its own.
func (s *site) scratch(ctx context.Context) (*node, error) {
	k, err := newKeeper(false)
	if err != nil {
		return nil, err
	}
	n := &node{name: "scratch", binary: s.binary, keeper: k, dir: filepath.Join(s.dir, "scratch")}
	if err := errors.Join(os.RemoveAll(n.dir), os.MkdirAll(n.dir, 0o700)); err != nil {
		return nil, err
	}
	if n.log, err = os.OpenFile(filepath.Join(s.logs, n.name+".log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600); err != nil {
		return nil, err
	}
	n.clock.path = filepath.Join(n.dir, "clock")
	ports, err := freePorts(2)
	if err != nil {
		return nil, err
	}
	n.args = []string{"agent", "--config", os.DevNull, "--name", n.name, "--data-dir", n.dataDir(), "--run-dir", n.runDir(), "--http", "",
		"--bind", ports[0], "--gossip", ports[1], "--bootstrap-expect", "1", "--secret-file", filepath.Join(s.dir, "secret"), "--approve-all-raft"}
	if err := errors.Join(n.clock.set(0), n.start()); err != nil {
		return nil, err
	}
	return n, until(ctx, 20*time.Second, func() error {
		st, err := n.status(ctx)
		if err == nil && (!st.Ready || st.State != "leader") {
			err = fmt.Errorf("scratch agent: %s %s", st.State, st.NotReady)
		}
		return err
	})
}

// freePorts returns addresses on loopback on which nobody listens.
func freePorts(n int) (addresses []string, err error) {
	for range n {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer ln.Close()
		addresses = append(addresses, ln.Addr().String())
	}
	return addresses, nil
}

// restoreTable brings one table back from a snapshot and checks that it is as it was, on all nodes.
func (l *load) restoreTable(ctx context.Context, saver, restorer *node) error {
	api := restorer.admin(20 * time.Second)
	fill := func(word string) error {
		return importEntries(ctx, api, photoTable, func(emit func(key, value string)) {
			for i := range 50 {
				emit(fmt.Sprintf("photo-%02d", i), word)
			}
		})
	}
	if err := fill("to be kept"); err != nil {
		return err
	}
	if err := until(ctx, adminTime, func() error { // the other node shows it a little later
		v, err := saver.admin(adminTime).Get(ctx, photoTable, []byte("photo-00"), true)
		if err == nil && string(v.Value) != "to be kept" {
			err = fmt.Errorf("%s has %q", saver.name, v.Value)
		}
		return err
	}); err != nil {
		return err
	}
	file, _, err := l.save(ctx, saver)
	if err == nil {
		err = fill("to be forgotten")
	}
	if err != nil {
		return err
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if _, err := api.RestoreSnapshot(ctx, bytes.NewReader(data), []string{photoTable}); err != nil {
		return fmt.Errorf("restore table %s: %w", photoTable, err)
	}
	for _, n := range l.s.nodes {
		v, err := n.admin(adminTime).Get(ctx, photoTable, []byte("photo-49"), true)
		if err != nil {
			return err
		}
		l.s.record.checks.Add(1)
		if string(v.Value) != "to be kept" {
			l.s.record.violate("I9", photoTable, "photo-49", "table %s was restored, and %s has %q there", photoTable, n.name, v.Value)
		}
	}
	return nil
}

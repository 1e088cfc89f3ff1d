package cluster

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/hashicorp/raft"

	"postraft/cluster/store"
	"postraft/fsm"
)

// ErrNoState says that a data directory holds nothing that could be recovered.
var ErrNoState = errors.New("no state of a cluster")

// A Recovery is the data directory of a stopped agent, open to be made a cluster of its own.
type Recovery struct {
	ID           string // raft server id
	Servers      []string
	SnapshotLast uint64 // index of the newest snapshot, 0 if there is none
	Last         uint64 // index of the last entry
	Applied      uint64 // what the node is known to have applied; entries behind it may or may not be committed

	dir    string
	stores *store.Stores
	self   raft.Server
	logger *slog.Logger
}

// OpenRecovery opens the data directory of the stopped node name. Close closes it again.
func OpenRecovery(dir, name string, logger *slog.Logger) (r *Recovery, err error) {
	b, err := os.ReadFile(filepath.Join(dir, "id"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", dir, ErrNoState)
	}
	if err != nil {
		return nil, fmt.Errorf("read node id: %w", err)
	}
	r = &Recovery{ID: strings.TrimSpace(string(b)), dir: dir, logger: logger}
	if nameOf(r.ID) != name {
		return nil, fmt.Errorf("%w: %s belongs to the node %s, not to %s", ErrRefused, dir, nameOf(r.ID), name)
	}
	kind := store.Bolt
	if _, err := os.Stat(filepath.Join(dir, "wal")); err == nil {
		kind = store.WAL
	}
	if r.stores, err = store.Open(dir, store.Options{Kind: kind}, raftLogger(logger), logger); err != nil {
		return nil, err
	}
	if err := r.look(); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

// look finds out what the directory holds.
func (r *Recovery) look() error {
	empty, err := r.stores.IsEmpty()
	if err != nil {
		return fmt.Errorf("read %s: %w", r.dir, err)
	}
	if empty {
		return fmt.Errorf("%s: %w", r.dir, ErrNoState)
	}
	config, err := raft.GetConfiguration(r.config(), fsm.New(fsm.Options{}), r.stores.Log, r.stores.Stable, r.stores.Snapshots, r.transport())
	if err != nil {
		return fmt.Errorf("read the configuration in %s: %w", r.dir, err)
	}
	for _, s := range config.Servers {
		r.Servers = append(r.Servers, nameOf(string(s.ID)))
		if string(s.ID) == r.ID {
			r.self = s
		}
	}
	if r.self.ID == "" {
		return fmt.Errorf("%w: %s was no server of its cluster", ErrRefused, r.ID)
	}
	snapshots, err := r.stores.Snapshots.List()
	if err != nil {
		return fmt.Errorf("list snapshots: %w", err)
	}
	if len(snapshots) > 0 {
		r.SnapshotLast = snapshots[0].Index
	}
	last, err := r.stores.Log.LastIndex()
	if err != nil {
		return fmt.Errorf("read log: %w", err)
	}
	r.Last, r.Applied = max(last, r.SnapshotLast), r.stores.Watermark.Index()
	return nil
}

func (r *Recovery) config() *raft.Config {
	c := raft.DefaultConfig()
	c.LocalID = raft.ServerID(r.ID)
	c.Logger = raftLogger(r.logger)
	c.NoLegacyTelemetry = true
	return c
}

func (r *Recovery) transport() raft.Transport {
	_, t := raft.NewInmemTransport(r.self.Address)
	return t
}

// Run makes the node the only voter of a cluster that keeps every entry it has, committed or not, and returns
// its tables. The other nodes of the old cluster must not run with their old data directories any more.
func (r *Recovery) Run() ([]fsm.TableInfo, error) {
	machine := fsm.New(fsm.Options{})
	r.self.Suffrage = raft.Voter
	only := raft.Configuration{Servers: []raft.Server{r.self}}
	if err := raft.RecoverCluster(r.config(), machine, r.stores.Log, r.stores.Stable, r.stores.Snapshots, r.transport(), only); err != nil {
		return nil, fmt.Errorf("recover %s: %w", r.dir, errors.Join(err, machine.Err()))
	}
	if err := machine.Err(); err != nil {
		return nil, fmt.Errorf("recover %s: %w", r.dir, err)
	}
	if err := r.stores.Watermark.Raise(machine.State().Index); err != nil {
		return nil, err
	}
	for _, file := range []string{"peers", leftMark} {
		if err := os.Remove(filepath.Join(r.dir, file)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("forget the other members: %w", err)
		}
	}
	if err := store.WriteFile(filepath.Join(r.dir, "ready"), []byte("1\n")); err != nil {
		return nil, fmt.Errorf("mark the node as ready: %w", err)
	}
	if err := r.giveBack(); err != nil {
		return nil, fmt.Errorf("give the files in %s to their owner: %w", r.dir, err)
	}
	return machine.State().Tables(), nil
}

// giveBack makes what root has written belong to the owner of the data directory, who runs the agent.
func (r *Recovery) giveBack() error {
	if os.Geteuid() != 0 {
		return nil
	}
	info, err := os.Stat(r.dir)
	if err != nil {
		return err
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return nil
	}
	return filepath.WalkDir(r.dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, int(owner.Uid), int(owner.Gid))
	})
}

// Close closes the data directory.
func (r *Recovery) Close() error { return r.stores.Close() }

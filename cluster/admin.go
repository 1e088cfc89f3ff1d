package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"postraft/dict"
	"postraft/fsm"
)

// ErrExists says that the table is there already.
var ErrExists = errors.New("table exists")

// CreateTable makes an empty table. One that is there already is an ErrExists.
func (n *Node) CreateTable(ctx context.Context, name, typ string, settings dict.Settings) error {
	return n.create(ctx, &fsm.Create{Name: name, Type: typ, MustNotExist: true, Settings: settings}, fsm.WayCommand)
}

func (n *Node) create(ctx context.Context, c *fsm.Create, way fsm.Way) error {
	if err := errors.Join(dict.CheckTableName(c.Name), dict.CheckTableType(c.Type)); err != nil {
		return err
	}
	if err := c.Settings.Check(c.Type); err != nil {
		return err
	}
	r, err := n.apply(ctx, &fsm.Command{Origin: fsm.Origin{Way: way}, Create: c})
	if err != nil {
		return fmt.Errorf("create table %s: %w", c.Name, err)
	}
	return n.statusError(c.Name, r)
}

// DropTable removes a table.
func (n *Node) DropTable(ctx context.Context, name string) error {
	r, err := n.apply(ctx, &fsm.Command{Origin: fsm.Origin{Way: fsm.WayCommand}, Drop: &fsm.Drop{Name: name}})
	if err != nil {
		return fmt.Errorf("drop table %s: %w", name, err)
	}
	return n.statusError(name, r)
}

// State returns the node's tables as they are now, for commands that read more than one entry. It fails
// where a lookup would.
func (n *Node) State() (*fsm.State, error) {
	if err := n.gate(); err != nil {
		return nil, err
	}
	s := n.fsm.State()
	if s.InDoubt() {
		return nil, fmt.Errorf("the end of this node's log awaits a leader: %w", dict.ErrRetry)
	}
	return s, nil
}

// SaveSnapshot writes the tables as they are on this node, once it knows every write that was answered
// before the call.
func (n *Node) SaveSnapshot(ctx context.Context, w io.Writer) error {
	if err := n.ReadIndex(ctx); err != nil {
		return fmt.Errorf("save snapshot: %w", err)
	}
	return fsm.WriteSnapshot(w, n.fsm.State(), fsm.SnapshotHeader{
		Created: time.Now().UTC().Format(time.RFC3339), Node: n.cfg.Name, Program: n.cfg.Version,
	})
}

// RestoreSnapshot reads a snapshot to its end, verifies all of it, and then puts its tables in place on all
// nodes in one step. With names it restores these tables and leaves the others; without, the cluster has
// the tables of the snapshot and no others afterwards. A table that has no settings in the snapshot keeps its own. It
// returns the names of the restored tables.
func (n *Node) RestoreSnapshot(ctx context.Context, r io.Reader, names []string) ([]string, error) {
	s, err := fsm.ReadSnapshot(&yieldingReader{ReadCloser: io.NopCloser(r)})
	if err != nil {
		return nil, fmt.Errorf("restore snapshot: %w", err)
	}
	only := len(names) == 0
	if only {
		for _, info := range s.State.Tables() {
			names = append(names, info.Name)
		}
	}
	names = slices.Compact(slices.Sorted(slices.Values(names)))
	var loads []load
	for _, name := range names {
		t, ok := s.Table(name)
		if !ok {
			return nil, fmt.Errorf("restore snapshot: it holds no table %s: %w", name, dict.ErrBadSource)
		}
		loads = append(loads, load{name, t.Type, t.Table, t.Settings})
	}
	if _, err := n.stage(ctx, loads, fsm.WayRestore, fsm.StageCommit{Only: only}); err != nil {
		return nil, fmt.Errorf("restore snapshot: %w", err)
	}
	return names, nil
}

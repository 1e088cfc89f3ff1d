package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"
	"time"

	"postraft/dict"
	"postraft/dict/pattern"
	"postraft/fsm"
	"postraft/fsm/packed"
)

// ErrExists says that the table is there already.
var ErrExists = errors.New("table exists")

var (
	errConflict = errors.New("table has changed meanwhile")
	errLarge    = errors.New("difference does not fit into one entry")
)

const (
	deltaBytes    = 128 << 10 // a change up to this size is one conditional log entry
	deltaOps      = 2000
	deltaShare    = 2 // a larger one travels alone while the whole table is more than so many times as large
	deltaAttempts = 4
)

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

// ImportOptions say what an import does.
type ImportOptions struct {
	Type   string // of a table that is not there yet; empty is dict.TypeHash
	Merge  bool   // add and replace only
	DryRun bool   // count and change nothing

	// MaxChange is how much of the table that is there may be changed or removed, in percent of its entries; more
	// is an ErrTooMuch. 0 is without a limit.
	MaxChange float64

	// Digest is that of the entries, where it is known before they are: a table that has it already is left alone
	// without reading them.
	Digest *packed.Digest

	Way fsm.Way // for the history; none is fsm.WayImport

	settings dict.Settings // of a table that is not there yet
}

// An ImportResult counts entries.
type ImportResult struct {
	Added, Changed, Removed, Unchanged int
	Version                            uint64 // of the table afterwards
	Was                                uint64 // and before, 0 where there was none
}

// Import makes a table equal to entries, which ascend strictly by key, or with Merge adds them to it. Every
// reader on every node sees the table before or the table after. The table is created if need be; where
// nothing differs nothing is written. It holds a packed copy of the entries while it works, unless the table is new or
// empty. Entries that break off must end ctx before they stop.
//
// Of a table that is new or empty everything is staged while entries come. Else a small difference travels as one
// conditional entry. A large one is staged: it goes out in chunks, invisible, and one more entry puts it in place; or the
// whole table does, where that is not much more, where the table has rules, or where others keep writing to it. A leader
// that is lost meanwhile holds it up, and what was sent stays sent.
func (n *Node) Import(ctx context.Context, name string, opts ImportOptions, entries iter.Seq2[[]byte, []byte]) (ImportResult, error) {
	if opts.Type == "" {
		opts.Type = dict.TypeHash
	}
	if opts.Way == fsm.WayUnknown {
		opts.Way = fsm.WayImport
	}
	if err := errors.Join(dict.CheckTableName(name), dict.CheckTableType(opts.Type)); err != nil {
		return ImportResult{}, err
	}
	if opts.Merge && dict.IsPattern(opts.Type) {
		return ImportResult{}, fmt.Errorf("import into table %s: %w: rules are kept in the order of their text, which cannot be merged", name, dict.ErrBadSource)
	}
	if err := n.ReadIndex(ctx); err != nil {
		return ImportResult{}, fmt.Errorf("import into table %s: %w", name, err)
	}
	if t, ok := n.fsm.State().Table(name); ok && opts.Digest != nil && t.Type == opts.Type && t.Digest() == *opts.Digest {
		return ImportResult{Unchanged: t.Len(), Version: t.Version, Was: t.Version}, nil
	}
	next, result, err := n.importNew(ctx, name, opts, entries)
	if err != nil {
		return ImportResult{}, fmt.Errorf("import into table %s: %w", name, err)
	}
	if next == nil {
		return result, nil
	}
	if dict.IsPattern(opts.Type) {
		if err := pattern.CheckEntries(opts.Type, next.All()); err != nil {
			return ImportResult{}, fmt.Errorf("import into table %s: %w", name, err)
		}
	}
	for range deltaAttempts {
		if result, err = n.importDelta(ctx, name, opts, next); !errors.Is(err, errConflict) {
			break
		}
	}
	if errors.Is(err, errConflict) || errors.Is(err, errLarge) { // others keep writing to the table, or it is much
		loads := []load{{name: name, typ: opts.Type, table: next}}
		if _, ok := n.fsm.State().Table(name); !ok {
			loads[0].settings = opts.settings
		}
		next = nil // stage lets go of it as it sends it
		var r fsm.Result
		r, err = n.stage(ctx, loads, opts.Way, fsm.StageCommit{Merge: opts.Merge})
		result.Version, result.Was = r.Index, r.Was
	}
	if err != nil {
		return ImportResult{}, fmt.Errorf("import into table %s: %w", name, err)
	}
	return result, nil
}

// ErrTooMuch says that an import would change more than it may.
var ErrTooMuch = errors.New("too large a change")

// check returns an ErrTooMuch where result is more than the options allow.
func (o ImportOptions) check(result ImportResult, entries int) error {
	touched := result.Changed + result.Removed
	if o.MaxChange <= 0 || float64(touched) <= o.MaxChange/100*float64(entries) {
		return nil
	}
	return fmt.Errorf("%w: %d of %d entries would be changed and %d removed, and %g %% may be", ErrTooMuch, result.Changed, entries, result.Removed, o.MaxChange)
}

// importDelta imports a difference that is sent by itself, on condition that the table is what it was compared with.
// The error is errConflict when it is not, errLarge when the whole table is to be sent instead.
func (n *Node) importDelta(ctx context.Context, name string, opts ImportOptions, next *packed.Table) (ImportResult, error) {
	if err := n.ReadIndex(ctx); err != nil {
		return ImportResult{}, err
	}
	table, exists := n.fsm.State().Table(name)
	var old *packed.Table
	if exists {
		if table.Type != opts.Type {
			return ImportResult{}, fmt.Errorf("%w: it is of type %s", ErrExists, table.Type)
		}
		old = table.Table
	}
	result, ops, size := compare(name, opts, old, next)
	if exists {
		result.Version, result.Was = table.Version, table.Version
	}
	switch {
	case opts.check(result, lenOf(old)) != nil:
		return result, opts.check(result, lenOf(old))
	case exists && result.Added > 0 && table.Settings.MaxEntries > 0 && int64(lenOf(old)+result.Added-result.Removed) > table.Settings.MaxEntries:
		return result, tooMany(lenOf(old)+result.Added-result.Removed, table.Settings)
	case opts.DryRun, exists && size == 0:
		return result, nil
	case !exists, dict.IsPattern(opts.Type): // no reader may see a new table empty, nor some of the new rules
		return result, errLarge
	case ops == nil && int64(size) > next.Bytes()/deltaShare:
		return result, errLarge
	case ops == nil:
		return n.importChanges(ctx, name, opts, table, next, result)
	}
	// What goes first: what is added to a table that is full might push out what is to stay.
	slices.SortStableFunc(ops, func(a, b fsm.Op) int { return cmp.Compare(b.Kind, a.Kind) })
	r, err := n.apply(ctx, &fsm.Command{Write: &fsm.Write{Ops: ops, IfTable: name, IfVersion: table.Version}})
	if err != nil {
		return result, err
	}
	result.Version = r.Index
	return result, conflictIfGone(n.statusError(name, r))
}

// conflictIfGone makes a table that was dropped since it was compared one that has changed.
func conflictIfGone(err error) error {
	if errors.Is(err, dict.ErrNoTable) {
		return errConflict
	}
	return err
}

// importChanges stages the difference between a table and next, and nothing else.
func (n *Node) importChanges(ctx context.Context, name string, opts ImportOptions, table *fsm.Table, next *packed.Table, result ImportResult) (ImportResult, error) {
	leader, address, _ := n.leaderWatch()
	address, _, _ = strings.Cut(address, "#") // statusOf names the node itself
	status, err := n.statusOf(ctx, leader, address)
	if err != nil || status.Common < fsm.DeltaLevel { // not known, or not to a server of the cluster
		return result, errLarge
	}
	part := func(removed bool) (*packed.Table, error) {
		return packed.Build(func(yield func(k, v []byte) bool) {
			for c := range fsm.Diff(table.Table, next) {
				if (c.New == nil) == removed && !yield(c.Key, c.New) {
					return
				}
			}
		})
	}
	changed, err := part(false)
	if err != nil {
		return result, err
	}
	loads := []load{{name: name, typ: opts.Type, table: changed}}
	if result.Removed > 0 {
		removed, err := part(true)
		if err != nil {
			return result, err
		}
		loads = append(loads, load{name: name, typ: opts.Type, table: removed})
	}
	r, err := n.stage(ctx, loads, opts.Way, fsm.StageCommit{Delta: &fsm.StageDelta{IfVersion: table.Version}})
	if errors.Is(err, ErrRefused) { // an older server came in meanwhile
		err = errLarge
	}
	result.Version = r.Index
	return result, conflictIfGone(err)
}

// compare counts what an import changes, and in bytes of keys and values. It lists the changes if they fit into one
// entry.
func compare(name string, opts ImportOptions, old, next *packed.Table) (result ImportResult, ops []fsm.Op, size int) {
	if old != nil && old.Digest() == next.Digest() {
		result.Unchanged = next.Len()
		return result, nil, 0
	}
	fits := true
	for c := range fsm.Diff(old, next) {
		op := fsm.Op{Kind: fsm.OpUpdate, Way: opts.Way, Table: name, Key: c.Key, Value: c.New}
		switch {
		case c.New == nil && opts.Merge:
			continue
		case c.New == nil:
			result.Removed++
			op.Kind = fsm.OpDelete
		case c.Old == nil:
			result.Added++
		default:
			result.Changed++
		}
		if size += len(op.Key) + len(op.Value) + len(name); size > deltaBytes || len(ops) >= deltaOps {
			fits, ops = false, nil
		}
		if fits {
			ops = append(ops, op)
		}
	}
	result.Unchanged = next.Len() - result.Added - result.Changed
	return result, ops, size
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
	s, err := fsm.ReadSnapshot(r)
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

func lenOf(t *packed.Table) int {
	if t == nil {
		return 0
	}
	return t.Len()
}

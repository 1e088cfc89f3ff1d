package cluster

import (
	"context"
	"errors"
	"strings"

	"postraft/fsm"
	"postraft/fsm/packed"
)

const (
	deltaBytes = 128 << 10 // a change up to this size is one conditional log entry
	deltaOps   = 2000
	deltaShare = 2 // a larger one travels alone while the whole table is more than so many times as large
)

// A difference is what an import does to a table: keys in ascending order, packed as they come.
type difference struct {
	name    string
	count   int
	size    int // keys, values, and the name of the table with each
	changed part
	removed part
	dropped bool
}

// newDifference returns an empty difference to the table of that name.
func newDifference(name string) *difference {
	return &difference{name: name, changed: newPart(), removed: newPart()}
}

// add adds a key, and its new value unless it was removed.
func (d *difference) add(key, value []byte, removed bool) error {
	d.count++
	d.size += len(key) + len(value) + len(d.name)
	switch {
	case d.dropped:
		return nil
	case removed:
		return d.removed.builder.Add(key, nil)
	}
	return d.changed.builder.Add(key, value)
}

// small reports whether it is one entry of the log.
func (d *difference) small() bool { return d.size <= deltaBytes && d.count <= deltaOps }

// large reports whether it is better to send the whole table, of so many bytes of keys and values.
func (d *difference) large(whole int64) bool { return !d.small() && int64(d.size) > whole/deltaShare }

// drop forgets all but the sums, which still grow.
func (d *difference) drop() { d.changed, d.removed, d.dropped = part{}, part{}, true }

// tables ends the difference and returns its parts. It fails where the difference was dropped.
func (d *difference) tables() (changed, removed *packed.Table, err error) {
	if d.dropped {
		return nil, nil, errors.New("the difference was dropped")
	}
	if changed, err = d.changed.table(); err == nil {
		removed, err = d.removed.table()
	}
	return changed, removed, err
}

type part struct {
	blocks  *packed.Assembler
	builder *packed.Builder
}

func newPart() part {
	blocks := &packed.Assembler{}
	return part{blocks, packed.NewBuilder(blocks.Append)}
}

func (p part) table() (*packed.Table, error) {
	if err := p.builder.Flush(); err != nil {
		return nil, err
	}
	return p.blocks.Table(), nil
}

// importDifference sends a difference, on condition that the table is still what it was made from. The error is
// errConflict when it is not, errWhole when the whole table is to be sent instead.
func (n *Node) importDifference(ctx context.Context, name string, opts ImportOptions, table *fsm.Table, d *difference, result ImportResult) (ImportResult, error) {
	changed, removed, err := d.tables()
	if err != nil {
		return result, badSource(err)
	}
	if !d.small() {
		return n.importStaged(ctx, name, opts, table, changed, removed, result)
	}
	r, err := n.apply(ctx, &fsm.Command{Write: &fsm.Write{Ops: opsOf(name, opts.Way, changed, removed), IfTable: name, IfVersion: table.Version}})
	if err != nil {
		return result, err
	}
	result.Version = r.Index
	return result, conflictIfGone(n.statusError(name, r))
}

// importStaged stages a difference.
func (n *Node) importStaged(ctx context.Context, name string, opts ImportOptions, table *fsm.Table, changed, removed *packed.Table, result ImportResult) (ImportResult, error) {
	leader, address, _ := n.leaderWatch()
	address, _, _ = strings.Cut(address, "#") // statusOf names the node itself
	status, err := n.statusOf(ctx, leader, address)
	if err != nil || status.Common < fsm.DeltaLevel { // not known, or not to a server of the cluster
		return result, errWhole
	}
	loads := []load{{name: name, typ: opts.Type, table: changed}}
	if removed.Len() > 0 {
		loads = append(loads, load{name: name, typ: opts.Type, table: removed})
	}
	r, err := n.stage(ctx, loads, opts.Way, fsm.StageCommit{Delta: &fsm.StageDelta{IfVersion: table.Version}})
	if errors.Is(err, ErrRefused) { // an older server came in meanwhile
		err = errWhole
	}
	result.Version = r.Index
	return result, conflictIfGone(err)
}

// opsOf lists a difference. What goes comes first: what is added to a table that is full might push out what is to stay.
func opsOf(name string, way fsm.Way, changed, removed *packed.Table) []fsm.Op {
	ops := make([]fsm.Op, 0, changed.Len()+removed.Len())
	for key := range removed.All() {
		ops = append(ops, fsm.Op{Kind: fsm.OpDelete, Way: way, Table: name, Key: key})
	}
	for key, value := range changed.All() {
		ops = append(ops, fsm.Op{Kind: fsm.OpUpdate, Way: way, Table: name, Key: key, Value: value})
	}
	return ops
}

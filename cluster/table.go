package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"postraft/dict"
	"postraft/fsm"
)

// A Table is a handle on a raft table by name, whether or not the table is there now. It implements
// dict.Reader and dict.Writer.
type Table struct {
	n    *Node
	name string
	way  fsm.Way
}

var (
	_ dict.Reader     = (*Table)(nil)
	_ dict.FlagReader = (*Table)(nil)
	_ dict.Writer     = (*Table)(nil)
	_ dict.Starter    = (*Table)(nil)
)

// Table returns the handle of a raft table. It never waits.
func (n *Node) Table(name string) *Table { return &Table{n: n, name: name} }

// By returns the handle for changes that are made in this way, which the history will say.
func (t *Table) By(way fsm.Way) *Table { return &Table{t.n, t.name, way} }

// Lookup implements dict.Reader. It takes no lock and, unless it fails, does not allocate.
func (t *Table) Lookup(key []byte) (value []byte, found bool, err error) {
	return t.LookupFlags(key, 0)
}

// LookupFlags implements dict.FlagReader.
func (t *Table) LookupFlags(key []byte, flags dict.Flags) (value []byte, found bool, err error) {
	if err := t.n.gateTable(t.name); err != nil {
		return nil, false, err
	}
	return t.n.fsm.State().LookupFlags(t.name, key, flags)
}

// Next implements dict.Reader.
func (t *Table) Next(after []byte) (key, value []byte, found bool, err error) {
	if err := t.n.gateTable(t.name); err != nil {
		return nil, nil, false, err
	}
	if t.Kind() == dict.Pattern {
		return nil, nil, false, fmt.Errorf("table %s: %w: rules have no keys to go through", t.name, dict.ErrConfig)
	}
	return t.n.fsm.State().Next(t.name, after)
}

// WriteWithin returns how soon an update or delete of this table is to be answered, 0 where it says nothing. What
// waits longer goes on, or does not happen, as ctx of Update and Delete has it.
func (t *Table) WriteWithin() time.Duration {
	if table, ok := t.n.fsm.State().Table(t.name); ok {
		return table.Settings.WriteWithin()
	}
	return 0
}

// Kind implements dict.Reader.
func (t *Table) Kind() dict.Flags {
	if table, ok := t.n.fsm.State().Table(t.name); ok && dict.IsPattern(table.Type) {
		return dict.Pattern
	}
	return dict.Fixed
}

// writable refuses changes of single entries of a table that has rules, before they cost a log entry.
func (t *Table) writable() error {
	if t.Kind() == dict.Pattern {
		return fmt.Errorf("table %s: %w", t.name, dict.ErrReadOnly)
	}
	return nil
}

// Update implements dict.Writer.
func (t *Table) Update(ctx context.Context, key, value []byte) error {
	if err := t.acceptable(key, value); err != nil {
		return err
	}
	_, err := t.op(ctx, fsm.Op{Kind: fsm.OpUpdate, Way: t.way, Table: t.name, Key: key, Value: value})
	return err
}

func (t *Table) acceptable(key, value []byte) error {
	if err := dict.CheckEntry(key, value); err != nil {
		return err
	}
	return t.writable()
}

// A started is an update whose caller is told instead of waiting.
type started struct {
	t *Table
	write
}

// Start implements dict.Starter.
func (t *Table) Start(key, value []byte, limit time.Duration, done func()) (dict.Change, error) {
	if err := t.acceptable(key, value); err != nil {
		return nil, err
	}
	c := &started{t: t}
	c.set(fsm.Op{Kind: fsm.OpUpdate, Way: t.way, Table: t.name, Key: key, Value: value})
	c.deadline, c.told = time.Now().Add(limit), done
	if err := t.n.writer.add(&c.write); err != nil {
		return nil, t.failed(err)
	}
	return c, nil
}

var errGivenUp = errors.New("it was given up before it was over")

// Outcome implements dict.Change.
func (c *started) Outcome() error {
	_, err := c.t.became(c.t.n.writer.outcome(&c.write, errGivenUp))
	return err
}

// Delete implements dict.Writer.
func (t *Table) Delete(ctx context.Context, key []byte) (found bool, err error) {
	if err := t.writable(); err != nil {
		return false, err
	}
	status, err := t.op(ctx, fsm.Op{Kind: fsm.OpDelete, Way: t.way, Table: t.name, Key: key})
	return err == nil && status == fsm.OpDone, err
}

// DeleteIf removes the entry if its value is still the one that the caller has seen. found is false when there is
// none; an entry with another value stays, and found is true. Where a node of the cluster is too old for that, it is
// a Delete.
func (t *Table) DeleteIf(ctx context.Context, key, seen []byte) (found bool, err error) {
	if v, ok, err := t.Lookup(key); err == nil && ok && !bytes.Equal(v, seen) {
		return true, nil
	}
	r, err := t.n.writer.do(ctx, &write{
		command: &fsm.Command{Origin: fsm.Origin{Way: t.way}, DeleteIf: &fsm.DeleteIf{Table: t.name, Key: bytes.Clone(key), Value: bytes.Clone(seen)}},
		size:    len(t.name) + len(key) + len(seen) + opOverhead,
	})
	switch {
	case errors.Is(err, ErrRefused):
		return t.Delete(ctx, key)
	case err != nil:
		return false, t.failed(err)
	case len(r.Ops) != 1:
		return false, t.n.statusError(t.name, r)
	}
	switch r.Ops[0] {
	case fsm.OpNoTable:
		return false, fmt.Errorf("table %s: %w", t.name, dict.ErrNoTable)
	case fsm.OpRefused:
		return false, fmt.Errorf("table %s: %w", t.name, dict.ErrReadOnly)
	}
	return r.Ops[0] != fsm.OpAbsent, nil
}

func (t *Table) op(ctx context.Context, op fsm.Op) (fsm.OpStatus, error) {
	wr := &write{}
	wr.set(op)
	return t.became(t.n.writer.do(ctx, wr))
}

// set makes wr the write of one op.
func (wr *write) set(op fsm.Op) {
	// The batch outlives a caller that gives up, so it must not see the caller's memory.
	buf := append(append(make([]byte, 0, len(op.Key)+len(op.Value)), op.Key...), op.Value...)
	op.Key, op.Value = buf[:len(op.Key):len(op.Key)], buf[len(op.Key):]
	wr.op[0] = op
	wr.ops, wr.size = wr.op[:], len(op.Table)+len(buf)+opOverhead
}

func (t *Table) failed(err error) error { return fmt.Errorf("write to table %s: %w", t.name, err) }

// became returns the status of a write of one op.
func (t *Table) became(r fsm.Result, err error) (fsm.OpStatus, error) {
	if err != nil {
		return 0, t.failed(err)
	}
	if len(r.Ops) != 1 {
		return 0, t.n.statusError(t.name, r)
	}
	switch r.Ops[0] {
	case fsm.OpNoTable:
		return 0, fmt.Errorf("table %s: %w", t.name, dict.ErrNoTable)
	case fsm.OpRefused:
		return 0, fmt.Errorf("table %s: %w", t.name, dict.ErrReadOnly)
	}
	return r.Ops[0], nil
}

// Create makes an empty table of fixed keys unless the table is there.
func (t *Table) Create(ctx context.Context) error {
	return t.n.create(ctx, &fsm.Create{Name: t.name, Type: dict.TypeHash}, t.way)
}

// apply carries a command other than a write through the leader and returns what became of it.
func (n *Node) apply(ctx context.Context, c *fsm.Command) (fsm.Result, error) {
	size := opOverhead
	if c.Chunk != nil {
		for _, b := range c.Chunk.Blocks {
			size += len(b)
		}
	}
	if c.Write != nil {
		for _, op := range c.Write.Ops {
			size += len(op.Key) + len(op.Value) + opOverhead
		}
	}
	return n.writer.do(ctx, &write{command: c, size: size})
}

// statusError makes an error of a result that is not Applied.
func (n *Node) statusError(table string, r fsm.Result) error {
	switch r.Status {
	case fsm.Applied:
		return nil
	case fsm.NoTable:
		return fmt.Errorf("table %s: %w", table, dict.ErrNoTable)
	case fsm.Exists:
		return fmt.Errorf("table %s: %w", table, ErrExists)
	case fsm.Conflict:
		return fmt.Errorf("table %s: %w", table, errConflict)
	case fsm.NoStage:
		return fmt.Errorf("table %s: the load was ended by the cluster: %w", table, dict.ErrRetry)
	case fsm.Stale:
		return fmt.Errorf("table %s: %w", table, dict.ErrUnknownOutcome)
	default:
		return fmt.Errorf("table %s: %w: %s", table, dict.ErrBadSource, r.Text)
	}
}

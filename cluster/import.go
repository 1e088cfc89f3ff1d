package cluster

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"postraft/dict"
	"postraft/dict/pattern"
	"postraft/fsm"
	"postraft/fsm/packed"
)

var (
	errConflict = errors.New("table has changed meanwhile")
	errWhole    = errors.New("the whole table is to be sent")
)

const deltaAttempts = 4 // to send a difference while others write to the table

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
// nothing differs nothing is written. Entries that break off must end ctx before they stop.
//
// Of a table that is new or empty everything is staged while entries come: it goes out in chunks, invisible, and one more
// log entry puts it in place. Of another one what differs is kept while they come, and a small difference travels as one
// conditional log entry, a larger one in chunks. Once that is half of the table, the whole table is staged from there on.
//
// A packed copy of all entries is held where they have to be looked at as a whole, or again: for a merge, for rules, for the
// dry run of a new table, where others write to the table meanwhile, and where a server of the cluster cannot take a
// difference. A leader that is lost meanwhile holds an import up, and what was sent stays sent.
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
	table, _ := n.fsm.State().Table(name) // nil where there is none
	if table != nil && opts.Digest != nil && table.Type == opts.Type && table.Digest() == *opts.Digest {
		return ImportResult{Unchanged: table.Len(), Version: table.Version, Was: table.Version}, nil
	}
	entries = yielding(entries)
	var next *packed.Table
	var result ImportResult
	var err error
	if opts.replaces(table) {
		next, result, err = n.importOver(ctx, name, opts, table, entries)
	} else {
		next, result, err = n.importNew(ctx, name, opts, table, entries)
	}
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
	if errors.Is(err, errConflict) || errors.Is(err, errWhole) { // others keep writing to the table, or it is much
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

// allows returns an error where an import would do more than the options allow, or the settings of the table, which is nil
// where there is none.
func (o ImportOptions) allows(result ImportResult, table *fsm.Table) error {
	if table == nil {
		return nil
	}
	if o.tooMuch(result, table.Len()) {
		return fmt.Errorf("%w: %d of %d entries would be changed and %d removed, and %g %% may be", ErrTooMuch, result.Changed, table.Len(), result.Removed, o.MaxChange)
	}
	if most, after := table.Settings.MaxEntries, table.Len()+result.Added-result.Removed; most > 0 && result.Added > 0 && int64(after) > most {
		return fmt.Errorf("%w: it would have %d entries, and its max-entries is %d", ErrRefused, after, most)
	}
	return nil
}

// tooMuch reports whether of a table with so many entries more is changed than may be.
func (o ImportOptions) tooMuch(result ImportResult, entries int) bool {
	return o.MaxChange > 0 && float64(result.Changed+result.Removed) > o.MaxChange/100*float64(entries)
}

// importDelta imports a difference that is sent by itself, on condition that the table is what it was compared with.
// The error is errConflict when it is not, errWhole when the whole table is to be sent instead.
func (n *Node) importDelta(ctx context.Context, name string, opts ImportOptions, next *packed.Table) (ImportResult, error) {
	if err := n.ReadIndex(ctx); err != nil {
		return ImportResult{}, err
	}
	table, exists := n.fsm.State().Table(name)
	var old *packed.Table // nil is empty
	if exists {
		if table.Type != opts.Type {
			return ImportResult{}, fmt.Errorf("%w: it is of type %s", ErrExists, table.Type)
		}
		old = table.Table
	}
	result, d, err := compare(name, opts, old, next, opts.DryRun || !exists || dict.IsPattern(opts.Type))
	if err == nil {
		err = opts.allows(result, table)
	}
	if err != nil {
		return result, err
	}
	if exists {
		result.Version, result.Was = table.Version, table.Version
	}
	switch {
	case opts.DryRun, exists && d.count == 0:
		return result, nil
	case !exists, dict.IsPattern(opts.Type): // no reader may see a new table empty, nor some of the new rules
		return result, errWhole
	case d.large(next.Bytes()):
		return result, errWhole
	}
	return n.importDifference(ctx, name, opts, table, d, result)
}

// conflictIfGone makes a table that was dropped since it was compared one that has changed.
func conflictIfGone(err error) error {
	if errors.Is(err, dict.ErrNoTable) {
		return errConflict
	}
	return err
}

// compare counts what an import changes, and returns the difference; only its sums where it is large, or where only counts are
// wanted.
func compare(name string, opts ImportOptions, old, next *packed.Table, only bool) (result ImportResult, d *difference, err error) {
	d = newDifference(name)
	if old != nil && old.Digest() == next.Digest() {
		result.Unchanged = next.Len()
		return result, d, nil
	}
	if only {
		d.drop()
	}
	for c := range fsm.Diff(old, next) {
		switch {
		case c.New == nil && opts.Merge:
			continue
		case c.New == nil:
			result.Removed++
		case c.Old == nil:
			result.Added++
		default:
			result.Changed++
		}
		if err := d.add(c.Key, c.New, c.New == nil); err != nil {
			return result, nil, err
		}
		if d.large(next.Bytes()) {
			d.drop()
		}
	}
	result.Unchanged = next.Len() - result.Added - result.Changed
	return result, d, nil
}

// importNew reads entries into a packed table, and returns that. Where it is larger than one chunk, and the table is not
// there (nil) or is empty, so that there is nothing to compare, it imports it instead: chunks are on their way while entries
// come, and next is nil.
func (n *Node) importNew(ctx context.Context, name string, opts ImportOptions, table *fsm.Table, entries iter.Seq2[[]byte, []byte]) (next *packed.Table, result ImportResult, err error) {
	atOnce := !opts.DryRun && !dict.IsPattern(opts.Type) && (table == nil || table.Len() == 0 && table.Type == opts.Type)
	var first packed.Assembler // the blocks of what need not be more than one chunk
	size := 0
	var s *stager
	emit := func(block []byte) error {
		if s != nil {
			return s.add(block)
		}
		if size += len(block); !atOnce || size < chunkBytes {
			return first.Append(block)
		}
		l := load{name: name, typ: opts.Type}
		if table == nil {
			l.settings = opts.settings
		}
		s = n.newStager(ctx, l)
		for b := range first.Blocks() {
			if err := s.add(b); err != nil {
				return err
			}
		}
		return s.add(block)
	}
	result.Added, err = packed.Pack(entries, emit)
	err = badSource(err)
	if s != nil {
		if sendErr := s.end(); sendErr != nil {
			err = sendErr
		}
	}
	switch {
	case ctx.Err() != nil: // entries may have broken off: half of them must not become the table
		err = context.Cause(ctx)
	case err == nil && s != nil:
		err = opts.allows(result, table)
	}
	switch {
	case s == nil && err != nil:
		return nil, ImportResult{}, err
	case s == nil:
		return first.Table(), ImportResult{}, nil
	case err != nil:
		n.abort([]fsm.ID{s.id})
		return nil, ImportResult{}, err
	}
	ids := []fsm.ID{s.id}
	r, err := n.commitStages(ctx, name, ids, opts.Way, fsm.StageCommit{IDs: ids, Merge: opts.Merge})
	result.Version, result.Was = r.Index, r.Was
	return nil, result, err
}

// badSource makes an error of entries, which are not in order, an ErrBadSource.
func badSource(err error) error {
	if err != nil {
		err = fmt.Errorf("%w: %w", dict.ErrBadSource, err)
	}
	return err
}

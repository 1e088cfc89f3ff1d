package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"

	"postraft/dict"
	"postraft/fsm"
	"postraft/fsm/packed"
)

var errUnsorted = errors.New("keys do not ascend")

// An importing compares the entries of an import with the table that they take the place of, while they come. It keeps what
// differs, as long as that is not much; then all that was read is staged, made of the table and the difference, and the rest
// is staged as it comes. So a table is there twice while it is replaced, and once while a little of it is changed.
type importing struct {
	n     *Node
	ctx   context.Context
	name  string
	opts  ImportOptions
	table *fsm.Table

	next func() (key, value []byte, ok bool) // entries of the table
	key  []byte                              // of the one that comes next
	old  []byte                              // its value
	more bool                                // there is one
	left int64                               // bytes of keys and values of that and those behind it

	any  bool   // an entry was read
	last []byte // the key of the last one
	read int64  // bytes of keys and values so far

	removed []byte // the key that was passed over last

	result   ImportResult
	d        *difference
	hopeless bool // it is more than it may be: only the counts are wanted

	stager *stager // once all is staged
	whole  *packed.Builder
}

// importOver imports entries into a table of that type that has some. Where next is not nil it has changed nothing, because the
// table has changed meanwhile or the difference is not to be sent by itself, and next is what the table is to be.
func (n *Node) importOver(ctx context.Context, name string, opts ImportOptions, table *fsm.Table, entries iter.Seq2[[]byte, []byte]) (next *packed.Table, result ImportResult, err error) {
	i := &importing{n: n, ctx: ctx, name: name, opts: opts, table: table, next: table.Cursor().Next, left: table.Bytes(), d: newDifference(name)}
	i.result.Version, i.result.Was = table.Version, table.Version
	i.key, i.old, i.more = i.next()
	err = badSource(i.readAll(entries))
	if i.stager != nil {
		if sendErr := i.stager.end(); sendErr != nil && !errors.Is(err, errUnsorted) {
			err = sendErr
		}
	}
	switch {
	case ctx.Err() != nil: // entries may have broken off: half of them must not become the table
		err = context.Cause(ctx)
	case err == nil && i.hopeless:
		err = opts.allows(i.result, table)
	case err == nil:
		err = n.ReadIndex(ctx) // what was answered before the last entry came counts, as it does for any other write
	}
	switch {
	case i.stager != nil:
		return i.commit(err)
	case err != nil:
		return nil, ImportResult{}, err
	}
	return i.send()
}

// commit puts what is staged in place, or ends the stage where there is an error or something speaks against it.
func (i *importing) commit(err error) (next *packed.Table, result ImportResult, _ error) {
	ids := []fsm.ID{i.stager.id}
	now, exists := i.n.fsm.State().Table(i.name)
	needless := false
	switch {
	case err != nil:
	case !exists: // it would have no settings if it came to be by the commit
		next, err = i.staged()
	case now.Version != i.table.Version:
		needless, err = i.compareAgain(now)
	}
	if err != nil || next != nil || needless {
		i.n.abort(ids)
		return next, i.result, err
	}
	r, err := i.n.commitStages(i.ctx, i.name, ids, i.opts.Way, fsm.StageCommit{IDs: ids})
	i.result.Version, i.result.Was = r.Index, r.Was
	return nil, i.result, err
}

// send sends the difference, if there is one.
func (i *importing) send() (next *packed.Table, result ImportResult, err error) {
	now, exists := i.n.fsm.State().Table(i.name)
	same := exists && now.Version == i.table.Version
	switch {
	case same && (i.opts.DryRun || i.d.count == 0):
		return nil, i.result, nil
	case same:
		result, err = i.n.importDifference(i.ctx, i.name, i.opts, i.table, i.d, i.result)
		if !errors.Is(err, errConflict) && !errors.Is(err, errWhole) {
			return nil, result, err
		}
	}
	changed, removed, err := i.d.tables()
	if err == nil {
		next, err = packed.Build(packed.Patched(i.table.Table, changed, removed))
	}
	return next, ImportResult{}, badSource(err)
}

// readAll takes all entries.
func (i *importing) readAll(entries iter.Seq2[[]byte, []byte]) error {
	for key, value := range entries {
		if err := i.entry(key, value); err != nil {
			return err
		}
	}
	for i.more && i.ctx.Err() == nil {
		if err := i.gone(); err != nil {
			return err
		}
	}
	if i.whole != nil {
		return i.whole.Flush()
	}
	return nil
}

// entry takes the next entry.
func (i *importing) entry(key, value []byte) error {
	if i.any && bytes.Compare(i.last, key) >= 0 {
		return fmt.Errorf("%w: %q comes behind %q", errUnsorted, key, i.last)
	}
	for i.more && bytes.Compare(i.key, key) < 0 {
		if err := i.gone(); err != nil {
			return err
		}
	}
	i.last, i.any = append(i.last[:0], key...), true
	i.read += int64(len(key) + len(value))
	was := i.more && bytes.Equal(i.key, key)
	equal := was && bytes.Equal(i.old, value)
	switch {
	case equal:
		i.result.Unchanged++
	case was:
		i.result.Changed++
	default:
		i.result.Added++
	}
	if was {
		i.pass()
	}
	switch i.look(); {
	case i.whole != nil:
		return i.whole.Add(key, value)
	case equal:
		return nil
	}
	return i.keep(key, value, false)
}

// gone passes over an entry of the table that did not come.
func (i *importing) gone() error {
	i.result.Removed++
	i.removed = append(i.removed[:0], i.key...)
	i.pass()
	if i.look(); i.whole != nil {
		return nil
	}
	return i.keep(i.removed, nil, true)
}

// pass goes to the next entry of the table.
func (i *importing) pass() {
	i.left -= int64(len(i.key) + len(i.old))
	i.key, i.old, i.more = i.next()
}

// look ends what need not go on, an import that is not allowed whatever comes.
func (i *importing) look() {
	most, read := i.table.Settings.MaxEntries, int64(i.result.Added+i.result.Changed+i.result.Unchanged)
	if i.hopeless || !i.opts.tooMuch(i.result, i.table.Len()) && (most == 0 || i.result.Added == 0 || read <= most) {
		return
	}
	i.hopeless = true
	i.d.drop()
	if i.stager != nil {
		i.stager.end() // whatever it says
		i.n.abort([]fsm.ID{i.stager.id})
		i.stager, i.whole = nil, nil
	}
}

// keep takes an entry of the difference, and begins to stage all where that has become too much.
func (i *importing) keep(key, value []byte, removed bool) error {
	if err := i.d.add(key, value, removed); err != nil {
		return err
	}
	if i.hopeless || i.opts.DryRun || !i.d.large(i.read+i.left) { // of what the table will have, if nothing more is added or goes
		return nil
	}
	return i.stageAll()
}

// stageAll stages what the table is to be up to the key that was read last.
func (i *importing) stageAll() error {
	changed, removed, err := i.d.tables()
	if err != nil {
		return err
	}
	i.d.drop()
	i.stager = i.n.newStager(i.ctx, load{name: i.name, typ: i.table.Type})
	i.whole = packed.NewBuilder(i.stager.add)
	for key, value := range packed.Patched(i.table.Table, changed, removed) {
		if bytes.Compare(key, i.last) > 0 {
			break
		}
		if err := i.whole.Add(key, value); err != nil {
			return err
		}
	}
	return nil
}

// compareAgain compares what is staged with the table as it is now, where others have written to it meanwhile, and reports
// whether they are equal.
func (i *importing) compareAgain(now *fsm.Table) (equal bool, err error) {
	staged, err := i.staged()
	if err != nil {
		return false, err
	}
	result, d, err := compare(i.name, i.opts, now.Table, staged, true)
	if err != nil {
		return false, err
	}
	result.Version, result.Was = now.Version, now.Version
	i.result = result
	return d.count == 0, i.opts.allows(result, now)
}

// staged returns all that is staged.
func (i *importing) staged() (*packed.Table, error) {
	table, ok := i.n.fsm.Staged(i.stager.id)
	if !ok {
		return nil, fmt.Errorf("the load was ended by the cluster: %w", dict.ErrRetry)
	}
	return table, nil
}

// replaces reports whether an import takes the place of entries that it can be compared with while it comes: not of rules,
// which are checked as a whole first, and of which no reader may see some; and a merge says nothing of what it does not have.
func (o ImportOptions) replaces(table *fsm.Table) bool {
	return table != nil && table.Len() > 0 && table.Type == o.Type && !dict.IsPattern(o.Type) && !o.Merge
}

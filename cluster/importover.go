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

	last []byte // key that was read last
	any  bool   // there is one

	result ImportResult
	differ *difference

	stager *stager // once all is staged
	whole  *packed.Builder
}

// importOver imports entries into a table of that type that has some. Where the table changed meanwhile, or the difference
// is not to be sent by itself, it has done nothing, and next is what the table is to be.
func (n *Node) importOver(ctx context.Context, name string, opts ImportOptions, table *fsm.Table, entries iter.Seq2[[]byte, []byte]) (next *packed.Table, result ImportResult, err error) {
	i := &importing{n: n, ctx: ctx, name: name, opts: opts, table: table, next: table.Cursor().Next}
	i.differ = newDifference(name, table.Bytes())
	i.result.Version, i.result.Was = table.Version, table.Version
	i.key, i.old, i.more = i.next()
	err = badSource(i.read(entries))
	if i.stager != nil {
		if sendErr := i.stager.end(); sendErr != nil {
			err = sendErr
		}
	}
	if ctx.Err() != nil { // entries may have broken off: half of them must not become the table
		err = context.Cause(ctx)
	}
	if err == nil {
		err = i.allowed()
	}
	switch {
	case err != nil && i.stager != nil:
		n.abort([]fsm.ID{i.stager.id})
		return nil, ImportResult{}, err
	case err != nil:
		return nil, ImportResult{}, err
	case i.stager != nil:
		r, err := n.commitStages(ctx, name, []fsm.ID{i.stager.id}, opts.Way, fsm.StageCommit{IDs: []fsm.ID{i.stager.id}})
		i.result.Version, i.result.Was = r.Index, r.Was
		return nil, i.result, err
	case opts.DryRun, i.differ.count == 0:
		return nil, i.result, nil
	}
	result, err = n.importDifference(ctx, name, opts, table, i.differ, i.result)
	if errors.Is(err, errConflict) || errors.Is(err, errLarge) {
		changed, removed, tablesErr := i.differ.tables()
		if tablesErr != nil {
			return nil, ImportResult{}, badSource(tablesErr)
		}
		next, err = packed.Build(patched(table.Table, changed, removed))
		return next, ImportResult{}, err
	}
	return nil, result, err
}

// read takes all entries.
func (i *importing) read(entries iter.Seq2[[]byte, []byte]) error {
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
		i.key, i.old, i.more = i.next()
	}
	switch {
	case i.whole != nil:
		return i.whole.Add(key, value)
	case equal:
		return nil
	}
	return i.differs(key, value, false)
}

// gone passes over an entry of the table that did not come.
func (i *importing) gone() error {
	i.result.Removed++
	key := i.key
	i.key, i.old, i.more = i.next()
	if i.whole != nil {
		return nil
	}
	return i.differs(key, nil, true)
}

// differs takes an entry of the difference, and begins to stage all where that has become too much.
func (i *importing) differs(key, value []byte, removed bool) error {
	if err := i.differ.add(key, value, removed); err != nil {
		return err
	}
	switch {
	case !i.differ.large():
		return nil
	case i.opts.DryRun, i.opts.check(i.result, i.table.Len()) != nil: // only the counts are wanted
		i.differ.drop()
		return nil
	}
	return i.stageAll()
}

// stageAll stages what the table is to be up to the key that was read last.
func (i *importing) stageAll() error {
	changed, removed, err := i.differ.tables()
	if err != nil {
		return err
	}
	i.differ.drop()
	i.stager = i.n.newStager(i.ctx, load{name: i.name, typ: i.table.Type})
	i.whole = packed.NewBuilder(i.stager.add)
	for key, value := range patched(i.table.Table, changed, removed) {
		if !i.any || bytes.Compare(key, i.last) > 0 {
			break
		}
		if err := i.whole.Add(key, value); err != nil {
			return err
		}
	}
	return nil
}

// allowed refuses what the options or the table do not allow.
func (i *importing) allowed() error {
	if err := i.opts.check(i.result, i.table.Len()); err != nil {
		return err
	}
	settings, entries := i.table.Settings, i.table.Len()+i.result.Added-i.result.Removed
	if i.result.Added > 0 && settings.MaxEntries > 0 && int64(entries) > settings.MaxEntries {
		return tooMany(entries, settings)
	}
	return nil
}

// replaces reports whether an import takes the place of entries that it can be compared with while it comes: not of rules,
// which are checked as a whole first, and of which no reader may see some; and a merge says nothing of what it does not have.
func (o ImportOptions) replaces(table *fsm.Table, exists bool) bool {
	return exists && table.Len() > 0 && table.Type == o.Type && !dict.IsPattern(o.Type) && !o.Merge
}

package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"

	"postraft/dict"
	"postraft/fsm"
	"postraft/fsm/packed"
)

// ErrForgotten says that a history does not reach back so far.
var ErrForgotten = errors.New("not in this node's history any more")

// An Event is one change of one entry of a table.
type Event struct {
	Index uint64
	Time  time.Time // by the clock of the leader of that time; zero where it is not known
	Whole bool      // it came with a load of the whole table, or its end
	fsm.Origin
	Key      []byte
	Old, New []byte // nil where there is no entry
}

// Watch calls yield for each change of a table behind the index from, or behind now when from is nil, as this node
// applies it, until ctx ends or yield fails. Changes of one index come in the order of their making, those of a
// load in the order of their keys. Where the node takes over a snapshot meanwhile, what has changed comes with the
// index of that, without what was between. At the start, and about once a second while nothing changes, idle is called
// with the index up to which all changes have come.
//
// The error is an ErrForgotten when the changes behind from are not all known.
func (n *Node) Watch(ctx context.Context, table string, from *uint64, yield func(Event) error, idle func(at uint64) error) error {
	s, err := n.State()
	if err != nil {
		return err
	}
	if _, ok := s.Table(table); !ok {
		return fmt.Errorf("table %s: %w", table, dict.ErrNoTable)
	}
	at := s.Index
	var last *fsm.Table
	if from != nil && *from < s.Index {
		at = *from
		was, ok := n.fsm.History().At(s, table, at)
		if !ok {
			_, begin := n.fsm.History().Since(table, at)
			return fmt.Errorf("changes of table %s behind index %d: %w: it begins behind %d", table, at, ErrForgotten, begin)
		}
		last = was
	} else {
		last, _ = s.Table(table)
	}
	if err := idle(at); err != nil {
		return err
	}
	for {
		records, begin := n.fsm.History().Since(table, at)
		now := n.fsm.State()
		next, _ := now.Table(table)
		switch {
		case begin > at:
			err = missed(last, next, now.Index, yield)
		default:
			err = recorded(records, now.Index, yield)
		}
		if err != nil {
			return err
		}
		at, last = now.Index, next
		waiting, cancel := context.WithTimeout(ctx, time.Second)
		err = n.fsm.WaitIndex(waiting, at+1)
		cancel()
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, context.DeadlineExceeded):
			err = idle(at)
		}
		if err != nil {
			return err
		}
	}
}

func recorded(records []fsm.Record, until uint64, yield func(Event) error) (err error) {
	for i := range records {
		r := &records[i]
		if r.Index > until {
			return nil
		}
		r.Changes(func(c fsm.Change) bool {
			err = yield(Event{r.Index, r.Time, r.Whole, r.Origin, c.Key, c.Old, c.New})
			return err == nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func missed(from, to *fsm.Table, index uint64, yield func(Event) error) (err error) {
	for c := range fsm.Diff(entries(from), entries(to)) {
		if err = yield(Event{Index: index, Whole: true, Key: c.Key, Old: c.Old, New: c.New}); err != nil {
			return err
		}
	}
	return nil
}

func entries(t *fsm.Table) *packed.Table {
	if t == nil {
		return nil
	}
	return t.Table
}

// KeyHistory returns the changes of one key that this node's history has, oldest first, and the index behind
// which it has all.
func (n *Node) KeyHistory(table string, key []byte) (list []Event, begin uint64, err error) {
	if _, err := n.State(); err != nil {
		return nil, 0, err
	}
	records, begin := n.fsm.History().Since(table, 0)
	for i := range records {
		r := &records[i]
		e := Event{Index: r.Index, Time: r.Time, Whole: r.Whole, Origin: r.Origin, Key: key}
		if !r.Whole {
			if string(r.Key) != string(key) {
				continue
			}
			e.Old, e.New = r.Old, r.New
		} else {
			e.Old, e.New = valueIn(r.Before, key), valueIn(r.After, key)
			if string(e.Old) == string(e.New) && (e.Old == nil) == (e.New == nil) {
				continue
			}
		}
		list = append(list, e)
	}
	return list, begin, nil
}

func valueIn(t *fsm.Table, key []byte) []byte {
	if t == nil {
		return nil
	}
	v, ok := t.Get(key)
	if ok && v == nil {
		v = []byte{}
	}
	return v
}

// RestoreVersion makes a table what it was once the log entry at index was applied, by an import of that. A table
// that was not there then is refused.
func (n *Node) RestoreVersion(ctx context.Context, table string, index uint64) (ImportResult, error) {
	if err := n.ReadIndex(ctx); err != nil {
		return ImportResult{}, fmt.Errorf("restore table %s: %w", table, err)
	}
	s, err := n.State()
	if err != nil {
		return ImportResult{}, err
	}
	if index > s.Index {
		return ImportResult{}, fmt.Errorf("restore table %s at %d: %w: the newest index is %d", table, index, ErrRefused, s.Index)
	}
	was, ok := n.fsm.History().At(s, table, index)
	if !ok {
		_, begin := n.fsm.History().Since(table, index)
		return ImportResult{}, fmt.Errorf("restore table %s at %d: %w: it begins behind %d", table, index, ErrForgotten, begin)
	}
	if was == nil {
		return ImportResult{}, fmt.Errorf("restore table %s at %d: %w: there was no such table", table, index, ErrRefused)
	}
	return n.Import(ctx, table, ImportOptions{Type: was.Type, settings: was.Settings, Way: fsm.WayRestore}, was.All())
}

package fsm

import (
	"slices"
	"sync"
	"time"

	"postraft/fsm/packed"
)

// Bounds of a History. What is older goes.
const (
	historyRecords = 1 << 16
	historyBytes   = 16 << 20 // of keys, values, and tables that were replaced as a whole
)

// A Record is one change of a raft table, of an entry or of the whole.
type Record struct {
	Index uint64    // of the log entry
	Time  time.Time // at which the leader has taken the entry, by its clock
	Table string
	Origin

	Key      []byte // of one entry
	Old, New []byte // nil where there is no entry

	Whole         bool // the table was made, dropped or loaded
	Before, After *Table
}

// A History is the newest changes of all tables, on this node: it begins with what the node's log still had when
// it started. It may be used from any goroutine.
type History struct {
	mu      sync.Mutex
	runs    []records // ascending
	records int       // in all runs
	bytes   int64
	begin   uint64 // nothing is known of this entry and those before it
}

// Since returns the changes of a table behind an index, in order, and the index behind which the history knows
// all. Where that is greater than after, some are missing.
func (h *History) Since(table string, after uint64) (found []Record, begin uint64) {
	h.mu.Lock()
	from, _ := slices.BinarySearchFunc(h.runs, after+1, func(r records, index uint64) int {
		if r.last < index {
			return -1
		}
		return 1
	})
	runs, begin := slices.Clone(h.runs[from:]), h.begin
	h.mu.Unlock()
	for _, run := range runs {
		for r := range run.all {
			if r.Table == table && r.Index > max(after, begin) {
				found = append(found, r)
			}
		}
	}
	return found, begin
}

// At returns a table as it was once the entry at this index was applied, from the table as it is in s. It fails
// with false where the history does not reach back so far. Its settings are the newest ones that it had.
func (h *History) At(s *State, table string, index uint64) (*Table, bool) {
	records, begin := h.Since(table, index)
	if index < begin {
		return nil, false
	}
	now := s.tables[table]
	newest := now // with its settings
	var edit *packed.Editor
	flush := func() {
		if edit != nil {
			now, edit = newTable(edit.Table(), now.Type, index), nil
		}
	}
	for _, r := range slices.Backward(records) {
		switch {
		case r.Index > s.Index:
		case r.Whole:
			edit, now = nil, r.Before
			if newest == nil {
				newest = r.Before
			}
		case now == nil:
			return nil, false // s is older than the records
		default:
			if edit == nil {
				edit = now.Edit()
			}
			if r.Old == nil {
				edit.Delete(r.Key)
			} else {
				edit.Put(r.Key, r.Old)
			}
		}
	}
	flush()
	if now != nil && now.Settings != newest.Settings {
		with := *now
		with.Settings = newest.Settings
		now = &with
	}
	return now, true
}

// add takes the records of a run, which are behind those before, and forgets the oldest.
func (h *History) add(run records) {
	if run.count == 0 {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.runs = append(h.runs, run)
	h.records += run.count
	h.bytes += run.bytes
	drop := 0
	for ; drop < len(h.runs) && (h.records > historyRecords || h.bytes > historyBytes); drop++ {
		h.records -= h.runs[drop].count
		h.bytes -= h.runs[drop].bytes
		h.begin = h.runs[drop].last
	}
	clear(h.runs[:drop])
	h.runs = h.runs[drop:]
}

// reset begins anew behind an index.
func (h *History) reset(index uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.runs, h.records, h.bytes, h.begin = nil, 0, 0, index
}

// record keeps a change of one entry.
func (a *apply) record(op *Op, old []byte, had bool) {
	flags := byte(0)
	if had {
		flags |= recordOld
	}
	if op.Kind != OpDelete {
		flags |= recordNew
	}
	head := Record{Index: a.index, Time: a.time, Table: op.Table, Origin: Origin{a.origin.Node, op.Way}}
	a.f.recorder.add(&head, flags, op.Key, old, op.Value)
}

// recordWhole keeps that a table was made, dropped or loaded.
func (a *apply) recordWhole(name string, before, after *Table) {
	a.f.recorder.whole(&Record{Index: a.index, Time: a.time, Table: name, Origin: a.origin}, before, after)
}

// Changes yields the changes of single entries that a record stands for, in the order of their keys. A key is valid until the
// next change.
func (r *Record) Changes(yield func(Change) bool) {
	if !r.Whole {
		yield(Change{r.Key, r.Old, r.New})
		return
	}
	for c := range Diff(entriesOf(r.Before), entriesOf(r.After)) {
		if !yield(c) {
			return
		}
	}
}

func entriesOf(t *Table) *packed.Table {
	if t == nil {
		return nil
	}
	return t.Table
}

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
	records []Record // ascending
	bytes   int64
	begin   uint64 // nothing is known of this entry and those before it
}

// Since returns the changes of a table behind an index, in order, and the index behind which the history knows
// all. Where that is greater than after, some are missing.
func (h *History) Since(table string, after uint64) (records []Record, begin uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	from, _ := slices.BinarySearchFunc(h.records, after+1, func(r Record, index uint64) int {
		if r.Index < index {
			return -1
		}
		return 1
	})
	for _, r := range h.records[from:] {
		if r.Table == table {
			records = append(records, r)
		}
	}
	return records, h.begin
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

// add takes records, which ascend, and forgets the oldest.
func (h *History) add(records []Record) {
	if len(records) == 0 {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.records = append(h.records, records...)
	for i := range records {
		h.bytes += records[i].size()
	}
	drop := 0
	for ; drop < len(h.records) && (len(h.records)-drop > historyRecords || h.bytes > historyBytes); drop++ {
		h.bytes -= h.records[drop].size()
		h.begin = h.records[drop].Index
	}
	// The rest of an entry of which a part is gone goes with it.
	for ; drop < len(h.records) && h.records[drop].Index <= h.begin; drop++ {
		h.bytes -= h.records[drop].size()
	}
	clear(h.records[:drop])
	h.records = h.records[drop:]
}

// reset begins anew behind an index.
func (h *History) reset(index uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.records, h.bytes, h.begin = nil, 0, index
}

func (r *Record) size() int64 {
	n := int64(len(r.Key) + len(r.Old) + len(r.New) + 160)
	if r.Before != nil {
		n += r.Before.Bytes()
	}
	return n
}

// entryRecord makes a record of one entry. It copies all that it keeps.
func (a *apply) entryRecord(op *Op, old []byte, had bool) {
	size := len(op.Key) + len(op.Value) + len(old)
	buf := append(append(append(make([]byte, 0, size), op.Key...), old...), op.Value...)
	k, o := len(op.Key), len(op.Key)+len(old)
	r := Record{Index: a.index, Time: a.time, Table: op.Table, Origin: Origin{a.origin.Node, op.Way}, Key: buf[:k:k]}
	if had {
		r.Old = buf[k:o:o]
	}
	if op.Kind != OpDelete {
		r.New = buf[o:]
	}
	a.records = append(a.records, r)
}

// wholeRecord makes a record of a table that was made, dropped or loaded.
func (a *apply) wholeRecord(name string, before, after *Table) {
	a.records = append(a.records, Record{Index: a.index, Time: a.time, Table: name, Origin: a.origin, Whole: true, Before: before, After: after})
}

// Changes yields the changes of single entries that a record stands for, in the order of their keys.
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

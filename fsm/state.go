package fsm

import (
	"bytes"
	"fmt"
	"iter"
	"maps"
	"slices"

	"postraft/dict"
	"postraft/fsm/packed"
)

// A Table is one version of a raft table. It is immutable.
type Table struct {
	*packed.Table
	Type    string
	Version uint64 // raft index of the entry that changed it last

	Settings dict.Settings
	cache    *cache // of a table whose entries go by themselves

	compiled *compiled // of a pattern table
}

// TableInfo describes a table.
type TableInfo struct {
	Name    string
	Type    string
	Entries int
	Bytes   int64 // keys and values
	Version uint64
	Digest  packed.Digest

	Settings         dict.Settings
	Expired, Evicted uint64 // entries that went because of their age, or to make room, since there are such settings
}

// A State is everything that lookups need, as it was after one log entry. It is immutable: a reader may
// keep it as long as it likes and see nothing change.
type State struct {
	Index  uint64 // of the last entry applied
	Term   uint64 // of that entry
	tables map[string]*Table
	doubt  *doubt
}

// Table returns a table by name.
func (s *State) Table(name string) (*Table, bool) {
	t, ok := s.tables[name]
	return t, ok
}

// Tables describes all tables, in the order of their names.
func (s *State) Tables() []TableInfo {
	infos := make([]TableInfo, 0, len(s.tables))
	for _, name := range slices.Sorted(maps.Keys(s.tables)) {
		infos = append(infos, s.tables[name].info(name))
	}
	return infos
}

func (t *Table) info(name string) TableInfo {
	i := TableInfo{Name: name, Type: t.Type, Entries: t.Len(), Bytes: t.Bytes(), Version: t.Version, Digest: t.Digest(), Settings: t.Settings}
	if t.cache != nil {
		i.Expired, i.Evicted = t.cache.expired, t.cache.evicted
	}
	return i
}

// Lookup returns the value of key in a table. A table that is not there is dict.ErrNoTable; a key whose
// value a committed entry may have changed unknown to this node is dict.ErrRetry. It does not allocate
// unless it fails.
func (s *State) Lookup(table string, key []byte) (value []byte, found bool, err error) {
	return s.LookupFlags(table, key, 0)
}

// LookupFlags is Lookup with the flags of the request, of which dict.NoRegSub makes a difference to rules.
func (s *State) LookupFlags(table string, key []byte, flags dict.Flags) (value []byte, found bool, err error) {
	if s.doubt != nil && s.doubt.covers(table, key) {
		return nil, false, errDoubt
	}
	t, ok := s.tables[table]
	switch {
	case !ok:
		return nil, false, dict.ErrNoTable
	case t.compiled != nil:
		if s.doubt != nil && s.doubt.touches(table) { // any line may decide about any key
			return nil, false, errDoubt
		}
		m, err := t.Match(key, flags)
		return m.Value, m.Found, err
	}
	value, found = t.Get(key)
	return value, found, nil
}

// Next returns the entry with the smallest key greater than after, or the first when after is nil. Its
// errors are those of Lookup.
func (s *State) Next(table string, after []byte) (key, value []byte, found bool, err error) {
	if s.doubt != nil && s.doubt.touches(table) {
		return nil, nil, false, errDoubt
	}
	t, ok := s.tables[table]
	if !ok {
		return nil, nil, false, dict.ErrNoTable
	}
	key, value, found = t.Next(after)
	return key, value, found, nil
}

// InDoubt reports whether some keys cannot be answered until a leader has settled the end of the log.
func (s *State) InDoubt() bool { return s.doubt != nil }

var errDoubt = fmt.Errorf("the end of the log awaits a leader: %w", dict.ErrRetry)

// doubt covers what entries behind the node's applied watermark touch: they may be committed or not, and
// only a leader knows.
type doubt struct {
	index, term uint64 // of the last doubtful entry
	all         bool
	tables      map[string]map[string]struct{} // a nil set is the whole table
}

// after returns what is left of d once the entry index of this term was applied.
func (d *doubt) after(index, term uint64) *doubt {
	if d == nil || term > d.term || index >= d.index {
		return nil
	}
	return d
}

func (d *doubt) covers(table string, key []byte) bool {
	if d.all {
		return true
	}
	keys, ok := d.tables[table]
	if !ok || keys == nil {
		return ok
	}
	_, ok = keys[string(key)]
	return ok
}

func (d *doubt) touches(table string) bool {
	_, ok := d.tables[table]
	return ok || d.all
}

func (d *doubt) whole(table string) { d.tables[table] = nil }

func (d *doubt) key(table string, key []byte) {
	keys, ok := d.tables[table]
	if ok && keys == nil {
		return
	}
	if keys == nil {
		keys = map[string]struct{}{}
		d.tables[table] = keys
	}
	keys[string(key)] = struct{}{}
}

// add widens the doubt by what a command may have done. stages knows which table a stage is for, and bounded whether a write in
// a table may push out other entries.
func (d *doubt) add(c *Command, stages map[ID]string, bounded func(table string) bool) {
	switch {
	case c.Write != nil:
		for _, op := range c.Write.Ops {
			if bounded(op.Table) {
				d.whole(op.Table)
			} else {
				d.key(op.Table, op.Key)
			}
		}
	case c.Expire != nil:
		d.whole(c.Expire.Table)
	case c.Set != nil:
		d.whole(c.Set.Table)
	case c.DeleteIf != nil:
		d.key(c.DeleteIf.Table, c.DeleteIf.Key)
	case c.Create != nil:
		d.whole(c.Create.Name)
	case c.Drop != nil:
		d.whole(c.Drop.Name)
	case c.Begin != nil:
		stages[c.Begin.ID] = c.Begin.Table
	case c.Commit != nil:
		d.all = d.all || c.Commit.Only
		for _, id := range c.Commit.IDs {
			if table, ok := stages[id]; ok {
				d.whole(table)
			} else {
				d.all = true
			}
		}
	}
}

// A Change is a difference between two tables at one key. Old or New is nil where there is no entry.
type Change struct{ Key, Old, New []byte }

// Diff yields what has to change for from to become to, in the order of the keys. A nil table is empty. A key is valid until
// the next change.
func Diff(from, to *packed.Table) iter.Seq[Change] {
	if from == nil {
		from = &packed.Table{}
	}
	if to == nil {
		to = &packed.Table{}
	}
	return func(yield func(Change) bool) {
		nextOld, nextNew := from.Cursor().Next, to.Cursor().Next
		ok, ov, oldOK := nextOld()
		nk, nv, newOK := nextNew()
		for oldOK || newOK {
			c := 0
			switch {
			case !oldOK:
				c = 1
			case !newOK:
				c = -1
			default:
				c = bytes.Compare(ok, nk)
			}
			switch {
			case c < 0:
				if !yield(Change{Key: ok, Old: ov}) {
					return
				}
				ok, ov, oldOK = nextOld()
			case c > 0:
				if !yield(Change{Key: nk, New: nv}) {
					return
				}
				nk, nv, newOK = nextNew()
			default:
				if !bytes.Equal(ov, nv) && !yield(Change{nk, ov, nv}) {
					return
				}
				ok, ov, oldOK = nextOld()
				nk, nv, newOK = nextNew()
			}
		}
	}
}

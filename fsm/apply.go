package fsm

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"time"

	"postraft/dict"
	"postraft/fsm/packed"
)

// Bounds of what the state machine remembers besides tables. They are part of the replicated behaviour:
// changing one needs a new command version.
const (
	maxSessions = 1024
	maxStages   = 4096 // each table of a snapshot that is restored takes one
)

// Status says what became of a command.
type Status uint8

const (
	Applied  Status = iota
	Stale           // a later command of the session was applied before; this one did nothing
	NoTable         // the table does not exist
	Exists          // the table exists already, or with another type
	Conflict        // the table's version is not the expected one
	NoStage         // the stage is not known, or the chunk is not the next one
	Refused         // the command breaks a rule; see Text
)

// OpStatus says what became of an Op.
type OpStatus uint8

const (
	OpDone    OpStatus = iota
	OpAbsent           // delete: there was no such key
	OpNoTable          // the table does not exist
	OpRefused          // the table has no entries to change, or the entry breaks a limit
	OpChanged          // conditional delete: the entry has another value
)

// A Result is what became of a command.
type Result struct {
	Status Status
	Ops    []OpStatus // of a Write, one for each Op
	Text   string     // of Refused
	Index  uint64     // of the entry that applied it
	Was    uint64     `json:",omitempty"` // of a StageCommit: the version before of the first table, 0 where there was none
}

// A session remembers the last command of one life of one node.
type session struct {
	seq    uint64
	index  uint64
	result Result
}

// A stage is a table in the making. The assembler is replaced, never changed, so that snapshots may read it.
type stage struct {
	table, typ string
	settings   dict.Settings // none: those of the table that it replaces
	chunks     uint64
	index      uint64
	blocks     *packed.Assembler
}

// apply is a run of entries between two published States. It holds f.mu.
type apply struct {
	f           *FSM
	index, term uint64
	tables      map[string]*Table
	owned       bool
	editors     map[string]*editor
	doubt       *doubt
	time        time.Time // of the entry
	origin      Origin    // of the command
	room        int       // how many entries of caches the command may still take out
}

type editor struct {
	*packed.Editor
	typ      string
	version  uint64
	settings dict.Settings
	cache    *cacheEditor
}

// finish returns the State after the run.
func (a *apply) finish() *State {
	a.close()
	return &State{Index: a.index, Term: a.term, tables: a.tables, doubt: a.doubt.after(a.index, a.term)}
}

// close puts what the editors made into the tables.
func (a *apply) close() {
	if len(a.editors) == 0 {
		return
	}
	a.own()
	for name, e := range a.editors {
		t := newTable(e.Table(), e.typ, e.version)
		t.Settings, t.cache = e.settings, e.cache.finish()
		a.tables[name] = t
	}
	clear(a.editors)
}

// edit returns the editor of a table, nil if there is no such table.
func (a *apply) edit(name string) *editor {
	if e, ok := a.editors[name]; ok {
		return e
	}
	t, ok := a.tables[name]
	if !ok {
		return nil
	}
	if a.editors == nil {
		a.editors = map[string]*editor{}
	}
	e := &editor{t.Edit(), t.Type, t.Version, t.Settings, t.cache.edit()}
	a.editors[name] = e
	return e
}

// command applies c unless its session has come past it.
func (a *apply) command(c *Command) Result {
	s := a.f.sessions[c.ID.Session]
	switch {
	case s == nil:
		s = a.newSession(c.ID.Session)
	case c.ID.Seq == s.seq:
		return s.result
	case c.ID.Seq < s.seq:
		return Result{Status: Stale, Index: a.index}
	}
	s.seq, s.index = c.ID.Seq, a.index
	s.result = a.body(c)
	s.result.Index = a.index
	return s.result
}

// newSession makes room for a session: the one that was silent for longest goes.
func (a *apply) newSession(id ID) *session {
	sessions := a.f.sessions
	if len(sessions) >= maxSessions {
		var oldest ID
		first := true
		for id, s := range sessions {
			o := sessions[oldest]
			if first || s.index < o.index || s.index == o.index && slices.Compare(id[:], oldest[:]) < 0 {
				oldest, first = id, false
			}
		}
		delete(sessions, oldest)
	}
	s := &session{}
	sessions[id] = s
	return s
}

func (a *apply) body(c *Command) Result {
	a.origin, a.room = c.Origin, trimLimit
	if c.Write != nil {
		return a.write(c.Write)
	}
	if c.DeleteIf != nil {
		return Result{Ops: []OpStatus{a.deleteIf(c.DeleteIf)}}
	}
	if c.Expire != nil {
		return a.expire(c.Expire)
	}
	a.close()
	switch {
	case c.Set != nil:
		return a.set(c.Set)
	case c.Create != nil:
		return a.create(c.Create)
	case c.Drop != nil:
		t, ok := a.tables[c.Drop.Name]
		if !ok {
			return Result{Status: NoTable}
		}
		a.recordWhole(c.Drop.Name, t, nil)
		a.own()
		delete(a.tables, c.Drop.Name)
	case c.Begin != nil:
		return a.stageBegin(c.Begin)
	case c.Chunk != nil:
		return a.stageChunk(c.Chunk)
	case c.Commit != nil:
		return a.stageCommit(c.Commit)
	case c.Abort != nil:
		if _, ok := a.f.stages[c.Abort.ID]; !ok {
			return Result{Status: NoStage}
		}
		delete(a.f.stages, c.Abort.ID)
	}
	return Result{}
}

func refused(err error) Result { return Result{Status: Refused, Text: err.Error()} }

func (a *apply) write(w *Write) Result {
	if w.IfTable != "" {
		a.close()
		if t, ok := a.tables[w.IfTable]; !ok {
			return Result{Status: NoTable}
		} else if t.Version != w.IfVersion {
			return Result{Status: Conflict}
		}
	}
	r := Result{Ops: make([]OpStatus, len(w.Ops))}
	for i := range w.Ops {
		r.Ops[i] = a.op(&w.Ops[i])
	}
	return r
}

func (a *apply) op(op *Op) OpStatus {
	e := a.edit(op.Table)
	switch {
	case e == nil:
		return OpNoTable
	case e.typ != dict.TypeHash || dict.CheckEntry(op.Key, op.Value) != nil:
		return OpRefused
	}
	if op.Kind == OpDelete {
		old, had := e.Get(op.Key)
		if !had {
			return OpAbsent
		}
		a.record(op, old, true)
		e.Delete(op.Key)
		e.cache.gone(op.Key)
	} else {
		old, had := e.Put(op.Key, op.Value)
		a.record(op, old, had)
		e.cache.wrote(op.Key)
	}
	e.version = a.index
	if e.settings.MaxEntries > 0 {
		a.room++ // for its own: a table that held no more than it may never does
		a.trim(op.Table)
	}
	return OpDone
}

func (a *apply) deleteIf(c *DeleteIf) OpStatus {
	if e := a.edit(c.Table); e != nil && e.typ == dict.TypeHash {
		if now, ok := e.Get(c.Key); ok && !bytes.Equal(now, c.Value) {
			return OpChanged
		}
	}
	return a.op(&Op{Kind: OpDelete, Way: a.origin.Way, Table: c.Table, Key: c.Key})
}

func (a *apply) create(c *Create) Result {
	if t, ok := a.tables[c.Name]; ok {
		if c.MustNotExist || t.Type != c.Type {
			return Result{Status: Exists, Text: "the table exists, of type " + t.Type}
		}
		return Result{}
	}
	if err := dict.CheckTableName(c.Name); err != nil {
		return refused(err)
	}
	if err := c.Settings.Check(c.Type); err != nil {
		return refused(err)
	}
	a.own()
	a.tables[c.Name] = newTable(&packed.Table{}, c.Type, a.index)
	a.tables[c.Name].settle(c.Settings, nil)
	a.recordWhole(c.Name, nil, a.tables[c.Name])
	return Result{}
}

func (a *apply) stageBegin(c *StageBegin) Result {
	if err := dict.CheckTableName(c.Table); err != nil {
		return refused(err)
	}
	if err := c.Settings.Check(c.Type); err != nil {
		return refused(err)
	}
	if len(a.f.stages) >= maxStages {
		return refused(fmt.Errorf("%d loads are under way, no more are allowed", maxStages))
	}
	a.f.stages[c.ID] = &stage{table: c.Table, typ: c.Type, settings: c.Settings, index: a.index, blocks: &packed.Assembler{}}
	return Result{}
}

// yieldBlocks is after how many blocks of a chunk others may run.
const yieldBlocks = 32

func (a *apply) stageChunk(c *StageChunk) Result {
	s, ok := a.f.stages[c.ID]
	if !ok || c.Number != s.chunks+1 {
		return Result{Status: NoStage}
	}
	blocks := s.blocks.Fork()
	for i, b := range c.Blocks {
		if i%yieldBlocks == 0 && a.f.opts.Yield != nil {
			a.f.opts.Yield()
		}
		if err := blocks.Append(b); err != nil {
			return refused(err)
		}
	}
	s.chunks, s.index, s.blocks = c.Number, a.index, blocks
	return Result{}
}

// stageCommit puts all stages in place or none.
func (a *apply) stageCommit(c *StageCommit) (r Result) {
	for i, id := range c.IDs {
		s, ok := a.f.stages[id]
		if !ok || slices.Contains(c.IDs[:i], id) {
			return Result{Status: NoStage}
		}
		if t, ok := a.tables[s.table]; ok && t.Type != s.typ {
			return Result{Status: Exists, Text: fmt.Sprintf("table %s is of type %s", s.table, t.Type)}
		}
	}
	if len(c.IDs) > 0 {
		if t, ok := a.tables[a.f.stages[c.IDs[0]].table]; ok {
			r.Was = t.Version
		}
	}
	if c.Delta != nil {
		r.Status = a.stageDelta(c)
		return r
	}
	a.own()
	before := a.tables
	if c.Only {
		before = maps.Clone(a.tables)
		clear(a.tables)
	}
	for _, id := range c.IDs {
		s := a.f.stages[id]
		delete(a.f.stages, id)
		next := s.blocks.Table()
		if t, ok := a.tables[s.table]; ok && c.Merge {
			next = merge(t.Table, next)
		}
		after := newTable(next, s.typ, a.index)
		settings := s.settings
		if old := before[s.table]; old != nil && settings == (dict.Settings{}) && old.Type == s.typ {
			settings = old.Settings
		}
		after.settle(settings, before[s.table])
		a.recordWhole(s.table, before[s.table], after)
		a.tables[s.table] = after
		a.trim(s.table)
	}
	if c.Only {
		for _, name := range slices.Sorted(maps.Keys(before)) {
			if _, stays := a.tables[name]; !stays {
				a.recordWhole(name, before[name], nil)
			}
		}
	}
	return r
}

// stageDelta changes a table by what its stages hold.
func (a *apply) stageDelta(c *StageCommit) Status {
	if len(c.IDs) != 1 {
		return NoStage
	}
	name := a.f.stages[c.IDs[0]].table
	t, ok := a.tables[name]
	switch {
	case !ok:
		return NoTable
	case t.Version != c.Delta.IfVersion || t.Type != dict.TypeHash:
		return Conflict
	}
	gone := &packed.Table{}
	if c.Delta.Gone != (ID{}) {
		s, ok := a.f.stages[c.Delta.Gone]
		if !ok || s.table != name || c.Delta.Gone == c.IDs[0] {
			return NoStage
		}
		gone = s.blocks.Table()
		delete(a.f.stages, c.Delta.Gone)
	}
	next := a.f.stages[c.IDs[0]].blocks.Table()
	delete(a.f.stages, c.IDs[0])
	if next.Len()+gone.Len() > historyRecords { // the history would not hold them one by one
		e := merge(t.Table, next).Edit()
		for k := range gone.All() {
			e.Delete(k)
		}
		after := newTable(e.Table(), t.Type, a.index)
		after.settle(t.Settings, t)
		a.recordWhole(name, t, after)
		a.own()
		a.tables[name] = after
		a.trim(name)
		return Applied
	}
	for k := range gone.All() { // first, or what is added might push out what is to stay
		a.op(&Op{Kind: OpDelete, Way: a.origin.Way, Table: name, Key: k})
	}
	for k, v := range next.All() {
		a.op(&Op{Kind: OpUpdate, Way: a.origin.Way, Table: name, Key: k, Value: v})
	}
	return Applied
}

// merge adds the entries of over to base, by the way that is shorter.
func merge(base, over *packed.Table) *packed.Table {
	if over.Len() > base.Len()/8 {
		if merged, err := packed.Merge(base, over); err == nil { // both are in order, so it cannot fail
			return merged
		}
	}
	e := base.Edit()
	for k, v := range over.All() {
		e.Put(k, v)
	}
	return e.Table()
}

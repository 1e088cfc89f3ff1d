package fsm

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"iter"
	"slices"
	"time"

	"postraft/dict"
	"postraft/fsm/packed"
)

// trimLimit bounds the entries that one command takes out, whatever has become due, beside one for each that it writes:
// so many fit between two writes of a mail system that waits. The leader goes on with another Expire.
const trimLimit = 1024

// marksPerLife is how finely the age of entries is known: in parts of expire-after.
const marksPerLife = 64

// A cache is what a table with max-entries or expire-after knows of its entries besides their values: in which
// order they were written last, and roughly when. It is immutable.
//
// The order is that of the log: each write of an entry, also with the value that it has already, takes the next
// number. Nothing else is kept for an entry, and no time at all.
//
// Time is what Expire commands tell: how much of it has passed, by the clock of a leader that cannot be set (see
// cluster). They add up in clock, and marks say that the writes up to a number had happened when the clock stood at a
// time. So an entry's age is never overestimated, and it goes between expire-after and two 64th parts more of it, or two
// seconds, after it was written last. The times of log entries, which come from clocks that people set, decide nothing.
type cache struct {
	order  *packed.Table // number of the last write, 8 bytes big endian -> key
	writes *packed.Table // key -> number
	last   uint64        // the highest number given
	clock  time.Duration // since expire-after was set
	marks  []mark        // ascending in both; the last writes have none yet

	expired, evicted uint64 // entries that went because of their age, or to make room
}

type mark struct {
	Number uint64        `json:"number"`
	Time   time.Duration `json:"time"`
}

func number(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

// newCache numbers the entries of a table in the order of their keys, as if they were all written now.
func newCache(t *packed.Table) *cache {
	numbered := func(pair func(key, number []byte) (k, v []byte)) *packed.Table {
		n := uint64(0)
		built, _ := packed.Build(func(yield func(k, v []byte) bool) { // keys and numbers ascend both, so it cannot fail
			for key := range t.All() {
				n++
				if !yield(pair(key, number(n))) {
					return
				}
			}
		})
		return built
	}
	return &cache{
		order:  numbered(func(key, number []byte) (k, v []byte) { return number, key }),
		writes: numbered(func(key, number []byte) (k, v []byte) { return key, number }),
		last:   uint64(t.Len()),
	}
}

// A cacheEditor makes the next version of a cache. A nil one is that of a table without.
type cacheEditor struct {
	cache               // but for its two tables
	newOrder, newWrites *packed.Editor
}

func (c *cache) edit() *cacheEditor {
	if c == nil {
		return nil
	}
	return &cacheEditor{*c, c.order.Edit(), c.writes.Edit()}
}

func (e *cacheEditor) finish() *cache {
	if e == nil {
		return nil
	}
	c := e.cache
	c.order, c.writes = e.newOrder.Table(), e.newWrites.Table()
	return &c
}

// wrote is told of each entry that is written.
func (e *cacheEditor) wrote(key []byte) {
	if e == nil {
		return
	}
	e.gone(key)
	e.last++
	n := number(e.last)
	e.newOrder.Put(n, key)
	e.newWrites.Put(key, n)
}

// gone is told of each entry that is removed.
func (e *cacheEditor) gone(key []byte) {
	if e == nil {
		return
	}
	if n, ok := e.newWrites.Get(key); ok {
		e.newOrder.Delete(n)
		e.newWrites.Delete(key)
	}
}

// pass moves the clock, and marks the writes so far. Where it does not move there is nothing to mark: what was written
// since it stands there may be younger than that.
func (e *cacheEditor) pass(to, expireAfter time.Duration) {
	if to == e.clock {
		return
	}
	e.clock = to
	newest := mark{}
	if n := len(e.marks); n > 0 {
		newest = e.marks[n-1]
		if to-newest.Time < expireAfter/marksPerLife {
			return
		}
	}
	if e.last > newest.Number {
		e.marks = append(slices.Clone(e.marks), mark{e.last, to})
	}
}

// due returns the number up to which writes are older than expireAfter.
func (c *cache) due(expireAfter time.Duration) uint64 {
	due := uint64(0)
	for _, m := range c.marks {
		if c.clock-m.Time < expireAfter {
			break
		}
		due = m.Number
	}
	return due
}

// Overdue reports whether entries of the table have to go now, as far as its clock tells.
func (t *Table) Overdue() bool {
	if t.cache == nil {
		return false
	}
	if t.Settings.MaxEntries > 0 && int64(t.Len()) > t.Settings.MaxEntries {
		return true
	}
	first, _, ok := t.cache.order.Next(nil)
	return ok && t.Settings.ExpireAfter > 0 && binary.BigEndian.Uint64(first) <= t.cache.due(t.Settings.ExpireAfter)
}

// Clock returns how much time has passed since expire-after was set, as far as Expire commands have told.
func (t *Table) Clock() time.Duration {
	if t.cache == nil {
		return 0
	}
	return t.cache.clock
}

// settle gives a table these settings, and the order that they need. before is the version of the table whose order
// goes on, nil if there is none.
func (t *Table) settle(settings dict.Settings, before *Table) {
	t.Settings, t.cache = settings, nil
	switch {
	case !settings.Bounded():
		return
	case before == nil || before.cache == nil:
		t.cache = newCache(t.Table)
	case before.Table == t.Table:
		c := *before.cache
		t.cache = &c
	default: // what a load leaves as it was is not written
		e := before.cache.edit()
		for c := range Diff(before.Table, t.Table) {
			if c.New == nil {
				e.gone(c.Key)
			} else {
				e.wrote(c.Key)
			}
		}
		t.cache = e.finish()
	}
	if settings.ExpireAfter == 0 {
		t.cache.marks = nil
	}
}

// set changes the settings of a table.
func (a *apply) set(c *Set) Result {
	t, ok := a.tables[c.Table]
	if !ok {
		return Result{Status: NoTable}
	}
	next := t.Settings.With(c.Change)
	if err := next.Check(t.Type); err != nil {
		return refused(err)
	}
	if next == t.Settings {
		return Result{}
	}
	a.own()
	changed := *t
	changed.Version = a.index
	changed.settle(next, t)
	a.tables[c.Table] = &changed
	a.trim(c.Table)
	return Result{}
}

// expire moves the clock of a table from where the sender has seen it, and takes out what is due.
func (a *apply) expire(c *Expire) Result {
	e := a.edit(c.Table)
	switch {
	case e == nil:
		return Result{Status: NoTable}
	case e.cache == nil || c.To < c.From:
		return Result{}
	case e.cache.clock != c.From:
		return Result{Status: Conflict}
	}
	if e.settings.ExpireAfter > 0 {
		e.cache.pass(c.To, e.settings.ExpireAfter)
	}
	a.trim(c.Table)
	return Result{}
}

// trim takes out the entries of a table that have to go, those written longest ago first.
func (a *apply) trim(table string) {
	if t := a.tables[table]; a.editors[table] == nil && t != nil && t.cache == nil {
		return // to edit it would only make it anew, and have its rules compiled again
	}
	e := a.edit(table)
	if e == nil || e.cache == nil {
		return
	}
	due := uint64(0)
	if e.settings.ExpireAfter > 0 {
		due = e.cache.due(e.settings.ExpireAfter)
	}
	for ; a.room > 0; a.room-- {
		over := e.settings.MaxEntries > 0 && int64(e.Len()) > e.settings.MaxEntries
		if due == 0 && !over {
			break
		}
		n, key, ok := e.cache.newOrder.First()
		old := ok && binary.BigEndian.Uint64(n) <= due
		if !ok || !old && !over {
			break
		}
		value, had := e.Get(key)
		a.record(&Op{Kind: OpDelete, Way: WayExpiry, Table: table, Key: key}, value, had)
		e.Delete(key)
		e.cache.gone(key)
		e.version = a.index
		if old {
			e.cache.expired++
		} else {
			e.cache.evicted++
		}
	}
	e.cache.forgetMarks()
}

// forgetMarks lets go of the marks of which no entry is left.
func (e *cacheEditor) forgetMarks() {
	if len(e.marks) == 0 {
		return
	}
	oldest := e.last + 1
	if n, _, ok := e.newOrder.First(); ok {
		oldest = binary.BigEndian.Uint64(n)
	}
	i := 0
	for i < len(e.marks) && e.marks[i].Number < oldest {
		i++
	}
	e.marks = e.marks[i:]
}

// appendTo appends all of a table's settings and of its cache that nodes have to agree on.
func (t *Table) appendTo(buf []byte) []byte {
	word := func(n uint64) { buf = binary.LittleEndian.AppendUint64(buf, n) }
	word(uint64(t.Settings.MaxEntries))
	for _, d := range []time.Duration{t.Settings.ExpireAfter, t.Settings.WriteDeadline, t.Settings.MaxStaleness} {
		word(uint64(d))
	}
	if c := t.cache; c != nil {
		digest := c.order.Digest()
		buf = append(buf, digest[:]...)
		word(c.last)
		word(uint64(c.clock))
		word(c.expired)
		word(c.evicted)
		for _, m := range c.marks {
			word(m.Number)
			word(uint64(m.Time))
		}
	}
	return buf
}

// A cacheFrame is what a snapshot says of a table with settings.
type cacheFrame struct {
	MaxEntries    int64         `json:"max_entries,omitempty"`
	ExpireAfter   time.Duration `json:"expire_after,omitempty"` // durations in nanoseconds
	WriteDeadline time.Duration `json:"write_deadline,omitempty"`
	MaxStaleness  time.Duration `json:"max_staleness,omitempty"`

	// Of a table whose order comes in the blocks behind the frame, as in raft's own snapshots. Without, its entries
	// count as written when the snapshot is put in place.
	Ordered bool          `json:"ordered,omitempty"`
	Last    uint64        `json:"last,omitempty"`
	Clock   time.Duration `json:"clock,omitempty"`
	Marks   []mark        `json:"marks,omitempty"`
	Expired uint64        `json:"expired,omitempty"`
	Evicted uint64        `json:"evicted,omitempty"`
}

func (t *Table) cacheFrame(ordered bool) cacheFrame {
	s := t.Settings
	f := cacheFrame{MaxEntries: s.MaxEntries, ExpireAfter: s.ExpireAfter, WriteDeadline: s.WriteDeadline, MaxStaleness: s.MaxStaleness}
	if c := t.cache; ordered && c != nil {
		f.Ordered, f.Last, f.Clock, f.Marks, f.Expired, f.Evicted = true, c.last, c.clock, c.marks, c.expired, c.evicted
	}
	return f
}

func (f *cacheFrame) settings() dict.Settings {
	return dict.Settings{MaxEntries: f.MaxEntries, ExpireAfter: f.ExpireAfter, WriteDeadline: f.WriteDeadline, MaxStaleness: f.MaxStaleness}
}

// restore makes of a table the one that the frame is about. order is empty where the frame has none.
func (f *cacheFrame) restore(t *Table, order *packed.Table) error {
	if err := f.settings().Check(t.Type); err != nil {
		return err
	}
	if !f.Ordered {
		if order.Len() > 0 {
			return fmt.Errorf("order of entries that are not ordered")
		}
		t.settle(f.settings(), nil)
		return nil
	}
	c := &cache{order: order, last: f.Last, clock: f.Clock, marks: f.Marks, expired: f.Expired, evicted: f.Evicted}
	if !f.settings().Bounded() || order.Len() != t.Len() || c.clock < 0 {
		return fmt.Errorf("order of %d entries for %d", order.Len(), t.Len())
	}
	type write struct{ key, number []byte }
	writes := make([]write, 0, order.Len())
	for n, key := range order.All() {
		if len(n) != 8 || binary.BigEndian.Uint64(n) > c.last {
			return fmt.Errorf("number %x of a write, the last was %d", n, c.last)
		}
		writes = append(writes, write{key, n})
	}
	slices.SortFunc(writes, func(a, b write) int { return bytes.Compare(a.key, b.key) })
	i, fits := 0, true
	for key := range t.All() {
		fits = fits && bytes.Equal(key, writes[i].key)
		i++
	}
	if !fits {
		return fmt.Errorf("order of other entries than those of the table")
	}
	for i, m := range c.marks {
		if m.Number > c.last || m.Time > c.clock || m.Time < 0 || i > 0 && (m.Number <= c.marks[i-1].Number || m.Time <= c.marks[i-1].Time) {
			return fmt.Errorf("mark %d is out of order", i)
		}
	}
	built, err := packed.Build(func(yield func(key, value []byte) bool) {
		for _, w := range writes {
			if !yield(w.key, w.number) {
				return
			}
		}
	})
	if err != nil {
		return err
	}
	c.writes = built
	t.Settings, t.cache = f.settings(), c
	return nil
}

// Each yields all tables, in no order.
func (s *State) Each() iter.Seq2[string, *Table] {
	return func(yield func(string, *Table) bool) {
		for name, t := range s.tables {
			if !yield(name, t) {
				return
			}
		}
	}
}

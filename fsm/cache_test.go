package fsm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"postraft/dict"
	"postraft/fsm/packed"
)

// sound checks that the order of a table's entries is one of its entries, and that both ways through it agree.
func sound(t testing.TB, s *State) {
	t.Helper()
	for name, table := range s.Each() {
		if (table.cache != nil) != table.Settings.Bounded() {
			t.Fatalf("%s has the settings %+v and the order %v", name, table.Settings, table.cache)
		}
		c := table.cache
		if c == nil {
			continue
		}
		if c.order.Len() != table.Len() || c.writes.Len() != table.Len() {
			t.Fatalf("%s has %d entries, its order %d and %d", name, table.Len(), c.order.Len(), c.writes.Len())
		}
		for n, key := range c.order.All() {
			back, ok := c.writes.Get(key)
			_, there := table.Get(key)
			if !ok || !there || !bytes.Equal(back, n) || binary.BigEndian.Uint64(n) > c.last {
				t.Fatalf("%s: entry %q has number %x, and %x by its key; there: %v", name, key, n, back, there)
			}
		}
	}
}

// cached makes a table with settings.
func (m *machine) cached(name string, s dict.Settings) {
	m.t.Helper()
	if r := m.do(Command{Create: &Create{Name: name, Type: dict.TypeHash, Settings: s}}); r.Status != Applied {
		m.t.Fatalf("create %s: %+v", name, r)
	}
}

// set changes settings.
func (m *machine) set(name string, c dict.SettingsChange) Result {
	m.t.Helper()
	return m.do(Command{Set: &Set{name, c}})
}

// pass lets time pass for a table.
func (m *machine) pass(name string, d time.Duration) {
	m.t.Helper()
	t, _ := m.f.State().Table(name)
	if r := m.do(Command{Expire: &Expire{name, t.Clock(), t.Clock() + d}}); r.Status != Applied {
		m.t.Fatalf("expire: %+v", r)
	}
	sound(m.t, m.f.State())
}

// keys are the keys of a table, with its counts of what has gone.
func (m *machine) keys(name string) string {
	t, _ := m.f.State().Table(name)
	var keys []string
	for k := range t.All() {
		keys = append(keys, string(k))
	}
	i := t.info(name)
	return fmt.Sprintf("%s, %d expired, %d evicted", strings.Join(keys, " "), i.Expired, i.Evicted)
}

func (m *machine) wantKeys(name, want string) {
	m.t.Helper()
	sound(m.t, m.f.State())
	if got := m.keys(name); got != want {
		m.t.Fatalf("%s holds %s; want %s", name, got, want)
	}
}

// TestFSM_Expiry ensures that an entry goes once so much time was told since it was written last, with whatever
// value, and not before.
func TestFSM_Expiry(t *testing.T) {
	m := newMachine(t)
	m.cached("c", dict.Settings{ExpireAfter: time.Minute})
	m.put("c", "a", "1")
	m.put("c", "b", "1")
	m.pass("c", 30*time.Second) // a and b were written before this
	m.put("c", "a", "1")        // the same again is a refresh
	m.put("c", "c", "1")
	m.pass("c", 59*time.Second)
	m.wantKeys("c", "a b c, 0 expired, 0 evicted")
	m.pass("c", time.Second)
	m.wantKeys("c", "a c, 1 expired, 0 evicted")
	m.remove("c", "c")
	m.put("c", "d", "1")
	if c := m.f.State(); c.tables["c"].Overdue() {
		t.Fatal("something is overdue behind its expiry")
	}
	m.pass("c", time.Hour) // a was written before the mark at 30 s + 60 s at the latest, d before this one
	m.wantKeys("c", "d, 2 expired, 0 evicted")
	m.pass("c", time.Minute)
	m.wantKeys("c", ", 3 expired, 0 evicted")
	if table, _ := m.f.State().Table("c"); len(table.cache.marks) != 0 {
		t.Fatalf("marks of an empty table: %v", table.cache.marks)
	}
	m.put("c", "e", "1") // time that passed while there was nothing does not count
	m.pass("c", 1000*time.Hour)
	m.wantKeys("c", "e, 3 expired, 0 evicted")
}

// TestFSM_ExpiryOnce ensures that a command whose sender has seen another time on the table's clock lets no time
// pass: neither one that is late, nor one that comes twice, nor one about a table that was made anew.
func TestFSM_ExpiryOnce(t *testing.T) {
	m := newMachine(t)
	m.cached("c", dict.Settings{ExpireAfter: time.Minute})
	m.put("c", "a", "1")
	m.pass("c", time.Second)
	for _, e := range []Expire{{"c", 0, time.Hour}, {"c", time.Hour, 2 * time.Hour}, {"c", time.Minute, time.Second}, {"c", -1, 1 << 62}} {
		m.do(Command{Expire: &e})
		if table, _ := m.f.State().Table("c"); table.Clock() != time.Second {
			t.Fatalf("%+v has moved the clock to %v", e, table.Clock())
		}
	}
	m.do(Command{Drop: &Drop{"c"}})
	if r := m.do(Command{Expire: &Expire{"c", time.Second, time.Hour}}); r.Status != NoTable {
		t.Fatalf("expiry in a table that is not there: %+v", r)
	}
	m.cached("c", dict.Settings{ExpireAfter: time.Minute})
	m.put("c", "a", "1")
	m.do(Command{Expire: &Expire{"c", time.Second, time.Hour}})
	m.pass("c", time.Second)
	m.wantKeys("c", "a, 0 expired, 0 evicted")
	m.create("plain")
	m.put("plain", "a", "1")
	m.do(Command{Expire: &Expire{"plain", 0, time.Hour}})
	m.want("plain", "a", "1")
}

// TestFSM_MaxEntries ensures that the entries written longest ago make room, in the log entry that needs it.
func TestFSM_MaxEntries(t *testing.T) {
	m := newMachine(t)
	m.cached("c", dict.Settings{MaxEntries: 3})
	for _, key := range []string{"z", "y", "x"} {
		m.put("c", key, "1")
	}
	m.put("c", "z", "2") // y is the oldest now
	m.put("c", "w", "1")
	m.wantKeys("c", "w x z, 0 expired, 1 evicted")
	r := m.do(Command{Write: &Write{Ops: []Op{
		{Kind: OpUpdate, Table: "c", Key: []byte("1"), Value: []byte("v")}, {Kind: OpUpdate, Table: "c", Key: []byte("2"), Value: []byte("v")}, {Kind: OpUpdate, Table: "c", Key: []byte("3"), Value: []byte("v")}, {Kind: OpUpdate, Table: "c", Key: []byte("4"), Value: []byte("v")},
	}}})
	if !slices.Equal(r.Ops, []OpStatus{OpDone, OpDone, OpDone, OpDone}) {
		t.Fatalf("%+v", r)
	}
	m.wantKeys("c", "2 3 4, 0 expired, 5 evicted")
	two := int64(2)
	m.set("c", dict.SettingsChange{MaxEntries: &two})
	m.wantKeys("c", "3 4, 0 expired, 6 evicted")
	records, _ := m.f.History().Since("c", m.index-1)
	if len(records) != 1 || string(records[0].Key) != "2" || records[0].New != nil || string(records[0].Old) != "v" {
		t.Fatalf("the history has %+v of what went", records)
	}
	was, ok := m.f.History().At(m.f.State(), "c", m.index-1)
	if !ok || was.Len() != 3 || was.Settings.MaxEntries != 2 {
		t.Fatalf("the table before: %+v", was)
	}
}

// TestFSM_TrimBounded ensures that one command takes out so many entries at most, however many are due, and that
// the next ones go on.
func TestFSM_TrimBounded(t *testing.T) {
	m := newMachine(t)
	m.cached("c", dict.Settings{ExpireAfter: time.Minute})
	for i := range trimLimit + 10 {
		m.put("c", fmt.Sprint(i), "v")
	}
	m.pass("c", time.Second)
	m.pass("c", time.Minute)
	if table, _ := m.f.State().Table("c"); table.Len() != 10 || !table.Overdue() {
		t.Fatalf("%d entries are left, overdue: %v", table.Len(), table.Overdue())
	}
	m.pass("c", 0)
	if table, _ := m.f.State().Table("c"); table.Len() != 0 || table.Overdue() {
		t.Fatalf("%d entries are left, overdue: %v", table.Len(), table.Overdue())
	}
	for i := range trimLimit + 10 {
		m.put("c", fmt.Sprint(i), "v")
	}
	off, one := time.Duration(0), int64(1)
	m.set("c", dict.SettingsChange{ExpireAfter: &off, MaxEntries: &one})
	if table, _ := m.f.State().Table("c"); table.Len() != 10 || !table.Overdue() {
		t.Fatalf("%d entries are left, overdue: %v", table.Len(), table.Overdue())
	}
	m.pass("c", 0)
	m.wantKeys("c", "1033, 1034 expired, 1033 evicted")
}

// TestFSM_Settings ensures that a change is what it names and nothing else, that entries count as written when
// expiry begins, and that loads keep settings and do not refresh what they leave alone.
func TestFSM_Settings(t *testing.T) {
	m := newMachine(t)
	m.create("c")
	m.put("c", "a", "1")
	m.put("c", "b", "1")
	minute, stale, off := time.Minute, time.Second, time.Duration(0)
	for _, c := range []struct {
		table  string
		change dict.SettingsChange
		status Status
		want   dict.Settings
	}{
		{"none", dict.SettingsChange{ExpireAfter: &minute}, NoTable, dict.Settings{}},
		{"c", dict.SettingsChange{}, Applied, dict.Settings{}},
		{"c", dict.SettingsChange{ExpireAfter: &minute}, Applied, dict.Settings{ExpireAfter: minute}},
		{"c", dict.SettingsChange{MaxStaleness: &stale}, Applied, dict.Settings{ExpireAfter: minute, MaxStaleness: stale}},
		{"c", dict.SettingsChange{WriteDeadline: &minute}, Refused, dict.Settings{ExpireAfter: minute, MaxStaleness: stale}},
		{"c", dict.SettingsChange{WriteDeadline: &stale}, Applied, dict.Settings{ExpireAfter: minute, MaxStaleness: stale, WriteDeadline: stale}},
		{"c", dict.SettingsChange{MaxStaleness: &off}, Applied, dict.Settings{ExpireAfter: minute, WriteDeadline: stale}},
	} {
		r := m.set(c.table, c.change)
		if table, ok := m.f.State().Table(c.table); r.Status != c.status || ok && table.Settings != c.want {
			t.Fatalf("%+v: %+v", c, r)
		}
	}
	m.pass("c", time.Second)
	m.put("c", "b", "2")
	m.pass("c", minute-time.Second)
	m.wantKeys("c", "a b, 0 expired, 0 evicted")
	m.load(ID{1}, "c", map[string]string{"a": "1", "b": "2", "c": "new"})
	m.do(Command{Commit: &StageCommit{IDs: []ID{{1}}}})
	m.pass("c", time.Second)
	m.wantKeys("c", "b c, 1 expired, 0 evicted")
	m.load(ID{2}, "c", map[string]string{"b": "2"})
	m.do(Command{Commit: &StageCommit{IDs: []ID{{2}}, Only: true}})
	m.wantKeys("c", "b, 1 expired, 0 evicted")
	if table, _ := m.f.State().Table("c"); table.Settings.ExpireAfter != minute {
		t.Fatalf("settings after loads: %+v", table.Settings)
	}
	m.do(Command{Begin: &StageBegin{ID: ID{3}, Table: "c", Type: dict.TypeHash, Settings: dict.Settings{MaxEntries: 5}}})
	m.do(Command{Commit: &StageCommit{IDs: []ID{{3}}}})
	if table, _ := m.f.State().Table("c"); table.Settings != (dict.Settings{MaxEntries: 5}) {
		t.Fatalf("settings of a load: %+v", table.Settings)
	}
	m.set("c", dict.Settings{}.Change())
	m.put("c", "x", "1")
	sound(t, m.f.State())

	m.loadRules(ID{4}, "nets", dict.TypeCIDR, map[string]string{"00000001": "10.0.0.0/8 x"})
	if r := m.set("nets", dict.SettingsChange{ExpireAfter: &minute}); r.Status != Refused {
		t.Fatalf("expiry of rules: %+v", r)
	}
	if r := m.set("nets", dict.SettingsChange{MaxStaleness: &stale}); r.Status != Applied {
		t.Fatalf("staleness of rules: %+v", r)
	}
	m.want("nets", "10.1.1.1", "x")
	if r := m.do(Command{Create: &Create{Name: "bad", Type: dict.TypeHash, Settings: dict.Settings{MaxEntries: -1}}}); r.Status != Refused {
		t.Fatalf("create with bad settings: %+v", r)
	}
}

// caches drives a machine with caches at random.
func caches(t testing.TB, steps int) *machine {
	m := newMachine(t)
	rng := rand.New(rand.NewPCG(7, 7))
	m.cached("c", dict.Settings{ExpireAfter: time.Minute, MaxEntries: 300})
	m.cached("d", dict.Settings{ExpireAfter: 10 * time.Second})
	m.create("plain")
	for i := range steps {
		table := []string{"c", "d", "plain"}[rng.IntN(3)]
		key := fmt.Sprint("key", rng.IntN(500))
		switch n := rng.IntN(100); {
		case n < 75:
			m.put(table, key, fmt.Sprint(rng.IntN(3)))
		case n < 85:
			m.remove(table, key)
		case n < 95 && table != "plain":
			m.pass(table, time.Duration(rng.IntN(1000))*time.Millisecond)
		case n == 95:
			m.load(ID{9, byte(i), byte(i >> 8)}, table, map[string]string{key: "loaded", key + "x": "loaded"})
			m.do(Command{Commit: &StageCommit{IDs: []ID{{9, byte(i), byte(i >> 8)}}, Merge: true}})
		case n == 96:
			limit := int64(rng.IntN(400))
			m.set("c", dict.SettingsChange{MaxEntries: &limit})
		case n == 97:
			after := time.Duration(1+rng.IntN(60)) * time.Second
			m.set("d", dict.SettingsChange{ExpireAfter: &after})
		}
	}
	m.do(Command{Begin: &StageBegin{ID: ID{8}, Table: "e", Type: dict.TypeHash, Settings: dict.Settings{MaxEntries: 9}}})
	return m
}

// TestFSM_CachesEqual ensures that nodes which apply the same log hold the same, in whatever portions they get it,
// and also where they begin with a snapshot of another one; and that they go on so.
func TestFSM_CachesEqual(t *testing.T) {
	m := caches(t, 3000)
	one := New(Options{})
	for rest := m.logs; len(rest) > 0; {
		n := min(1+len(rest)%37, len(rest))
		one.ApplyBatch(rest[:n])
		rest = rest[n:]
	}
	half := New(Options{})
	half.ApplyBatch(m.logs[:len(m.logs)/2])
	other := New(Options{})
	if err := other.Restore(io.NopCloser(bytes.NewReader(persist(t, half)))); err != nil {
		t.Fatal(err)
	}
	other.ApplyBatch(m.logs[len(m.logs)/2:])
	want, bytesWanted := m.f.Checkpoints(), persist(t, m.f)
	for name, f := range map[string]*FSM{"by portions": one, "from a snapshot": other} {
		sound(t, f.State())
		got := f.Checkpoints()
		if got[len(got)-1] != want[len(want)-1] || !slices.Equal(f.State().Tables(), m.f.State().Tables()) || !bytes.Equal(persist(t, f), bytesWanted) {
			t.Errorf("%s: %v, %+v; want %v, %+v", name, got, f.State().Tables(), want, m.f.State().Tables())
		}
	}
	if c, d := m.f.State().tables["c"].info("c"), m.f.State().tables["d"].info("d"); c.Evicted == 0 || d.Expired == 0 {
		t.Errorf("the log lets nothing go: %+v %+v", c, d)
	}
	// The order is part of what is compared.
	x := New(Options{})
	x.ApplyBatch(m.logs)
	x.State().tables["d"].cache.last++
	if got := x.Checkpoints(); got[len(got)-1] == want[len(want)-1] {
		t.Error("a node that counts differently has an equal checkpoint")
	}
}

// TestSnapshot_Settings ensures that a snapshot file for the operator carries settings, with which entries count as
// written when it is put in place, and that one without caches is what an older version reads.
func TestSnapshot_Settings(t *testing.T) {
	m := newMachine(t)
	m.cached("c", dict.Settings{ExpireAfter: time.Minute, MaxEntries: 10, WriteDeadline: time.Second, MaxStaleness: time.Hour})
	m.put("c", "b", "1")
	m.put("c", "a", "1")
	m.pass("c", 30*time.Second)
	s, err := ReadSnapshot(bytes.NewReader(mustWrite(t, m.f.State())))
	if err != nil {
		t.Fatal(err)
	}
	sound(t, s.State)
	table, _ := s.Table("c")
	if was, _ := m.f.State().Table("c"); table.Settings != was.Settings || table.Clock() != 0 || table.Digest() != was.Digest() {
		t.Errorf("read: %+v", table)
	}
	m.set("c", dict.Settings{}.Change())
	if b := mustWrite(t, m.f.State()); bytes.Contains(b, []byte("expire_after")) {
		t.Error("a table without settings brings some")
	}
	for name, bad := range map[string]func(*cacheFrame){
		"limit": func(f *cacheFrame) { f.MaxEntries = -1 }, "order": func(f *cacheFrame) { f.Last = 0 }, "marks": func(f *cacheFrame) { f.Marks = []mark{{1, -1}} },
		"no order": func(f *cacheFrame) { f.Ordered = false }, "not bounded": func(f *cacheFrame) { *f = cacheFrame{Ordered: true, MaxStaleness: time.Hour} },
	} {
		m := newMachine(t)
		m.cached("c", dict.Settings{MaxEntries: 10})
		m.put("c", "b", "1")
		table, _ := m.f.State().Table("c")
		f := table.cacheFrame(true)
		bad(&f)
		if err := f.restore(newTable(table.Table, table.Type, 1), table.cache.order); err == nil {
			t.Errorf("bad %s is taken", name)
		}
		f = table.cacheFrame(true)
		if err := f.restore(newTable(table.Table, table.Type, 1), newCache(blockTable(t, "x")).order); err == nil {
			t.Error("the order of another table is taken")
		}
	}
}

func blockTable(t testing.TB, key string) *packed.Table {
	t.Helper()
	e := new(packed.Table).Edit()
	e.Put([]byte(key), nil)
	return e.Table()
}

// TestCommandLevel ensures that each command is taken for what the older programs in a cluster can carry out.
func TestCommandLevel(t *testing.T) {
	limit := dict.Settings{MaxEntries: 1}
	for level, commands := range map[int][]Command{
		1: {
			{Write: &Write{}}, {Create: &Create{Name: "t", Type: dict.TypeHash}}, {Begin: &StageBegin{Type: dict.TypeHash}}, {Drop: &Drop{}}, {Lead: &Lead{}},
			{Expire: &Expire{"t", 0, 1}}, // only a cluster that can has tables for it
		},
		2: {{DeleteIf: &DeleteIf{}}, {Create: &Create{Name: "t", Type: dict.TypeCIDR}}, {Begin: &StageBegin{Type: dict.TypePCRE}}},
		3: {{Set: &Set{}}, {Create: &Create{Name: "t", Type: dict.TypeHash, Settings: limit}}, {Begin: &StageBegin{Type: dict.TypeHash, Settings: limit}}},
	} {
		for _, c := range commands {
			if got := CommandLevel(EncodeCommand(nil, &c)); got != level {
				t.Errorf("%+v is of level %d, want %d", c, got, level)
			}
		}
	}
}

// BenchmarkApply_Cache is BenchmarkApply for a table with both limits, beside one without.
func BenchmarkApply_Cache(b *testing.B) {
	for _, s := range []dict.Settings{{}, {ExpireAfter: dict.Day, MaxEntries: 90_000}} {
		b.Run(fmt.Sprintf("bounded=%v", s.Bounded()), func(b *testing.B) {
			m := newMachine(b)
			m.cached("t", s)
			for i := uint64(1); b.Loop(); i++ {
				w := &Write{}
				for j := range 64 {
					w.Ops = append(w.Ops, Op{Kind: OpUpdate, Table: "t", Key: fmt.Appendf(nil, "user%d@example.com", rand.IntN(100000)), Value: fmt.Appendf(nil, "value%d", j)})
				}
				entry := AppendCommand(AppendEntry(nil), EncodeCommand(nil, &Command{ID: WriteID{ID{3}, i}, Write: w}))
				m.index++
				m.f.Apply(&raft.Log{Index: m.index, Term: 1, Type: raft.LogCommand, Data: entry})
			}
		})
	}
}

// TestFSM_DeltaInFullCache ensures that changes sent as such to a table that is full remove what they remove before they
// add, so that they push out no entry that is to stay.
func TestFSM_DeltaInFullCache(t *testing.T) {
	m := newMachine(t)
	m.cached("c", dict.Settings{MaxEntries: 4})
	for _, key := range []string{"a", "b", "c", "d"} {
		m.put("c", key, "1")
	}
	m.load(ID{1}, "c", map[string]string{"x": "1", "y": "1"})
	m.load(ID{2}, "c", map[string]string{"c": "", "d": ""})
	table, _ := m.f.State().Table("c")
	r := m.do(Command{Commit: &StageCommit{IDs: []ID{{1}}, Delta: &StageDelta{Gone: ID{2}, IfVersion: table.Version}}})
	if r.Status != Applied {
		t.Fatalf("%+v", r)
	}
	m.wantKeys("c", "a b x y, 0 expired, 0 evicted")
}

// TestFSM_ExpiryNoTime ensures that a command which only goes on with taking out says nothing of the age of what was
// written since the clock was moved last.
func TestFSM_ExpiryNoTime(t *testing.T) {
	m := newMachine(t)
	m.cached("c", dict.Settings{ExpireAfter: time.Minute})
	m.put("c", "a", "1")
	m.pass("c", 10*time.Second)
	m.pass("c", 20*time.Second)
	m.put("c", "b", "1") // perhaps just before the next command, so it counts from that
	m.pass("c", 0)
	m.pass("c", 30*time.Second)
	m.pass("c", 30*time.Second)
	m.wantKeys("c", "b, 1 expired, 0 evicted")
	m.pass("c", 30*time.Second)
	m.wantKeys("c", ", 2 expired, 0 evicted")
}

// TestFSM_TrimBoundedBatch ensures that a batch of many writes does not take out as much for each of them as a whole
// command may.
func TestFSM_TrimBoundedBatch(t *testing.T) {
	m := newMachine(t)
	m.cached("c", dict.Settings{ExpireAfter: time.Hour})
	const count = 8 * trimLimit
	w := &Write{}
	for i := range count {
		w.Ops = append(w.Ops, Op{Kind: OpUpdate, Table: "c", Key: fmt.Append(nil, i), Value: []byte("v")})
	}
	m.do(Command{Write: w})
	one := int64(1)
	m.set("c", dict.SettingsChange{MaxEntries: &one})
	before, _ := m.f.State().Table("c")
	w = &Write{}
	for i := range 8 {
		w.Ops = append(w.Ops, Op{Kind: OpUpdate, Table: "c", Key: fmt.Append(nil, "new", i), Value: []byte("v")})
	}
	m.do(Command{Write: w})
	after, _ := m.f.State().Table("c")
	if took := before.Len() + len(w.Ops) - after.Len(); took > trimLimit+len(w.Ops) {
		t.Fatalf("one command took out %d entries, %d is the bound", took, trimLimit+len(w.Ops))
	}
	sound(t, m.f.State())
}

// TestFSM_DoubtOfBounds ensures that whatever may have taken entries out of a table that is bounded leaves all of it in doubt.
func TestFSM_DoubtOfBounds(t *testing.T) {
	most := int64(2)
	for what, change := range map[string]func(*machine){
		"a write":     func(m *machine) { m.put("bounded", "c", "3") },
		"a new bound": func(m *machine) { m.set("free", dict.SettingsChange{MaxEntries: &most}) },
		"time":        func(m *machine) { m.pass("bounded", time.Hour) },
	} {
		m := newMachine(t)
		m.cached("bounded", dict.Settings{MaxEntries: 2, ExpireAfter: time.Minute})
		m.create("free")
		for _, table := range []string{"bounded", "free"} {
			m.put(table, "a", "1")
			m.put(table, "b", "2")
		}
		replica := New(Options{})
		replica.ApplyBatch(m.logs)
		m.logs = nil
		change(m)
		replica.SetDoubt(m.logs)
		table := "bounded"
		if what == "a new bound" {
			table = "free"
		}
		for _, key := range []string{"a", "b"} {
			if _, _, err := replica.State().Lookup(table, []byte(key)); !errors.Is(err, dict.ErrRetry) {
				t.Errorf("%s: lookup of %s in %s: %v", what, key, table, err)
			}
		}
	}
}

// TestFSM_CheckpointOnce ensures that an entry that comes again, as those do that were applied ahead of raft, makes no second
// checkpoint, which would push out an older one.
func TestFSM_CheckpointOnce(t *testing.T) {
	m := newMachine(t)
	m.create("t")
	for m.f.State().Index < checkpointEvery {
		m.put("t", "k", "v")
	}
	before := len(m.f.Checkpoints())
	m.f.ApplyBatch(m.logs[len(m.logs)-1:])
	if after := len(m.f.Checkpoints()); before < 1 || after != before {
		t.Errorf("%d checkpoints, then %d", before, after)
	}
	// Nor do those that come once applying has ended.
	for i := range uint64(3) {
		m.f.ApplyBatch([]*raft.Log{{Index: checkpointEvery + 1 + i, Term: 1, Type: raft.LogCommand, Data: []byte("?")}})
	}
	if after := len(m.f.Checkpoints()); m.f.Err() == nil || after != before {
		t.Errorf("%d checkpoints before applying has ended, %d after; %v", before, after, m.f.Err())
	}
}

package fsm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/hashicorp/raft"

	"postraft/dict"
	"postraft/fsm/packed"
)

// machine drives an FSM as raft would.
type machine struct {
	t     testing.TB
	f     *FSM
	index uint64
	term  uint64
	seq   uint64
	logs  []*raft.Log
}

func newMachine(t testing.TB) *machine { return &machine{t: t, f: New(Options{}), term: 1} }

// do applies one command of a session of its own counting.
func (m *machine) do(c Command) Result {
	m.t.Helper()
	m.seq++
	c.ID = WriteID{ID{1}, m.seq}
	return m.apply(c)[0]
}

// apply applies commands in one entry, with the ids that they have.
func (m *machine) apply(commands ...Command) []Result {
	m.t.Helper()
	entry := AppendEntry(nil)
	for i := range commands {
		entry = AppendCommand(entry, EncodeCommand(nil, &commands[i]))
	}
	m.index++
	log := &raft.Log{Index: m.index, Term: m.term, Type: raft.LogCommand, Data: entry}
	m.logs = append(m.logs, log)
	results, ok := m.f.Apply(log).([]Result)
	if !ok {
		m.t.Fatalf("entry %d: %v", m.index, m.f.Err())
	}
	return results
}

func (m *machine) create(name string) {
	m.t.Helper()
	if r := m.do(Command{Create: &Create{Name: name, Type: dict.TypeHash}}); r.Status != Applied {
		m.t.Fatalf("create %s: %+v", name, r)
	}
}

func (m *machine) put(table, key, value string) OpStatus {
	m.t.Helper()
	return m.do(Command{Write: &Write{Ops: []Op{{Table: table, Key: []byte(key), Value: []byte(value)}}}}).Ops[0]
}

func (m *machine) remove(table, key string) OpStatus {
	m.t.Helper()
	return m.do(Command{Write: &Write{Ops: []Op{{Kind: OpDelete, Table: table, Key: []byte(key)}}}}).Ops[0]
}

func (m *machine) want(table, key, value string) {
	m.t.Helper()
	v, found, err := m.f.State().Lookup(table, []byte(key))
	if err != nil || found != (value != "") || string(v) != value {
		m.t.Fatalf("lookup %s %q: %q %v %v, want %q", table, key, v, found, err, value)
	}
}

// TestFSM_Writes ensures that tables are made, changed and dropped, and that each way to miss has its answer.
func TestFSM_Writes(t *testing.T) {
	m := newMachine(t)
	if s := m.put("virtual", "a", "1"); s != OpNoTable {
		t.Fatalf("put without a table: %v", s)
	}
	if _, _, err := m.f.State().Lookup("virtual", []byte("a")); !errors.Is(err, dict.ErrNoTable) || !errors.Is(err, dict.ErrRetry) {
		t.Fatalf("lookup without a table: %v", err)
	}
	m.create("virtual")
	m.put("virtual", "a", "1")
	m.put("virtual", "b", "2")
	m.put("virtual", "a", "3")
	m.want("virtual", "a", "3")
	m.want("virtual", "c", "")
	if s := m.remove("virtual", "a"); s != OpDone {
		t.Fatalf("delete: %v", s)
	}
	if s := m.remove("virtual", "a"); s != OpAbsent {
		t.Fatalf("second delete: %v", s)
	}
	m.want("virtual", "a", "")
	if s := m.put("virtual", string(make([]byte, 5)), "v"); s != OpRefused {
		t.Fatalf("put of a NUL byte: %v", s)
	}
	if r := m.do(Command{Create: &Create{Name: "virtual", Type: dict.TypeHash, MustNotExist: true}}); r.Status != Exists {
		t.Fatalf("create again: %+v", r)
	}
	if r := m.do(Command{Create: &Create{Name: "no/name", Type: dict.TypeHash}}); r.Status != Refused {
		t.Fatalf("create with a bad name: %+v", r)
	}
	if r := m.do(Command{Drop: &Drop{"virtual"}}); r.Status != Applied {
		t.Fatalf("drop: %+v", r)
	}
	if _, _, err := m.f.State().Lookup("virtual", []byte("b")); !errors.Is(err, dict.ErrNoTable) {
		t.Fatalf("lookup after drop: %v", err)
	}
}

// TestFSM_Once ensures that a command that is proposed twice is applied once and answered the same, and
// that one which its session has come past is not applied.
func TestFSM_Once(t *testing.T) {
	m := newMachine(t)
	m.create("t")
	m.put("t", "k", "v")
	del := Command{ID: WriteID{ID{9}, 1}, Write: &Write{Ops: []Op{{Kind: OpDelete, Table: "t", Key: []byte("k")}}}}
	for range 2 {
		if r := m.apply(del)[0]; r.Status != Applied || r.Ops[0] != OpDone {
			t.Fatalf("delete: %+v", r)
		}
	}
	if r, ok := m.f.Outcome(del.ID); !ok || r.Ops[0] != OpDone {
		t.Fatalf("outcome: %+v %v", r, ok)
	}
	m.apply(Command{ID: WriteID{ID{9}, 3}, Write: &Write{}})
	late := Command{ID: WriteID{ID{9}, 2}, Write: &Write{Ops: []Op{{Table: "t", Key: []byte("k"), Value: []byte("late")}}}}
	if r := m.apply(late)[0]; r.Status != Stale {
		t.Fatalf("late command: %+v", r)
	}
	m.want("t", "k", "")
	for i := range maxSessions + 10 { // the table of sessions is bounded
		m.apply(Command{ID: WriteID{ID{2, byte(i), byte(i >> 8)}, 1}, Write: &Write{}})
	}
	if n := len(m.f.sessions); n != maxSessions {
		t.Fatalf("%d sessions are remembered", n)
	}
}

// TestFSM_Conditional ensures that a write with an expected version happens as a whole or not at all.
func TestFSM_Conditional(t *testing.T) {
	m := newMachine(t)
	m.create("t")
	m.put("t", "k", "v")
	table, _ := m.f.State().Table("t")
	w := Write{Ops: []Op{{Table: "t", Key: []byte("k"), Value: []byte("w")}}, IfTable: "t", IfVersion: table.Version + 1}
	if r := m.do(Command{Write: &w}); r.Status != Conflict {
		t.Fatalf("wrong version: %+v", r)
	}
	m.want("t", "k", "v")
	w.IfVersion = table.Version
	if r := m.do(Command{Write: &w}); r.Status != Applied {
		t.Fatalf("right version: %+v", r)
	}
	m.want("t", "k", "w")
}

func blocksOf(t testing.TB, entries map[string]string) [][]byte {
	t.Helper()
	e := new(packed.Table).Edit()
	for k, v := range entries {
		e.Put([]byte(k), []byte(v))
	}
	var blocks [][]byte
	for b := range e.Table().Blocks() {
		blocks = append(blocks, bytes.Clone(b))
	}
	return blocks
}

func (m *machine) load(id ID, table string, chunks ...map[string]string) {
	m.t.Helper()
	m.do(Command{Begin: &StageBegin{ID: id, Table: table, Type: dict.TypeHash}})
	for i, entries := range chunks {
		if r := m.do(Command{Chunk: &StageChunk{id, uint64(i + 1), blocksOf(m.t, entries)}}); r.Status != Applied {
			m.t.Fatalf("chunk: %+v", r)
		}
	}
}

// TestFSM_StageYields ensures that others may run while a chunk of many blocks is applied.
func TestFSM_StageYields(t *testing.T) {
	m := newMachine(t)
	yields := 0
	m.f.opts.Yield = func() { yields++ }
	entries := map[string]string{}
	for i := range 20_000 {
		entries[fmt.Sprint(i)] = "value"
	}
	m.load(ID{1}, "a", entries)
	if blocks := len(blocksOf(t, entries)); blocks < 2*yieldBlocks || yields < blocks/yieldBlocks {
		t.Errorf("others could run %d times during %d blocks", yields, blocks)
	}
}

// TestFSM_Stages ensures that loads are invisible until their commit, swap or merge in one entry, and that
// what does not fit is refused.
func TestFSM_Stages(t *testing.T) {
	m := newMachine(t)
	m.create("a")
	m.put("a", "old", "1")
	m.load(ID{1}, "a", map[string]string{"k1": "v1"}, map[string]string{"k2": "v2"})
	m.load(ID{2}, "b", map[string]string{"x": "y"})
	m.want("a", "k1", "")
	if r := m.do(Command{Chunk: &StageChunk{ID{1}, 2, nil}}); r.Status != NoStage {
		t.Fatalf("repeated chunk: %+v", r)
	}
	if r := m.do(Command{Chunk: &StageChunk{ID{1}, 3, blocksOf(t, map[string]string{"k0": "v"})}}); r.Status != Refused {
		t.Fatalf("chunk out of order: %+v", r)
	}
	if r := m.do(Command{Commit: &StageCommit{IDs: []ID{{1}, {7}}}}); r.Status != NoStage {
		t.Fatalf("commit of an unknown stage: %+v", r)
	}
	if r := m.do(Command{Commit: &StageCommit{IDs: []ID{{1}, {1}}}}); r.Status != NoStage {
		t.Fatalf("commit of one stage twice: %+v", r)
	}
	if r := m.do(Command{Commit: &StageCommit{IDs: []ID{{1}, {2}}}}); r.Status != Applied {
		t.Fatalf("commit: %+v", r)
	}
	m.want("a", "old", "")
	m.want("a", "k1", "v1")
	m.want("b", "x", "y")
	m.load(ID{3}, "a", map[string]string{"k2": "new", "k3": "v3"})
	m.do(Command{Commit: &StageCommit{IDs: []ID{{3}}, Merge: true}})
	m.want("a", "k1", "v1")
	m.want("a", "k2", "new")
	m.load(ID{4}, "c", map[string]string{"k": "v"})
	m.do(Command{Commit: &StageCommit{IDs: []ID{{4}}, Only: true}})
	if infos := m.f.State().Tables(); len(infos) != 1 || infos[0].Name != "c" {
		t.Fatalf("after a commit of the only table: %v", infos)
	}
	m.load(ID{5}, "c")
	m.do(Command{Abort: &StageAbort{ID{5}}})
	if n := len(m.f.Stages()); n != 0 {
		t.Fatalf("%d stages are left", n)
	}
}

// TestFSM_Unreadable ensures that a command from the future stops the applying and is never passed over,
// while lookups go on.
func TestFSM_Unreadable(t *testing.T) {
	unknownField := AppendCommand(AppendEntry(nil), append(EncodeCommand(nil, &Command{Drop: &Drop{"t"}}), 0x7a, 0))
	unknownType := AppendCommand(AppendEntry(nil), EncodeCommand(nil, &Command{Create: &Create{Name: "x", Type: "quantum"}}))
	for name, entry := range map[string][]byte{"version": {2}, "field": unknownField, "type": unknownType, "empty": {}} {
		t.Run(name, func(t *testing.T) {
			var fatal error
			m := newMachine(t)
			m.f.opts.OnFatal = func(err error) { fatal = err }
			m.create("t")
			m.put("t", "k", "v")
			at := m.f.State().Index
			resp := m.f.ApplyBatch([]*raft.Log{
				{Index: m.index + 1, Term: 1, Type: raft.LogCommand, Data: entry},
				{Index: m.index + 2, Term: 1, Type: raft.LogConfiguration},
			})
			if err, ok := resp[0].(error); !ok || !errors.Is(err, ErrUnreadable) || fatal == nil {
				t.Fatalf("response %v, fatal %v", resp[0], fatal)
			}
			if m.f.State().Index != at {
				t.Fatal("the index moved past an entry that was not applied")
			}
			if _, err := m.f.Snapshot(); err == nil {
				t.Fatal("a snapshot was taken of what raft believes applied")
			}
			if err := m.f.WaitIndex(context.Background(), at+1); !errors.Is(err, ErrUnreadable) {
				t.Fatalf("wait: %v", err)
			}
			m.want("t", "k", "v")
		})
	}
}

// TestFSM_Doubt ensures that keys of possibly committed entries are RETRY until a leader settles them.
func TestFSM_Doubt(t *testing.T) {
	m := newMachine(t)
	m.create("t")
	m.create("u")
	m.put("t", "a", "1")
	m.put("t", "b", "1")
	replica := New(Options{})
	replica.ApplyBatch(m.logs)
	m.logs = nil
	m.put("t", "b", "2")
	m.do(Command{Drop: &Drop{"u"}})
	replica.SetDoubt(m.logs)
	r := &machine{t: t, f: replica}
	r.want("t", "a", "1")
	for _, table := range []string{"t", "u"} {
		if _, _, err := replica.State().Lookup(table, []byte("b")); !errors.Is(err, dict.ErrRetry) || errors.Is(err, dict.ErrNoTable) {
			t.Fatalf("lookup of a doubtful key in %s: %v", table, err)
		}
		if _, _, _, err := replica.State().Next(table, nil); !errors.Is(err, dict.ErrRetry) {
			t.Fatalf("sequence of doubtful %s: %v", table, err)
		}
	}
	replica.ApplyBatch(m.logs[:1])
	if !replica.State().InDoubt() {
		t.Fatal("the doubt ended before its last entry")
	}
	// Nor does a snapshot that ends before its last entry end it.
	if err := replica.Restore(io.NopCloser(bytes.NewReader(persist(t, replica)))); err != nil || !replica.State().InDoubt() {
		t.Fatalf("the doubt ended with a snapshot: %v", err)
	}
	// A newer leader never had the drop.
	replica.Apply(&raft.Log{Index: m.index, Term: 2, Type: raft.LogCommand, Data: AppendCommand(AppendEntry(nil), EncodeCommand(nil, &Command{Lead: &Lead{"n"}}))})
	r.want("t", "b", "2")
	r.want("u", "b", "")
}

// busy fills an FSM with tables, sessions and stages.
func busy(t testing.TB) *machine {
	m := newMachine(t)
	m.create("virtual")
	m.create("empty")
	rng := rand.New(rand.NewPCG(1, 1))
	for i := range 2000 {
		m.put("virtual", fmt.Sprintf("user%d@example.com", rng.IntN(1000)), fmt.Sprint(i))
		if i%7 == 0 {
			m.remove("virtual", fmt.Sprintf("user%d@example.com", rng.IntN(1000)))
		}
	}
	m.apply(Command{ID: WriteID{ID{5}, 4}, Write: &Write{Ops: []Op{{Table: "virtual", Key: []byte("s"), Value: []byte("t")}}}})
	m.load(ID{6}, "staged", map[string]string{"k1": "v1"})
	return m
}

type sink struct {
	bytes.Buffer
	closed, cancelled bool
}

func (s *sink) ID() string    { return "test" }
func (s *sink) Close() error  { s.closed = true; return nil }
func (s *sink) Cancel() error { s.cancelled = true; return nil }

func persist(t testing.TB, f *FSM) []byte {
	t.Helper()
	snap, err := f.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	var s sink
	if err := snap.Persist(&s); err != nil || !s.closed {
		t.Fatalf("persist: %v", err)
	}
	return s.Bytes()
}

// TestFSM_Snapshot ensures that a restored node equals the one that wrote the snapshot, in its tables,
// in what it remembers of sessions and stages, and byte for byte in the next snapshot.
func TestFSM_Snapshot(t *testing.T) {
	m := busy(t)
	b := persist(t, m.f)
	m2 := newMachine(t)
	if err := m2.f.Restore(io.NopCloser(bytes.NewReader(b))); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(persist(t, m2.f), b) {
		t.Fatal("the snapshot of the restored node differs")
	}
	m2.index, m2.seq = m.index, m.seq
	for _, x := range []*machine{m, m2} {
		x.do(Command{Chunk: &StageChunk{ID{6}, 2, blocksOf(t, map[string]string{"k2": "v2"})}})
		x.do(Command{Commit: &StageCommit{IDs: []ID{{6}}}})
		x.want("staged", "k2", "v2")
		if r := x.apply(Command{ID: WriteID{ID{5}, 4}, Write: &Write{}})[0]; len(r.Ops) != 1 {
			t.Fatalf("the session was forgotten: %+v", r)
		}
	}
	if !bytes.Equal(persist(t, m2.f), persist(t, m.f)) {
		t.Fatal("the two nodes drift apart")
	}
	old := persist(t, busy(t).f)
	if err := m.f.Restore(io.NopCloser(bytes.NewReader(old))); err != nil {
		t.Fatal(err)
	}
	m.want("staged", "k2", "v2") // an older snapshot does not turn back the clock
}

// TestReadSnapshot_Damage ensures that no changed, missing or added byte of a snapshot passes unseen, and
// that a damaged snapshot changes nothing.
func TestReadSnapshot_Damage(t *testing.T) {
	var buf bytes.Buffer
	m := newMachine(t)
	m.create("t")
	for i := range 60 {
		m.put("t", fmt.Sprint("key", i), fmt.Sprint("value", i))
	}
	if err := WriteSnapshot(&buf, m.f.State(), SnapshotHeader{Node: "n1"}); err != nil {
		t.Fatal(err)
	}
	good := buf.Bytes()
	if s, err := ReadSnapshot(bytes.NewReader(good)); err != nil || s.Node != "n1" || s.Index != m.index {
		t.Fatalf("read: %+v %v", s, err)
	}
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 1 << (i % 8)
		if _, err := ReadSnapshot(bytes.NewReader(bad)); !errors.Is(err, ErrBadSnapshot) {
			t.Fatalf("bit of byte %d: %v", i, err)
		}
		if _, err := ReadSnapshot(bytes.NewReader(good[:i])); !errors.Is(err, ErrBadSnapshot) {
			t.Fatalf("cut at byte %d: %v", i, err)
		}
	}
	if _, err := ReadSnapshot(bytes.NewReader(append(bytes.Clone(good), 0))); !errors.Is(err, ErrBadSnapshot) {
		t.Fatalf("one byte too many: %v", err)
	}
	if err := m.f.Restore(io.NopCloser(bytes.NewReader(good[:len(good)-1]))); err == nil {
		t.Fatal("a damaged snapshot was restored")
	}
	m.want("t", "key1", "value1")
}

// TestFSM_Concurrent ensures that readers and snapshots see whole entries only while applies go on: each
// entry moves one unit between two keys.
func TestFSM_Concurrent(t *testing.T) {
	m := newMachine(t)
	m.create("t")
	pair := func(n int) Command {
		return Command{Write: &Write{Ops: []Op{
			{Table: "t", Key: []byte("a"), Value: fmt.Append(nil, n)}, {Table: "t", Key: []byte("z"), Value: fmt.Append(nil, -n)},
		}}}
	}
	m.do(pair(0))
	done := make(chan struct{})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			last := uint64(0)
			for {
				select {
				case <-done:
					return
				default:
				}
				s := m.f.State()
				a, _, _ := s.Lookup("t", []byte("a"))
				z, _, _ := s.Lookup("t", []byte("z"))
				if string(a) != "0" && "-"+string(a) != string(z) || s.Index < last {
					t.Errorf("a is %s, z is %s, index %d after %d", a, z, s.Index, last)
					return
				}
				last = s.Index
				if s, err := ReadSnapshot(bytes.NewReader(mustWrite(t, s))); err != nil || s.Index != last {
					t.Errorf("snapshot: %v", err)
					return
				}
			}
		})
	}
	for i := range 3000 {
		m.do(pair(i))
	}
	close(done)
	wg.Wait()
}

func mustWrite(t testing.TB, s *State) []byte {
	var buf bytes.Buffer
	if err := WriteSnapshot(&buf, s, SnapshotHeader{}); err != nil {
		t.Error(err)
	}
	return buf.Bytes()
}

// TestDiff ensures that Diff names exactly what differs.
func TestDiff(t *testing.T) {
	build := func(entries map[string]string) *packed.Table {
		e := new(packed.Table).Edit()
		for k, v := range entries {
			e.Put([]byte(k), []byte(v))
		}
		return e.Table()
	}
	var got string
	for c := range Diff(build(map[string]string{"a": "1", "b": "2", "c": "3"}), build(map[string]string{"b": "2", "c": "4", "d": "5"})) {
		got += fmt.Sprintf("%s:%s>%s ", c.Key, c.Old, c.New)
	}
	if got != "a:1> c:3>4 d:>5 " {
		t.Fatal(got)
	}
}

func FuzzDecodeEntry(f *testing.F) {
	m := busy(f)
	for _, log := range m.logs[len(m.logs)-5:] {
		f.Add(log.Data)
	}
	for _, log := range m.logs[:3] {
		f.Add(log.Data)
	}
	for _, log := range caches(f, 40).logs {
		f.Add(log.Data)
	}
	c := mixed(1)
	f.Add(AppendCommand(AppendEntry(nil), EncodeCommand(nil, &c)))
	f.Add(AppendCommand(AppendEntry(nil), EncodeCommand(nil, &Command{Commit: &StageCommit{IDs: []ID{{1}}, Delta: &StageDelta{ID{2}, 3}}})))
	f.Fuzz(func(t *testing.T, b []byte) {
		commands, err := DecodeEntry(b)
		if err != nil {
			if !errors.Is(err, ErrUnreadable) {
				t.Fatal(err)
			}
			return
		}
		entry := AppendEntry(nil)
		for i := range commands {
			entry = AppendCommand(entry, EncodeCommand(nil, &commands[i]))
		}
		again, err := DecodeEntry(entry)
		if err != nil || len(again) != len(commands) {
			t.Fatalf("what was decoded does not encode: %v", err)
		}
		x := newMachine(t)
		x.f.Apply(&raft.Log{Index: 1, Term: 1, Type: raft.LogCommand, Data: b})
	})
}

func FuzzReadSnapshot(f *testing.F) {
	f.Add(persist(f, busy(f).f))
	f.Add(persist(f, caches(f, 30).f))
	m := newMachine(f)
	m.create("t")
	m.put("t", "k", "v")
	f.Add(mustWrite(f, m.f.State()))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := ReadSnapshot(bytes.NewReader(b))
		if err != nil {
			if !errors.Is(err, ErrBadSnapshot) {
				t.Fatal(err)
			}
			return
		}
		sound(t, s.State)
		if _, err := ReadSnapshot(bytes.NewReader(mustWrite(t, s.State))); err != nil {
			t.Fatalf("what was read does not write: %v", err)
		}
	})
}

func BenchmarkApply(b *testing.B) {
	for _, n := range []int{1, 64, 256} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			m := newMachine(b)
			m.create("t")
			for i := uint64(1); b.Loop(); i++ {
				w := &Write{}
				for j := range n {
					w.Ops = append(w.Ops, Op{Table: "t", Key: fmt.Appendf(nil, "user%d@example.com", rand.IntN(100000)), Value: fmt.Appendf(nil, "value%d", j)})
				}
				entry := AppendCommand(AppendEntry(nil), EncodeCommand(nil, &Command{ID: WriteID{ID{3}, i}, Write: w}))
				m.index++
				m.f.Apply(&raft.Log{Index: m.index, Term: 1, Type: raft.LogCommand, Data: entry})
			}
		})
	}
}

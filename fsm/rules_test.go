package fsm

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/hashicorp/raft"

	"postraft/dict"
)

// loadRules puts the lines of a text in place as a table of this type.
func (m *machine) loadRules(id ID, table, typ string, lines map[string]string) {
	m.t.Helper()
	m.do(Command{Begin: &StageBegin{ID: id, Table: table, Type: typ}})
	m.do(Command{Chunk: &StageChunk{id, 1, blocksOf(m.t, lines)}})
	if r := m.do(Command{Commit: &StageCommit{IDs: []ID{id}}}); r.Status != Applied {
		m.t.Fatalf("load %s: %+v", table, r)
	}
}

// TestFSM_Rules ensures that a table of rules answers by them on every node that applies its text, that its lines
// cannot be changed one by one, and that a text with bad rules makes no node differ from another.
func TestFSM_Rules(t *testing.T) {
	m := newMachine(t)
	if r := m.do(Command{Create: &Create{Name: "nets", Type: dict.TypeCIDR, MustNotExist: true}}); r.Status != Applied {
		t.Fatalf("create: %+v", r)
	}
	m.want("nets", "10.0.0.1", "")
	m.loadRules(ID{1}, "nets", dict.TypeCIDR, map[string]string{"00000001": "# networks", "00000002": "10.0.0.0/8", "00000003": " inside", "00000004": "1.2.3.4/99 bad"})
	m.loadRules(ID{2}, "re", dict.TypeRegexp, map[string]string{"00000001": "/^(.*)@x$/ $1", "00000002": "/@/ any"})
	check := func(m *machine) {
		t.Helper()
		m.want("nets", "10.1.2.3", "inside")
		m.want("nets", "11.1.2.3", "")
		m.want("nets", "00000002", "") // its lines are no keys
		m.want("re", "Me@X", "Me")
		if v, found, err := m.f.State().LookupFlags("re", []byte("Me@X"), dict.NoRegSub); err != nil || !found || string(v) != "any" {
			t.Fatalf("with NO_REGSUB: %q, %v, %v", v, found, err)
		}
	}
	check(m)
	if s := m.put("nets", "00000002", "0.0.0.0/0 all"); s != OpRefused {
		t.Fatalf("put of a line: %v", s)
	}
	if s := m.remove("nets", "00000002"); s != OpRefused {
		t.Fatalf("delete of a line: %v", s)
	}
	if r := m.do(Command{Create: &Create{Name: "nets", Type: dict.TypeHash}}); r.Status != Exists {
		t.Fatalf("create as another type: %+v", r)
	}
	restored := newMachine(t)
	if err := restored.f.Restore(io.NopCloser(bytes.NewReader(persist(t, m.f)))); err != nil {
		t.Fatal(err)
	}
	check(restored)
	replica := New(Options{})
	replica.ApplyBatch(m.logs)
	check(&machine{t: t, f: replica})
	if got, want := replica.State().Tables(), m.f.State().Tables(); len(got) != 2 || got[0] != want[0] || got[1] != want[1] {
		t.Fatalf("tables of the replica: %v, want %v", got, want)
	}

	// The next version has rules of its own, and the state that a reader holds keeps the old ones.
	before := m.f.State()
	m.loadRules(ID{3}, "nets", dict.TypeCIDR, map[string]string{"00000001": "10.0.0.0/8 new"})
	m.want("nets", "10.1.2.3", "new")
	if v, _, _ := before.Lookup("nets", []byte("10.1.2.3")); string(v) != "inside" {
		t.Fatalf("the older state answers %q", v)
	}
}

// TestFSM_RulesInDoubt ensures that a load of rules which may not be committed leaves no key answered.
func TestFSM_RulesInDoubt(t *testing.T) {
	m := newMachine(t)
	m.loadRules(ID{1}, "nets", dict.TypeCIDR, map[string]string{"00000001": "10.0.0.0/8 x"})
	replica := New(Options{})
	replica.ApplyBatch(m.logs)
	m.logs = []*raft.Log{}
	m.loadRules(ID{2}, "nets", dict.TypeCIDR, map[string]string{"00000001": "11.0.0.0/8 x"})
	replica.SetDoubt(m.logs)
	for _, key := range []string{"10.0.0.1", "11.0.0.1", "12.0.0.1"} {
		if _, _, err := replica.State().Lookup("nets", []byte(key)); !errors.Is(err, dict.ErrRetry) {
			t.Errorf("lookup of %s: %v, want ErrRetry", key, err)
		}
	}
}

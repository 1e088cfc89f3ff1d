package fsm

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/raft"

	"postraft/dict"
)

// origins returns node and way of each change of a table.
func (m *machine) origins(table string) (list []string) {
	records, _ := m.f.History().Since(table, 0)
	for _, r := range records {
		list = append(list, strings.TrimSpace(fmt.Sprintf("%s %s", r.Node, r.Way)))
	}
	return list
}

// applyEncoded applies one encoded command in an entry.
func (m *machine) applyEncoded(command []byte) {
	m.t.Helper()
	m.index++
	log := &raft.Log{Index: m.index, Term: m.term, Type: raft.LogCommand, Data: AppendCommand(AppendEntry(nil), command)}
	m.logs = append(m.logs, log)
	if err, ok := m.f.Apply(log).(error); ok {
		m.t.Fatal(err)
	}
}

// mixed is a batch of a node whose changes came about in several ways.
func mixed(seq uint64) Command {
	return Command{ID: WriteID{ID{7}, seq}, Origin: Origin{"mx1", WayProxywrite}, Write: &Write{Ops: []Op{
		{Way: WayProxywrite, Table: "t", Key: []byte("a"), Value: []byte("1")},
		{Way: WayCommand, Table: "t", Key: []byte("b"), Value: []byte("2")},
		{Table: "t", Key: []byte("c")},
		{Way: 200, Table: "t", Key: []byte("d"), Value: []byte("4")},
		{Kind: OpDelete, Way: WayProxywrite, Table: "t", Key: []byte("a")},
	}}}
}

// TestFSM_Origin ensures that the history tells where each change comes from, after a replay of the log too, and that
// nothing else depends on it.
func TestFSM_Origin(t *testing.T) {
	with, without := newMachine(t), newMachine(t)
	from := Origin{"mx2", WayCommand}
	stage := ID{1}
	for i, c := range []Command{
		{Origin: from, Create: &Create{Name: "t", Type: dict.TypeHash}},
		mixed(1),
		{Origin: Origin{"mx3", WayWatchFile}, DeleteIf: &DeleteIf{"t", []byte("b"), []byte("2")}},
		{Begin: &StageBegin{ID: stage, Table: "t", Type: dict.TypeHash}},
		{Origin: Origin{Node: "mx1", Way: WayRestore}, Commit: &StageCommit{IDs: []ID{stage}}},
		{Origin: from, Drop: &Drop{"t"}},
	} {
		if c.ID == (WriteID{}) {
			c.ID = WriteID{ID{9}, uint64(i + 1)}
		}
		encoded := EncodeCommand(nil, &c)
		plain := WithoutOrigin(encoded)
		if c.Origin = (Origin{}); !bytes.Equal(plain, EncodeCommand(nil, &c)) || HasOrigin(plain) || HasOrigin(encoded) != (c.Begin == nil) {
			t.Errorf("command %d without its origin: %x", i, plain)
		}
		if level := CommandLevel(encoded); level > 2 || level != CommandLevel(plain) {
			t.Errorf("command %d is of level %d, %d without its origin", i, level, CommandLevel(plain))
		}
		if whole := c.Create != nil || c.Drop != nil || c.Commit != nil; ChangesWhole(encoded) != whole || ChangesWhole(plain) != whole {
			t.Errorf("command %d: changes whole tables: %v", i, !whole)
		}
		with.applyEncoded(encoded)
		without.applyEncoded(plain)
		if a, b := fmt.Sprint(with.f.State().Tables()), fmt.Sprint(without.f.State().Tables()); a != b {
			t.Errorf("command %d: tables %s, without an origin %s", i, a, b)
		}
	}
	want := []string{"mx2 command", "mx1 proxywrite", "mx1 command", "mx1", "mx1 way 200", "mx1 proxywrite", "mx3 watch-file", "mx1 restore", "mx2 command"}
	if got := with.origins("t"); !slices.Equal(got, want) {
		t.Errorf("origins %q, want %q", got, want)
	}
	if got := without.origins("t"); len(got) != len(want) || strings.Join(got, "") != "" {
		t.Errorf("without: origins %q", got)
	}
	again := newMachine(t)
	again.f.ApplyBatch(with.logs)
	if got := again.origins("t"); !slices.Equal(got, want) {
		t.Errorf("after a replay: origins %q", got)
	}
}

// TestDecodeEntry_Origin ensures that an origin where a look at the start of a command would miss it is no origin.
func TestDecodeEntry_Origin(t *testing.T) {
	c := mixed(1)
	encoded := EncodeCommand(nil, &c)
	head := EncodeCommand(nil, &Command{ID: c.ID, Lead: &Lead{}})
	head = head[:len(head)-4] // session and number
	body := EncodeCommand(nil, &Command{ID: c.ID, Write: &Write{}})[len(head):]
	bare := Command{ID: c.ID, Write: c.Write}
	for name, b := range map[string][]byte{
		"behind the body":       c.Origin.append(append(slices.Clone(head), body...)),
		"a way without a node":  append(appendUint(slices.Clone(head), originWay, 1), body...),
		"an empty node":         append(appendString(slices.Clone(head), originNode, ""), body...),
		"a way beyond a byte":   append(appendUint(appendString(slices.Clone(head), originNode, "n"), originWay, 256), body...),
		"an op's without":       bytes.Replace(encoded, c.Origin.append(nil), nil, 1),
		"nothing but an origin": c.Origin.append(slices.Clone(head)),
	} {
		if _, err := DecodeEntry(AppendCommand(AppendEntry(nil), b)); !errors.Is(err, ErrUnreadable) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if CheckCommand(encoded) != nil || CheckCommand(EncodeCommand(nil, &bare)) != nil {
		t.Error("a good command cannot be read")
	}
}

// TestFSM_StageDelta ensures that a load of changes makes these and no others, in one entry, and nothing at all where
// the table is another one than it was made for.
func TestFSM_StageDelta(t *testing.T) {
	for _, count := range []int{40, historyRecords + 40} { // one by one in the history, or as a whole
		m := newMachine(t)
		m.create("t")
		base := map[string]string{}
		for i := range count {
			base[fmt.Sprintf("k%06d", i)] = "old"
		}
		m.load(ID{40}, "t", base)
		m.do(Command{Commit: &StageCommit{IDs: []ID{{40}}}})
		version := m.f.State().Tables()[0].Version
		changed, gone := map[string]string{"new": "1"}, map[string]string{}
		for i := range count {
			key := fmt.Sprintf("k%06d", i)
			if i%4 == 0 {
				changed[key] = "changed"
			} else if i%4 == 1 || count > historyRecords {
				gone[key] = ""
			}
		}
		to, from := ID{41}, ID{42}
		m.load(to, "t", changed)
		m.load(from, "t", gone)
		delta := func(version uint64) Result {
			return m.do(Command{Origin: Origin{"mx1", WayImport}, Commit: &StageCommit{IDs: []ID{to}, Delta: &StageDelta{Gone: from, IfVersion: version}}})
		}
		before := m.f.State().Tables()[0]
		if r := delta(version - 1); r.Status != Conflict || len(m.f.Stages()) != 2 || m.f.State().Tables()[0] != before {
			t.Fatalf("with another version: %+v, %d stages", r, len(m.f.Stages()))
		}
		from0 := m.index
		if r := delta(version); r.Status != Applied || r.Was != version || len(m.f.Stages()) != 0 {
			t.Fatalf("%+v, %d stages", r, len(m.f.Stages()))
		}
		for k, v := range base {
			_, goes := gone[k]
			if c, ok := changed[k]; ok {
				v = c
			} else if goes {
				v = ""
			}
			m.want("t", k, v)
		}
		m.want("t", "new", "1")
		records, _ := m.f.History().Since("t", from0)
		if whole := count > historyRecords; len(records) != len(changed)+len(gone) && !whole || records[0].Whole != whole || records[0].Node != "mx1" || records[0].Way != WayImport {
			t.Errorf("%d records, the first is of %v", len(records), records[0].Origin)
		}
		if r := delta(version); r.Status != NoStage {
			t.Errorf("once more: %+v", r)
		}
		c := Command{Commit: &StageCommit{IDs: []ID{to}, Delta: &StageDelta{}}}
		if level := CommandLevel(EncodeCommand(nil, &c)); level != DeltaLevel {
			t.Errorf("it is of level %d", level)
		}
		m.do(Command{Drop: &Drop{"t"}})
		m.load(to, "t", changed)
		if r := m.do(Command{Commit: &StageCommit{IDs: []ID{to}, Delta: &StageDelta{IfVersion: version}}}); r.Status != NoTable {
			t.Errorf("without the table: %+v", r)
		}
	}
}

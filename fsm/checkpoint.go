package fsm

import (
	"encoding/binary"
	"slices"

	"postraft/dict"
	"postraft/fsm/packed"
)

const (
	checkpointEvery = 4096 // entries; every node takes its checkpoints at the same indexes
	checkpointsKept = 8
)

// A Checkpoint is a digest of everything that is replicated, as it was after the entry Index: tables, with
// their types and versions, and what the state machine remembers of writes and loads. Nodes that have applied
// the same entries have equal checkpoints.
type Checkpoint struct {
	Index  uint64        `json:"index"`
	Digest packed.Digest `json:"digest"`
}

// Checkpoints returns the latest checkpoints in ascending order; the last one is of the present State.
func (f *FSM) Checkpoints() []Checkpoint {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.State()
	return append(slices.Clone(f.checkpoints), f.checkpoint(s.Index, s.tables))
}

// keepCheckpoint remembers the state after entry index. f.mu is held.
func (f *FSM) keepCheckpoint(index uint64, tables map[string]*Table) {
	if len(f.checkpoints) == checkpointsKept {
		f.checkpoints = slices.Delete(f.checkpoints, 0, 1)
	}
	f.checkpoints = append(f.checkpoints, f.checkpoint(index, tables))
}

// checkpoint sums hashes of the parts, so that their order does not matter. f.mu is held.
func (f *FSM) checkpoint(index uint64, tables map[string]*Table) Checkpoint {
	var sum packed.Digest
	var buf []byte
	add := func(kind byte) {
		sum.AddHash(append(buf, kind))
		buf = buf[:0]
	}
	for name, t := range tables {
		d := t.Digest()
		buf = append(append(append(append(buf, name...), 0), t.Type...), 0)
		buf = binary.LittleEndian.AppendUint64(append(buf, d[:]...), t.Version)
		add('T')
		if t.Settings != (dict.Settings{}) {
			buf = t.appendTo(append(append(buf, name...), 0))
			add('C')
		}
	}
	for id, s := range f.sessions {
		buf = binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(append(buf, id[:]...), s.seq), s.index)
		add('S')
	}
	for id, s := range f.stages {
		buf = append(append(append(buf, id[:]...), s.table...), 0)
		buf = binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(buf, s.chunks), s.index)
		if s.settings != (dict.Settings{}) {
			buf = (&Table{Settings: s.settings}).appendTo(buf)
		}
		add('G')
	}
	return Checkpoint{index, sum}
}

package fsm

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"slices"

	"github.com/hashicorp/raft"

	"postraft/dict"
	"postraft/fsm/packed"
)

// ErrBadSnapshot says that a snapshot is damaged, cut short, or newer than this program.
var ErrBadSnapshot = errors.New("bad snapshot")

// A snapshot begins with snapshotMagic and snapshotVersion. Frames follow:
//
//	length uint32 (of the payload)  kind byte  payload  CRC-32C uint32 (of length, kind and payload)
//
// all little endian: one header; for each table a table frame, its block frames and, if it has settings, a cache frame
// and perhaps block frames of the order of its entries; sessions
// and stages (raft's own snapshots only; a stage frame is followed by its block frames and, if it brings settings, a
// cache frame); one end frame.
const (
	snapshotMagic   = "postraft snapshot\n"
	snapshotVersion = 1
	maxFrame        = packed.MaxBlock
)

const (
	frameHeader  = 'H' // JSON SnapshotHeader
	frameTable   = 'T' // JSON tableHeader
	frameBlock   = 'B' // packed block of the table, stage or order before it
	frameCache   = 'C' // JSON cacheFrame, of the table or stage before it
	frameSession = 'S' // JSON sessionFrame
	frameStage   = 'G' // JSON stageHeader
	frameEnd     = 'E' // JSON endFrame
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// A SnapshotHeader says where a snapshot comes from.
type SnapshotHeader struct {
	Index   uint64 `json:"index"`
	Term    uint64 `json:"term"`
	Created string `json:"created,omitempty"` // RFC 3339
	Node    string `json:"node,omitempty"`
	Program string `json:"program,omitempty"` // version of the program that wrote it
}

type tableHeader struct {
	Name    string `json:"name"`
	Type    string `json:"type"`
	Version uint64 `json:"version"`
	Entries int    `json:"entries"`
	Bytes   int64  `json:"bytes"`
	Digest  []byte `json:"digest"`
}

type sessionFrame struct {
	ID     ID     `json:"id"`
	Seq    uint64 `json:"seq"`
	Index  uint64 `json:"index"`
	Result Result `json:"result"`
}

type stageHeader struct {
	ID     ID     `json:"id"`
	Table  string `json:"table"`
	Type   string `json:"type"`
	Chunks uint64 `json:"chunks"`
	Index  uint64 `json:"index"`
}

type endFrame struct {
	Tables int `json:"tables"`
	Frames int `json:"frames"`
}

type frameWriter struct {
	w      *bufio.Writer
	frames int
}

func (w *frameWriter) frame(kind byte, payload []byte) error {
	var head [5]byte
	binary.LittleEndian.PutUint32(head[:], uint32(len(payload)))
	head[4] = kind
	sum := crc32.Update(crc32.Update(0, castagnoli, head[:]), castagnoli, payload)
	w.frames++
	w.w.Write(head[:])
	w.w.Write(payload)
	_, err := w.w.Write(binary.LittleEndian.AppendUint32(nil, sum)) // a bufio.Writer keeps its first error
	return err
}

func (w *frameWriter) json(kind byte, v any) error {
	payload, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return w.frame(kind, payload)
}

// WriteSnapshot writes the tables of s to out, in constant memory. Header's Index and Term are taken from s.
func WriteSnapshot(out io.Writer, s *State, header SnapshotHeader) error {
	return writeSnapshot(out, s, header, false, nil, nil)
}

func writeSnapshot(out io.Writer, s *State, header SnapshotHeader, ordered bool, sessions []sessionFrame, stages map[ID]stage) error {
	w := &frameWriter{w: bufio.NewWriterSize(out, 64<<10)}
	w.w.WriteString(snapshotMagic)
	w.w.WriteByte(snapshotVersion)
	header.Index, header.Term = s.Index, s.Term
	if err := w.json(frameHeader, header); err != nil {
		return err
	}
	for _, info := range s.Tables() {
		t := s.tables[info.Name]
		if err := w.json(frameTable, tableHeader{info.Name, info.Type, info.Version, info.Entries, info.Bytes, info.Digest[:]}); err != nil {
			return err
		}
		for b := range t.Blocks() {
			if err := w.frame(frameBlock, b); err != nil {
				return err
			}
		}
		if t.Settings == (dict.Settings{}) {
			continue
		}
		f := t.cacheFrame(ordered)
		if err := w.json(frameCache, f); err != nil {
			return err
		}
		if f.Ordered {
			for b := range t.cache.order.Blocks() {
				if err := w.frame(frameBlock, b); err != nil {
					return err
				}
			}
		}
	}
	for _, sess := range sessions {
		if err := w.json(frameSession, sess); err != nil {
			return err
		}
	}
	for _, id := range slices.SortedFunc(maps.Keys(stages), func(a, b ID) int { return slices.Compare(a[:], b[:]) }) {
		st := stages[id]
		if err := w.json(frameStage, stageHeader{id, st.table, st.typ, st.chunks, st.index}); err != nil {
			return err
		}
		for b := range st.blocks.Blocks() {
			if err := w.frame(frameBlock, b); err != nil {
				return err
			}
		}
		if st.settings != (dict.Settings{}) {
			if err := w.json(frameCache, (&Table{Settings: st.settings}).cacheFrame(false)); err != nil {
				return err
			}
		}
	}
	if err := w.json(frameEnd, endFrame{len(s.tables), w.frames}); err != nil {
		return err
	}
	return w.w.Flush()
}

// A Snapshot is a snapshot that was read and found sound.
type Snapshot struct {
	SnapshotHeader
	State    *State
	sessions map[ID]*session
	stages   map[ID]*stage
}

// Table returns a table of the snapshot.
func (s *Snapshot) Table(name string) (*Table, bool) { return s.State.Table(name) }

// ReadSnapshot reads a snapshot to its end and verifies all of it. The error is an ErrBadSnapshot that says
// what is wrong and where, or that of r.
func ReadSnapshot(r io.Reader) (*Snapshot, error) {
	in := &frameReader{r: bufio.NewReaderSize(r, 64<<10)}
	magic := make([]byte, len(snapshotMagic)+1)
	if err := in.full(magic); err != nil {
		return nil, err
	}
	if string(magic[:len(snapshotMagic)]) != snapshotMagic {
		return nil, in.bad("not a snapshot of postraft")
	}
	if v := magic[len(snapshotMagic)]; v != snapshotVersion {
		return nil, in.bad("version %d, this program reads version %d", v, snapshotVersion)
	}
	s := &Snapshot{State: &State{tables: map[string]*Table{}}, sessions: map[ID]*session{}, stages: map[ID]*stage{}}
	kind, payload, err := in.frame()
	if err != nil {
		return nil, err
	}
	if kind != frameHeader {
		return nil, in.bad("no header")
	}
	if err := in.json(payload, &s.SnapshotHeader); err != nil {
		return nil, err
	}
	s.State.Index, s.State.Term = s.Index, s.Term
	return s, s.readBody(in)
}

func (s *Snapshot) readBody(in *frameReader) error {
	var table *tableHeader       // the table being read
	var blocks *packed.Assembler // where block frames go
	var last *Table              // whole, but for its settings
	var settings *cacheFrame     // of last, being read
	var staged *stage            // the last one
	closeTable := func() error {
		if settings != nil {
			f := settings
			settings = nil
			if err := f.restore(last, blocks.Table()); err != nil {
				return in.bad("settings of a table: %v", err)
			}
		}
		if table == nil {
			return nil
		}
		t := blocks.Table()
		if d := t.Digest(); t.Len() != table.Entries || t.Bytes() != table.Bytes || !slices.Equal(d[:], table.Digest) {
			return in.bad("table %s does not have the digest that was written with it", table.Name)
		}
		last = newTable(t, table.Type, table.Version)
		s.State.tables[table.Name] = last
		table = nil
		return nil
	}
	for {
		kind, payload, err := in.frame()
		if err != nil {
			return err
		}
		if kind != frameBlock {
			if err := closeTable(); err != nil {
				return err
			}
		}
		switch kind {
		case frameTable:
			table, blocks = &tableHeader{}, &packed.Assembler{}
			if err := in.json(payload, table); err != nil {
				return err
			}
			if _, twice := s.State.tables[table.Name]; twice || dict.CheckTableName(table.Name) != nil || dict.CheckTableType(table.Type) != nil {
				return in.bad("table %q of type %q", table.Name, table.Type)
			}
		case frameBlock:
			if blocks == nil {
				return in.bad("block without a table")
			}
			if err := blocks.Append(payload); err != nil {
				return in.bad("%v", err)
			}
		case frameSession:
			var f sessionFrame
			if err := in.json(payload, &f); err != nil {
				return err
			}
			s.sessions[f.ID] = &session{f.Seq, f.Index, f.Result}
		case frameStage:
			var f stageHeader
			if err := in.json(payload, &f); err != nil {
				return err
			}
			blocks = &packed.Assembler{}
			s.stages[f.ID] = &stage{table: f.Table, typ: f.Type, chunks: f.Chunks, index: f.Index, blocks: blocks}
			staged, last = s.stages[f.ID], nil
		case frameCache:
			f := &cacheFrame{}
			if err := in.json(payload, f); err != nil {
				return err
			}
			switch {
			case last != nil && last.Settings == (dict.Settings{}):
				settings, blocks = f, &packed.Assembler{}
			case last == nil && staged != nil && !f.Ordered && f.settings().Check(staged.typ) == nil:
				staged.settings, blocks = f.settings(), nil
			default:
				return in.bad("settings without a table")
			}
		case frameEnd:
			var end endFrame
			if err := in.json(payload, &end); err != nil {
				return err
			}
			if end.Tables != len(s.State.tables) || end.Frames != in.frames-1 {
				return in.bad("%d tables in %d frames, %d in %d were written", len(s.State.tables), in.frames-1, end.Tables, end.Frames)
			}
			if _, err := in.r.ReadByte(); err != io.EOF {
				return in.bad("bytes behind the end")
			}
			return nil
		default:
			return in.bad("frame of unknown kind %q: written by a newer version?", kind)
		}
	}
}

// A frameReader counts where it is, for its errors.
type frameReader struct {
	r      *bufio.Reader
	at     int64
	frames int
	buf    []byte
}

func (r *frameReader) bad(format string, args ...any) error {
	return fmt.Errorf("%w: at byte %d: %s", ErrBadSnapshot, r.at, fmt.Sprintf(format, args...))
}

func (r *frameReader) full(b []byte) error {
	n, err := io.ReadFull(r.r, b)
	r.at += int64(n)
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return r.bad("cut short")
	}
	return err
}

// frame returns the next frame; the payload is valid until the next call.
func (r *frameReader) frame() (kind byte, payload []byte, err error) {
	var head [5]byte
	if err := r.full(head[:]); err != nil {
		return 0, nil, err
	}
	n := binary.LittleEndian.Uint32(head[:])
	if n > maxFrame {
		return 0, nil, r.bad("frame of %d bytes", n)
	}
	if cap(r.buf) < int(n)+4 {
		r.buf = make([]byte, int(n)+4)
	}
	body := r.buf[:n+4]
	if err := r.full(body); err != nil {
		return 0, nil, err
	}
	payload = body[:n]
	sum := crc32.Update(crc32.Update(0, castagnoli, head[:]), castagnoli, payload)
	if sum != binary.LittleEndian.Uint32(body[n:]) {
		return 0, nil, r.bad("checksum of frame %d", r.frames)
	}
	r.frames++
	return head[4], payload, nil
}

func (r *frameReader) json(payload []byte, v any) error {
	if err := json.Unmarshal(payload, v); err != nil {
		return r.bad("frame %d: %v", r.frames, err)
	}
	return nil
}

// Snapshot implements raft.FSM. It fails once applying has ended: what raft believes applied was not.
func (f *FSM) Snapshot() (raft.FSMSnapshot, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fatal != nil {
		return nil, f.fatal
	}
	s := &stateSnapshot{state: f.State(), stages: make(map[ID]stage, len(f.stages))}
	for _, id := range slices.SortedFunc(maps.Keys(f.sessions), func(a, b ID) int { return slices.Compare(a[:], b[:]) }) {
		sess := f.sessions[id]
		s.sessions = append(s.sessions, sessionFrame{id, sess.seq, sess.index, sess.result})
	}
	for id, st := range f.stages {
		s.stages[id] = *st
	}
	return s, nil
}

type stateSnapshot struct {
	state    *State
	sessions []sessionFrame
	stages   map[ID]stage
}

// Persist implements raft.FSMSnapshot. It runs beside Apply.
func (s *stateSnapshot) Persist(sink raft.SnapshotSink) error {
	if err := writeSnapshot(sink, s.state, SnapshotHeader{}, true, s.sessions, s.stages); err != nil {
		return errors.Join(fmt.Errorf("write snapshot %s: %w", sink.ID(), err), sink.Cancel())
	}
	return sink.Close()
}

// Release implements raft.FSMSnapshot.
func (s *stateSnapshot) Release() {}

// Restore implements raft.FSM: it replaces everything by the snapshot, or nothing when that is damaged. A
// snapshot that is older than the State leaves it alone: a node that has replayed its own log knows more,
// and lookups never go back in time.
func (f *FSM) Restore(r io.ReadCloser) error {
	defer r.Close()
	s, err := ReadSnapshot(r)
	if err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	f.mu.Lock()
	if s.State.Index >= f.State().Index {
		s.State.doubt = f.State().doubt.after(s.State.Index, s.State.Term)
		f.sessions, f.stages, f.checkpoints = s.sessions, s.stages, nil
		f.history.reset(s.State.Index)
		f.publish(s.State)
	}
	f.mu.Unlock()
	if f.opts.OnApplied != nil {
		f.opts.OnApplied(f.State().Index)
	}
	if f.opts.OnRestore != nil {
		f.opts.OnRestore(s.State.Index)
	}
	return nil
}

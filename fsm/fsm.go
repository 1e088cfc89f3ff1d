package fsm

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/raft"

	"postraft/fsm/packed"
)

// Options are given to New. The functions are called from the goroutines that apply, OnApplied also by two at a time, and must not
// block. Yield may give the processor away, for as long as the scheduler sees fit, while nothing else can be applied.
type Options struct {
	OnApplied func(index uint64) // the State with this index was published
	OnFatal   func(error)        // applying has ended for good
	OnRestore func(index uint64) // a snapshot was read in place of the State
	Yield     func()             // called every few blocks of a chunk that is applied, by one goroutine at a time
}

// An FSM keeps the State. One goroutine at a time may restore or take snapshots, as raft does; everything else may be called from
// any goroutine. An entry that two bring is applied once.
type FSM struct {
	opts  Options
	state atomic.Pointer[State]

	mu       sync.Mutex // guards what follows
	sessions map[ID]*session
	stages   map[ID]*stage
	fatal    error
	changed  chan struct{} // closed when a State is published

	checkpoints []Checkpoint // ascending

	history  History
	recorder recorder // of what is being applied
}

var (
	_ raft.FSM         = (*FSM)(nil)
	_ raft.BatchingFSM = (*FSM)(nil)
)

// New returns an FSM without tables, at index 0.
func New(opts Options) *FSM {
	f := &FSM{opts: opts, sessions: map[ID]*session{}, stages: map[ID]*stage{}, changed: make(chan struct{})}
	f.state.Store(&State{tables: map[string]*Table{}})
	return f
}

// State returns the newest State.
func (f *FSM) State() *State { return f.state.Load() }

// History returns the newest changes.
func (f *FSM) History() *History { return &f.history }

// Err returns why applying has ended, nil while it goes on.
func (f *FSM) Err() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.fatal
}

// WaitIndex returns when the State has at least this index. It fails when ctx ends or applying has ended.
func (f *FSM) WaitIndex(ctx context.Context, index uint64) error {
	for {
		f.mu.Lock()
		changed, err := f.changed, f.fatal
		f.mu.Unlock()
		if f.State().Index >= index {
			return nil
		}
		if err != nil {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("wait for index %d, have %d: %w", index, f.State().Index, context.Cause(ctx))
		}
	}
}

// Outcome returns the result of a command that was applied, as long as it is the last of its session.
func (f *FSM) Outcome(id WriteID) (Result, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s, ok := f.sessions[id.Session]
	if !ok || s.seq != id.Seq {
		return Result{}, false
	}
	return s.result, true
}

// Stages returns the stages that wait for their commit, and the index of the last entry of each.
func (f *FSM) Stages() map[ID]uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	touched := make(map[ID]uint64, len(f.stages))
	for id, s := range f.stages {
		touched[id] = s.index
	}
	return touched
}

// Staged returns what a stage holds, false where there is no such stage.
func (f *FSM) Staged(id ID) (*packed.Table, bool) {
	f.mu.Lock()
	s, ok := f.stages[id]
	var blocks *packed.Assembler
	if ok {
		blocks = s.blocks // a fork, which stays what it is
	}
	f.mu.Unlock()
	if !ok {
		return nil, false
	}
	return blocks.Table(), true
}

// Apply implements raft.FSM.
func (f *FSM) Apply(log *raft.Log) any { return f.ApplyBatch([]*raft.Log{log})[0] }

// ApplyBatch implements raft.BatchingFSM. Each response is the []Result of that entry, or an error.
// Entries at or below the index of the State were replayed before raft ran and are passed over.
func (f *FSM) ApplyBatch(logs []*raft.Log) []any {
	responses := make([]any, len(logs))
	f.mu.Lock()
	a := f.begin()
	for i, log := range logs {
		switch {
		case f.fatal != nil:
			responses[i] = f.fatal
			continue
		case log.Index <= a.index:
			continue
		case log.Type != raft.LogCommand:
			a.index, a.term = log.Index, log.Term
		default:
			commands, err := DecodeEntry(log.Data)
			if err != nil {
				f.fatal = fmt.Errorf("apply entry %d of term %d: %w", log.Index, log.Term, err)
				responses[i] = f.fatal
				continue
			}
			a.index, a.term, a.time = log.Index, log.Term, log.AppendedAt
			results := make([]Result, len(commands))
			for j := range commands {
				results[j] = a.command(&commands[j])
			}
			responses[i] = results
			if f.recorder.count >= recordsEnough {
				f.history.add(f.recorder.take())
			}
		}
		if a.index%checkpointEvery == 0 {
			a.close()
			f.keepCheckpoint(a.index, a.tables)
		}
	}
	next := a.finish()
	f.history.add(f.recorder.take()) // first, so that whoever sees the State finds its changes
	f.publish(next)
	fatal := f.fatal
	f.mu.Unlock()
	if f.opts.OnApplied != nil {
		f.opts.OnApplied(f.State().Index)
	}
	if fatal != nil && f.opts.OnFatal != nil {
		f.opts.OnFatal(fatal)
	}
	return responses
}

// publish makes s the newest State. f.mu is held.
func (f *FSM) publish(s *State) {
	f.state.Store(s)
	close(f.changed)
	f.changed = make(chan struct{})
}

// SetDoubt names the entries behind the last one that this node knows to be committed. Until a leader has
// settled them, keys that they touch are answered with dict.ErrRetry. Called before raft runs.
func (f *FSM) SetDoubt(entries []*raft.Log) {
	if len(entries) == 0 {
		return
	}
	last := entries[len(entries)-1]
	d := &doubt{index: last.Index, term: last.Term, tables: map[string]map[string]struct{}{}}
	f.mu.Lock()
	defer f.mu.Unlock()
	stages := map[ID]string{}
	for id, s := range f.stages {
		stages[id] = s.table
	}
	bounded := func(table string) bool {
		t, ok := f.State().Table(table)
		return ok && t.Settings.MaxEntries > 0
	}
	for _, log := range entries {
		if log.Type != raft.LogCommand {
			continue
		}
		commands, err := DecodeEntry(log.Data)
		if err != nil {
			d.all = true
		}
		for i := range commands {
			d.add(&commands[i], stages, bounded)
		}
	}
	next := *f.State()
	next.doubt = d
	f.publish(&next)
}

// Settle ends every doubt: the leader says that this node knows all that is committed.
func (f *FSM) Settle() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.State().doubt == nil {
		return
	}
	next := *f.State()
	next.doubt = nil
	f.publish(&next)
}

// begin starts a run of entries. f.mu is held until the run has been published.
func (f *FSM) begin() *apply {
	s := f.State()
	return &apply{f: f, index: s.Index, term: s.Term, tables: s.tables, doubt: s.doubt}
}

// own makes the map of tables one that the run may change.
func (a *apply) own() {
	if !a.owned {
		a.tables, a.owned = maps.Clone(a.tables), true
	}
}

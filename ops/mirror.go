package ops

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"postraft/dict"
)

// A Mirror keeps a table of Postfix's own on this host equal to a raft table: the text, and for the types that need
// one the database that postmap(1) makes of it. Both are made beside their places and then renamed, so who reads
// them sees the old or the new ones. A run that fails leaves them as they are, and is tried again. Where somebody else
// changes or removes them they are made again; where the raft table is dropped they stay.
type Mirror struct {
	Table  string
	Target dict.Name // lmdb, hash, btree, cdb, texthash, or the type of a table of rules; and the path of the text
	From   Tables
	Logger *slog.Logger

	Postmap   string        // the command
	ConfigDir string        // of Postfix; empty is postmap's own
	Poll      time.Duration // between looks at the table, and the least between two runs; 0 is a second
	Timeout   time.Duration // of a run; 0 is ten minutes

	mu    sync.Mutex // guards state
	state MirrorState
}

// MirrorState says how a Mirror does.
type MirrorState struct {
	Table   string `json:"table"`
	Target  string `json:"target"`            // type:path
	Current bool   `json:"current"`           // it shows the newest version, or did a moment ago
	Version uint64 `json:"version"`           // of the table that it shows; 0: of none that is known
	Error   string `json:"error,omitempty"`   // why the last run failed
	Written string `json:"written,omitempty"` // when, RFC 3339
}

// databases are the types of which postmap makes a file, and what that is called.
var databases = map[string]string{"lmdb": ".lmdb", "hash": ".db", "btree": ".db", "cdb": ".cdb"}

// CheckMirror returns an ErrBadSource unless a Mirror can be of this type.
func CheckMirror(target dict.Name) error {
	if _, ok := databases[target.Type]; ok || target.Type == "texthash" || dict.IsPattern(target.Type) {
		return nil
	}
	return Errorf(BadData, "a table of type %s cannot be kept: want lmdb, hash, btree, cdb, texthash, cidr, regexp or pcre", target.Type)
}

// State returns how it does. It may be called from any goroutine.
func (m *Mirror) State() MirrorState {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.state
	s.Table, s.Target = m.Table, m.Target.String()
	return s
}

func (m *Mirror) set(change func(*MirrorState)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	change(&m.state)
}

// Run works until ctx ends.
func (m *Mirror) Run(ctx context.Context) {
	poll := m.Poll
	if poll == 0 {
		poll = time.Second
	}
	tick := time.NewTicker(poll)
	defer tick.Stop()
	digest, wait := "", 0
	var shown [2]os.FileInfo // what was in place when it was current
	for {
		if wait--; wait <= 0 {
			info, err := m.table(ctx)
			asked, placed := err == nil, shown
			if asked && (info.Digest != digest || !sameFiles(shown, m.files())) {
				m.set(func(s *MirrorState) { s.Current = false })
				placed, err = m.write(ctx, info)
			}
			if ctx.Err() != nil {
				return
			}
			m.note(info, err)
			switch {
			case err == nil:
				digest, shown = info.Digest, placed
			case asked:
				wait = 3 // what was written in vain was some work
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// note tells what became of a run, once.
func (m *Mirror) note(info TableInfo, err error) {
	said := m.State().Error
	switch {
	case err == nil:
		m.set(func(s *MirrorState) { s.Current, s.Version, s.Error = true, info.Version, "" })
	case err.Error() != said:
		m.Logger.Error("mirror not written", "table", m.Table, "target", m.Target.String(), "err", err)
		m.set(func(s *MirrorState) { s.Current, s.Error = false, err.Error() })
	}
}

// table describes the raft table.
func (m *Mirror) table(ctx context.Context) (TableInfo, error) {
	tables, err := m.From.Tables(ctx)
	if err != nil {
		return TableInfo{}, err
	}
	for _, t := range tables {
		if t.Name != m.Table {
			continue
		}
		if rules := dict.IsPattern(t.Type) || dict.IsPattern(m.Target.Type); rules && t.Type != m.Target.Type {
			return TableInfo{}, Errorf(BadData, "the raft table is of type %s", t.Type)
		}
		return t, nil
	}
	return TableInfo{}, fmt.Errorf("there is no such raft table: %s stays as it is", m.Target.Map)
}

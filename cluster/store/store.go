// Package store opens what a node keeps on disk for raft: the log, term and vote, snapshots, and the
// watermark of what the node has applied.
package store

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	boltdb "github.com/hashicorp/raft-boltdb/v2"
	wal "github.com/hashicorp/raft-wal"
	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// Kinds of log stores.
const (
	WAL  = "wal"
	Bolt = "bolt"
)

const retainSnapshots = 2

// Stores are the open stores of one data directory.
type Stores struct {
	Log       *Log
	Stable    raft.StableStore
	Snapshots raft.SnapshotStore
	Watermark *Watermark

	closers []func() error
}

// Open opens or makes the stores in dir. Only one process may have them open.
func Open(dir, kind string, logger hclog.Logger) (s *Stores, err error) {
	s = &Stores{}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	stablePath := filepath.Join(dir, "stable.db")
	stable, err := boltdb.New(boltdb.Options{Path: stablePath, BoltOptions: &bbolt.Options{Timeout: openTimeout}})
	if errors.Is(err, berrors.ErrTimeout) {
		return s, fmt.Errorf("open %s: another agent uses this data directory", stablePath)
	}
	if err != nil {
		return s, fmt.Errorf("open %s: %w", stablePath, err)
	}
	s.closers = append(s.closers, stable.Close)
	s.Stable = stable
	var log raft.LogStore
	switch kind {
	case Bolt:
		log = stable
	case WAL:
		logDir := filepath.Join(dir, "wal")
		if err := os.MkdirAll(logDir, 0o700); err != nil {
			return s, err
		}
		w, err := wal.Open(logDir, wal.WithLogger(logger.Named("wal")))
		if err != nil {
			return s, fmt.Errorf("open log in %s: %w", logDir, err)
		}
		s.closers = append(s.closers, w.Close)
		log = w
	default:
		return s, fmt.Errorf("log store %q: want %s or %s", kind, WAL, Bolt)
	}
	s.Log = newLog(log)
	if err := cleanSnapshots(dir); err != nil {
		return s, err
	}
	if s.Snapshots, err = raft.NewFileSnapshotStoreWithLogger(dir, retainSnapshots, logger.Named("snapshot")); err != nil {
		return s, fmt.Errorf("open snapshots in %s: %w", dir, err)
	}
	if s.Watermark, err = openWatermark(filepath.Join(dir, "applied")); err != nil {
		return s, err
	}
	s.closers = append(s.closers, s.Watermark.close)
	return s, nil
}

// Close closes all stores. Raft must have ended.
func (s *Stores) Close() error {
	var errs []error
	for i := len(s.closers) - 1; i >= 0; i-- {
		errs = append(errs, s.closers[i]())
	}
	s.closers = nil
	return errors.Join(errs...)
}

// cleanSnapshots removes what interrupted snapshots have left: the library never does.
func cleanSnapshots(dir string) error {
	snapshots := filepath.Join(dir, "snapshots")
	entries, err := os.ReadDir(snapshots)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".tmp") {
			if err := os.RemoveAll(filepath.Join(snapshots, e.Name())); err != nil {
				return fmt.Errorf("remove interrupted snapshot: %w", err)
			}
		}
	}
	return nil
}

// Log is the raft log with its newest entries in memory, within a bound in bytes. It tells when entries
// were added.
type Log struct {
	raft.LogStore
	monotonic bool

	mu    sync.Mutex
	added chan struct{} // closed when entries were added
	ring  []*raft.Log   // consecutive entries, the newest last
	size  int
	last  uint64
}

const (
	cacheBytes   = 4 << 20
	cacheEntries = 4096
)

func newLog(inner raft.LogStore) *Log {
	l := &Log{LogStore: inner, added: make(chan struct{})}
	if m, ok := inner.(raft.MonotonicLogStore); ok {
		l.monotonic = m.IsMonotonic()
	}
	l.last, _ = inner.LastIndex()
	return l
}

// IsMonotonic implements raft.MonotonicLogStore.
func (l *Log) IsMonotonic() bool { return l.monotonic }

// GetLog implements raft.LogStore.
func (l *Log) GetLog(index uint64, log *raft.Log) error {
	l.mu.Lock()
	if n := len(l.ring); n > 0 && index >= l.ring[0].Index && index <= l.ring[n-1].Index {
		*log = *l.ring[index-l.ring[0].Index]
		l.mu.Unlock()
		return nil
	}
	l.mu.Unlock()
	return l.LogStore.GetLog(index, log)
}

// StoreLog implements raft.LogStore.
func (l *Log) StoreLog(log *raft.Log) error { return l.StoreLogs([]*raft.Log{log}) }

// StoreLogs implements raft.LogStore.
func (l *Log) StoreLogs(logs []*raft.Log) error {
	if err := l.LogStore.StoreLogs(logs); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, log := range logs {
		if n := len(l.ring); n > 0 && log.Index != l.ring[n-1].Index+1 {
			l.drop()
		}
		l.ring = append(l.ring, log)
		l.size += len(log.Data)
		l.last = log.Index
	}
	cut := 0
	for len(l.ring)-cut > 1 && (l.size > cacheBytes || len(l.ring)-cut > cacheEntries) {
		l.size -= len(l.ring[cut].Data)
		l.ring[cut] = nil
		cut++
	}
	if cut > 0 {
		if l.ring = l.ring[cut:]; cap(l.ring) < 64 {
			l.ring = append(make([]*raft.Log, 0, 256), l.ring...)
		}
	}
	close(l.added)
	l.added = make(chan struct{})
	return nil
}

func (l *Log) drop() { l.ring, l.size = nil, 0 }

// DeleteRange implements raft.LogStore.
func (l *Log) DeleteRange(low, high uint64) error {
	l.mu.Lock()
	if n := len(l.ring); n > 0 && high >= l.ring[0].Index {
		l.drop()
	}
	l.mu.Unlock()
	err := l.LogStore.DeleteRange(low, high)
	l.mu.Lock()
	l.last, _ = l.LogStore.LastIndex()
	l.mu.Unlock()
	return err
}

// Added returns the index of the last entry and a channel that is closed when entries are added after that.
func (l *Log) Added() (last uint64, added <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last, l.added
}

// IsEmpty reports whether the stores hold no state of raft.
func (s *Stores) IsEmpty() (bool, error) {
	has, err := raft.HasExistingState(s.Log, s.Stable, s.Snapshots)
	return !has, err
}

// WriteFile replaces a small file in one step, on disk when it returns.
func WriteFile(path string, content []byte) error {
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, content) {
		return nil
	}
	tmp := path + ".tmp"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// Package store opens what a node keeps on disk for raft: the log, term and vote, snapshots, and the
// watermark of what the node has applied.
package store

import (
	"bytes"
	"errors"
	"fmt"
	iofs "io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	boltdb "github.com/hashicorp/raft-boltdb/v2"
	wal "github.com/hashicorp/raft-wal"
	"github.com/hashicorp/raft-wal/fs"
	"github.com/hashicorp/raft-wal/metadb"
	"github.com/hashicorp/raft-wal/segment"
	"github.com/hashicorp/raft-wal/types"
	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
	"golang.org/x/sys/unix"
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
	Disk      *Disk

	closers []func() error
}

// Options say how the stores are kept.
type Options struct {
	Kind string    // of the log: WAL or Bolt
	FS   types.VFS // where a WAL keeps its segments; nil is the operating system. Tests make it fail.
}

// Open opens or makes the stores in dir. Only one process may have them open.
func Open(dir string, opts Options, logger hclog.Logger, events *slog.Logger) (s *Stores, err error) {
	s = &Stores{Disk: newDisk(dir, events)}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	stablePath := filepath.Join(dir, "stable.db")
	db, err := boltdb.New(boltdb.Options{Path: stablePath, BoltOptions: &bbolt.Options{Timeout: openTimeout}})
	if errors.Is(err, berrors.ErrTimeout) {
		return s, fmt.Errorf("open %s: another agent uses this data directory", stablePath)
	}
	if err != nil {
		return s, fmt.Errorf("open %s: %w", stablePath, err)
	}
	s.closers = append(s.closers, db.Close)
	s.Stable = stable{db, s.Disk}
	if s.Watermark, err = openWatermark(filepath.Join(dir, "applied")); err != nil {
		return s, err
	}
	s.closers = append(s.closers, s.Watermark.close)
	switch opts.Kind {
	case Bolt:
		s.Log, err = newLog(s.Disk, stablePath, db)
	case WAL:
		err = s.openWAL(filepath.Join(dir, "wal"), opts.FS, logger.Named("wal"))
	default:
		err = fmt.Errorf("log store %q: want %s or %s", opts.Kind, WAL, Bolt)
	}
	if err != nil {
		return s, err
	}
	if err := cleanSnapshots(dir); err != nil {
		return s, err
	}
	if s.Snapshots, err = raft.NewFileSnapshotStoreWithLogger(dir, retainSnapshots, logger.Named("snapshot")); err != nil {
		return s, fmt.Errorf("open snapshots in %s: %w", dir, withErrno(err))
	}
	return s, nil
}

func (s *Stores) openWAL(dir string, files types.VFS, logger hclog.Logger) error {
	if files == nil {
		files = fs.New()
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	open := func() (raft.LogStore, func() error, error) {
		meta := &metadb.BoltMetaDB{}
		w, err := wal.Open(dir, wal.WithLogger(logger), wal.WithMetaStore(meta), wal.WithSegmentFiler(segment.NewFiler(dir, tidyFS{files, s.Watermark.Index, syncDir})))
		if err != nil {
			if errors.Is(err, types.ErrCorrupt) {
				err = fmt.Errorf("%w: %w", ErrDamaged, err)
			}
			return nil, nil, errors.Join(fmt.Errorf("open log in %s: %w", dir, err), meta.Close())
		}
		return w, w.Close, nil
	}
	w, closer, err := open()
	if err != nil {
		return err
	}
	if s.Log, err = newLog(s.Disk, dir, w); err != nil {
		return errors.Join(err, closer())
	}
	s.Log.reopen, s.Log.closer = open, closer
	s.closers = append(s.closers, s.Log.close)
	return nil
}

// lastErrno is the last error number of Linux.
const lastErrno = unix.EHWPOISON

// withErrno returns an error of the snapshot store, which keeps only the text of its causes, with the error number that the
// text ends with: a node that finds its disk full waits for room.
func withErrno(err error) error {
	for errno := syscall.Errno(1); errno <= lastErrno; errno++ {
		if text, ok := strings.CutSuffix(err.Error(), errno.Error()); ok {
			return fmt.Errorf("%s%w", text, errno)
		}
	}
	return err
}

// Interrupt ends writes that wait for the disk, so that raft can end.
func (s *Stores) Interrupt() { s.Disk.cancel() }

// Close closes all stores. Raft must have ended.
func (s *Stores) Close() error {
	s.Interrupt()
	var errs []error
	for i := len(s.closers) - 1; i >= 0; i-- {
		errs = append(errs, s.closers[i]())
	}
	s.closers = nil
	return errors.Join(errs...)
}

// AsideSuffix ends the name of a damaged snapshot that was put aside: the library passes it over, and Open
// removes it the next time.
const AsideSuffix = ".damaged.tmp"

// cleanSnapshots removes what interrupted snapshots have left: the library never does.
func cleanSnapshots(dir string) error {
	snapshots := filepath.Join(dir, "snapshots")
	entries, err := os.ReadDir(snapshots)
	if errors.Is(err, iofs.ErrNotExist) {
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
	return syncDir(filepath.Dir(path))
}

// syncDir puts the names in a directory on disk.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

package ops

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// A SnapshotSource is what AutoSnapshots needs of the node.
type SnapshotSource interface {
	Status() Status
	SaveSnapshot(ctx context.Context, w io.Writer) error
}

// AutoSnapshots saves snapshots into a directory while its node leads, so that a cluster whose nodes all have
// it on saves one at a time.
type AutoSnapshots struct {
	Dir    string
	Every  time.Duration // from one snapshot to the next
	Keep   int           // how many; older ones are removed. At least 1.
	Source SnapshotSource
	Logger *slog.Logger

	saved, failed atomic.Uint64
	current       atomic.Int64 // when the newest snapshot was last known to hold all, in seconds of Unix time; 0 if never
}

const (
	snapshotPrefix = "postraft-"
	snapshotSuffix = ".snapshot"
	halfSuffix     = ".tmp" // of one that is being written
	snapshotTime   = "20060102T150405Z"
	saveTimeout    = 10 * time.Minute
)

// Counts returns how many snapshots were saved, and how many could not be.
func (a *AutoSnapshots) Counts() (saved, failed uint64) { return a.saved.Load(), a.failed.Load() }

// Current returns when the newest snapshot was last known to hold all changes: when it was saved, or when it was
// found that nothing has changed since. It is the zero Time on a node that has not led yet.
func (a *AutoSnapshots) Current() time.Time {
	seconds := a.current.Load()
	if seconds == 0 {
		return time.Time{}
	}
	return time.Unix(seconds, 0)
}

// Run saves snapshots until ctx ends. When the last one was saved is read from the names of the files, so it
// survives a restart.
func (a *AutoSnapshots) Run(ctx context.Context) {
	warned := ""
	for {
		wait := min(a.Every, time.Minute)
		if s := a.Source.Status(); s.State == "leader" && s.Ready {
			due, err := a.due(s)
			if err == nil && due {
				err = a.save(ctx, s)
			}
			if err != nil && ctx.Err() == nil {
				a.failed.Add(1)
				if warned != err.Error() {
					a.Logger.Error("automatic snapshot not saved", "dir", a.Dir, "err", err)
				}
				warned = err.Error()
			} else {
				warned = ""
			}
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
	}
}

// due reports whether a snapshot is to be saved now: one that would hold nothing new is not.
func (a *AutoSnapshots) due(s Status) (bool, error) {
	now := time.Now()
	files, err := a.files(now)
	if err != nil || len(files) == 0 {
		return err == nil, err
	}
	last := files[len(files)-1]
	if last.at.IsZero() {
		return true, nil
	}
	unchanged, at := last.tables == tablesNow(s), last.at
	if unchanged {
		at = now
	}
	a.current.Store(at.Unix())
	return now.Sub(last.at) >= a.Every && !unchanged, nil
}

// tablesNow tells what the tables are like now, for the name of a file: the index of the last change of any, and a sum of the
// names and versions of all, which a table that is dropped changes too.
func tablesNow(s Status) string {
	last, all := uint64(0), fnv.New32a()
	for _, t := range s.Tables {
		last = max(last, t.Version)
		fmt.Fprintf(all, "%s %d\n", t.Name, t.Version)
	}
	return fmt.Sprintf("%d-%08x", last, all.Sum32())
}

// An automatic is a snapshot in the directory: postraft-AT-TABLES.snapshot.
type automatic struct {
	path   string
	at     time.Time
	index  uint64 // the first of tables
	tables string // by tablesNow
}

// automaticOf reads the name of a file. Others than those that were saved here are not ours to remove.
func automaticOf(path string) (f automatic, ok bool) {
	stamp, tables, _ := strings.Cut(strings.TrimSuffix(strings.TrimPrefix(filepath.Base(path), snapshotPrefix), snapshotSuffix), "-")
	at, err := time.Parse(snapshotTime, stamp)
	digits, _, _ := strings.Cut(tables, "-") // all there is in files of earlier versions
	index, indexErr := strconv.ParseUint(digits, 10, 64)
	return automatic{path, at, index, tables}, err == nil && indexErr == nil
}

// files returns the snapshots in the directory, the oldest first. Those that are later than now, which a clock that was wrong has
// made, have the zero time.
func (a *AutoSnapshots) files(now time.Time) (files []automatic, err error) {
	paths, err := filepath.Glob(filepath.Join(a.Dir, snapshotPrefix+"*"+snapshotSuffix))
	for _, path := range paths {
		if f, ok := automaticOf(path); ok {
			if f.at.After(now) {
				f.at = time.Time{}
			}
			files = append(files, f)
		}
	}
	slices.SortFunc(files, func(a, b automatic) int {
		return cmp.Or(a.at.Compare(b.at), cmp.Compare(a.index, b.index), strings.Compare(a.path, b.path))
	})
	return files, err
}

// save writes a snapshot beside and gives it its name when it is on disk, then removes the oldest ones.
func (a *AutoSnapshots) save(ctx context.Context, s Status) error {
	ctx, cancel := context.WithTimeout(ctx, saveTimeout)
	defer cancel()
	a.removeHalves()
	name := snapshotPrefix + time.Now().UTC().Format(snapshotTime) + "-" + tablesNow(s) + snapshotSuffix
	tmp := filepath.Join(a.Dir, "."+name+halfSuffix)
	began := time.Now()
	size, err := a.write(ctx, tmp)
	if err == nil {
		err = os.Rename(tmp, filepath.Join(a.Dir, name))
	}
	if err != nil {
		if rmErr := os.Remove(tmp); rmErr != nil && !errors.Is(rmErr, os.ErrNotExist) {
			err = errors.Join(err, rmErr)
		}
		return err
	}
	a.saved.Add(1)
	a.current.Store(began.Unix())
	a.Logger.Info("automatic snapshot saved", "file", filepath.Join(a.Dir, name), "bytes", size, "took", time.Since(began).Round(time.Millisecond))
	files, err := a.files(time.Now())
	if err != nil {
		return err
	}
	for _, old := range files[:max(0, len(files)-a.Keep)] {
		if err := os.Remove(old.path); err != nil {
			return fmt.Errorf("remove old snapshot: %w", err)
		}
	}
	return nil
}

// removeHalves removes what is left of snapshots that ended with their process. A younger one may be another node's.
func (a *AutoSnapshots) removeHalves() {
	halves, _ := filepath.Glob(filepath.Join(a.Dir, "."+snapshotPrefix+"*"+snapshotSuffix+halfSuffix))
	for _, half := range halves {
		info, err := os.Stat(half)
		if err == nil && time.Since(info.ModTime()) > saveTimeout {
			err = os.Remove(half)
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			a.Logger.Warn("rest of an automatic snapshot stays", "file", half, "err", err)
		}
	}
}

func (a *AutoSnapshots) write(ctx context.Context, path string) (int64, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return 0, err
	}
	err = a.Source.SaveSnapshot(ctx, f)
	if err == nil {
		err = f.Sync()
	}
	size, seekErr := f.Seek(0, io.SeekEnd)
	return size, errors.Join(err, seekErr, f.Close())
}

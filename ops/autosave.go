package ops

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
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
	files, err := a.files()
	if err != nil || len(files) == 0 {
		return err == nil, err
	}
	var stamp string
	var index uint64
	last := filepath.Base(files[len(files)-1])
	text := strings.TrimSuffix(strings.TrimPrefix(last, snapshotPrefix), snapshotSuffix)
	stamp, text, _ = strings.Cut(text, "-")
	at, err := time.Parse(snapshotTime, stamp)
	if _, scanErr := fmt.Sscanf(text, "%d", &index); err != nil || scanErr != nil {
		return true, nil // not a name of ours
	}
	age := time.Since(at)
	if age < 0 {
		return true, nil // the clock has jumped
	}
	unchanged := index == tablesVersion(s)
	if unchanged {
		at = time.Now()
	}
	a.current.Store(at.Unix())
	return age >= a.Every && !unchanged, nil
}

// tablesVersion is the index of the last change of any table.
func tablesVersion(s Status) uint64 {
	last := uint64(len(s.Tables)) // a table that was dropped changes it, too
	for _, t := range s.Tables {
		last = max(last, t.Version)
	}
	return last
}

// files returns the snapshots in the directory, the oldest first.
func (a *AutoSnapshots) files() ([]string, error) {
	files, err := filepath.Glob(filepath.Join(a.Dir, snapshotPrefix+"*"+snapshotSuffix))
	slices.Sort(files)
	return files, err
}

// save writes a snapshot beside and gives it its name when it is on disk, then removes the oldest ones.
func (a *AutoSnapshots) save(ctx context.Context, s Status) error {
	ctx, cancel := context.WithTimeout(ctx, saveTimeout)
	defer cancel()
	name := fmt.Sprintf("%s%s-%d%s", snapshotPrefix, time.Now().UTC().Format(snapshotTime), tablesVersion(s), snapshotSuffix)
	tmp := filepath.Join(a.Dir, "."+name+".tmp")
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
	files, err := a.files()
	if err != nil {
		return err
	}
	for _, old := range files[:max(0, len(files)-a.Keep)] {
		if err := os.Remove(old); err != nil {
			return fmt.Errorf("remove old snapshot: %w", err)
		}
	}
	return nil
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

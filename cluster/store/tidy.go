package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/hashicorp/raft-wal/types"
)

// tidyFS keeps raft-wal from what it cannot read: a segment that could not be created whole is removed, and the
// last one is mended before it is written to.
type tidyFS struct {
	types.VFS
	applied func() uint64          // what the node has applied so far
	syncDir func(dir string) error // syncDir
}

// OpenWriter implements types.VFS.
func (f tidyFS) OpenWriter(dir, name string) (types.WritableFile, error) {
	w, err := f.VFS.OpenWriter(dir, name)
	if err != nil {
		return nil, err
	}
	if err := mendTail(w, f.applied()); err != nil {
		return nil, errors.Join(fmt.Errorf("mend %s: %w", filepath.Join(dir, name), err), w.Close())
	}
	// raft-wal puts the name of a new segment on disk with what is written to it first. A process may have ended before
	// that, and this one is not new any more.
	if err := f.syncDir(dir); err != nil {
		return nil, errors.Join(fmt.Errorf("sync %s: %w", dir, err), w.Close())
	}
	return dataOnly(w), nil
}

// Create implements types.VFS.
func (f tidyFS) Create(dir, name string, size uint64) (types.WritableFile, error) {
	_, before := os.Lstat(filepath.Join(dir, name))
	w, err := f.VFS.Create(dir, name, size)
	if err != nil && errors.Is(before, os.ErrNotExist) {
		if rmErr := os.Remove(filepath.Join(dir, name)); rmErr != nil && !errors.Is(rmErr, os.ErrNotExist) {
			err = errors.Join(err, rmErr)
		}
	}
	if err != nil {
		return nil, err
	}
	return dataOnly(w), nil
}

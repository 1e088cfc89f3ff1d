package store

import (
	"errors"
	"os"
	"path/filepath"

	"github.com/hashicorp/raft-wal/types"
)

// tidyFS removes a file that could not be created whole: raft-wal would take an empty segment for damage.
type tidyFS struct{ types.VFS }

// Create implements types.VFS.
func (f tidyFS) Create(dir, name string, size uint64) (types.WritableFile, error) {
	_, before := os.Lstat(filepath.Join(dir, name))
	w, err := f.VFS.Create(dir, name, size)
	if err != nil && errors.Is(before, os.ErrNotExist) {
		if rmErr := os.Remove(filepath.Join(dir, name)); rmErr != nil && !errors.Is(rmErr, os.ErrNotExist) {
			err = errors.Join(err, rmErr)
		}
	}
	return w, err
}

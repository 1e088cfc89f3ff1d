package store

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/hashicorp/raft-wal/fs"
	"github.com/hashicorp/raft-wal/types"
)

// syncedFile counts whole syncs, which fail with err.
type syncedFile struct {
	*os.File
	err   error
	whole int
}

func (f *syncedFile) Sync() error {
	f.whole++
	return f.err
}

// TestTidyFS_DataOnly ensures that segments, new ones and those of before, are files of which only the data is synced.
func TestTidyFS_DataOnly(t *testing.T) {
	dir, files := t.TempDir(), tidyFS{fs.New(), func() uint64 { return 0 }, syncDir}
	for name, open := range map[string]func() (types.WritableFile, error){
		"new":    func() (types.WritableFile, error) { return files.Create(dir, "new.wal", 4096) },
		"before": func() (types.WritableFile, error) { return files.OpenWriter(dir, "before.wal") },
	} {
		if err := os.WriteFile(filepath.Join(dir, "before.wal"), make([]byte, 4096), 0o600); err != nil {
			t.Fatal(err)
		}
		w, err := open()
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		if _, ok := w.(*dataFile); !ok {
			t.Errorf("%s: it is a %T", name, w)
		}
	}
}

// TestTidyFS_NameOnDisk ensures that a segment of before is written to only once its name is on disk, which the process that
// made it may not have seen to.
func TestTidyFS_NameOnDisk(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "before.wal"), make([]byte, 4096), 0o600); err != nil {
		t.Fatal(err)
	}
	var synced []string
	var failure error
	files := tidyFS{fs.New(), func() uint64 { return 0 }, func(dir string) error {
		synced = append(synced, dir)
		return failure
	}}
	w, err := files.OpenWriter(dir, "before.wal")
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if len(synced) != 1 || synced[0] != dir {
		t.Errorf("synced: %q", synced)
	}
	failure = syscall.EIO
	if _, err := files.OpenWriter(dir, "before.wal"); !errors.Is(err, syscall.EIO) {
		t.Errorf("the name could not be put on disk: %v", err)
	}
}

// TestDataOnly ensures that a file is synced as a whole until that has worked once, then without its times, and that
// failures of that are told.
func TestDataOnly(t *testing.T) {
	file, err := os.Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	f := &syncedFile{File: file, err: syscall.EIO}
	w := dataOnly(f)
	if err := w.Sync(); !errors.Is(err, syscall.EIO) {
		t.Errorf("the first sync: %v", err)
	}
	f.err = nil
	for range 3 {
		if err := w.Sync(); err != nil {
			t.Fatal(err)
		}
	}
	if f.whole != 2 {
		t.Errorf("%d syncs were whole, want 2", f.whole)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := w.Sync(); err == nil {
		t.Error("a closed file is synced")
	}
}

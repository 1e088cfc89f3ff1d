package store

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
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

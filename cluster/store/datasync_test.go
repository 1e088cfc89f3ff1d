package store

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"unsafe"

	"github.com/hashicorp/raft-wal/fs"
	"github.com/hashicorp/raft-wal/types"
	"golang.org/x/sys/unix"
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

// TestDataOnly_Cache ensures that what a load has written leaves the page cache once it is on disk, and that what single updates
// have written stays for the followers that are to get it.
func TestDataOnly_Cache(t *testing.T) {
	file, err := os.Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	var system unix.Statfs_t
	if err := unix.Fstatfs(int(file.Fd()), &system); err != nil {
		t.Fatal(err)
	}
	w := dataOnly(file)
	defer w.Close()
	page := os.Getpagesize()
	at := 0
	for _, step := range []struct {
		name  string
		bytes int
		stays bool
	}{
		{"the first load", bulk, false},
		{"updates", 4 * page, true},
		{"part of a page", page / 2, true},
		{"a load from there", 2 * bulk, false},
	} {
		for n := range 2 {
			part := make([]byte, step.bytes/2)
			if _, err := w.WriteAt(part, int64(at+n*len(part))); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Sync(); err != nil {
			t.Fatal(err)
		}
		first := (at + page - 1) / page
		at += step.bytes
		kept, last := cached(t, file, at), at/page
		if system.Type == unix.TMPFS_MAGIC { // where the cache is all there is
			continue
		}
		for i := first; i < last; i++ {
			if kept[i] != step.stays {
				t.Errorf("%s: page %d of %d to %d is in the cache: %v", step.name, i, first, last, kept[i])
				break
			}
		}
	}
}

// cached tells of each page of a file of that size whether it is in the page cache.
func cached(t *testing.T, file *os.File, size int) []bool {
	t.Helper()
	mapped, err := unix.Mmap(int(file.Fd()), 0, size, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(mapped)
	page := os.Getpagesize()
	state := make([]byte, (size+page-1)/page)
	if _, _, errno := unix.Syscall(unix.SYS_MINCORE, uintptr(unsafe.Pointer(&mapped[0])), uintptr(size), uintptr(unsafe.Pointer(&state[0]))); errno != 0 {
		t.Fatal(errno)
	}
	in := make([]bool, len(state))
	for i := range state {
		in[i] = state[i]&1 != 0
	}
	return in
}

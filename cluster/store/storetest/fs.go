// Package storetest makes disks fail, for tests.
package storetest

import (
	"io"
	"sync"
	"time"

	"github.com/hashicorp/raft-wal/fs"
	"github.com/hashicorp/raft-wal/types"
)

// An FS is the file system of a raft log, with faults that can be turned on and off from any goroutine.
type FS struct {
	inner types.VFS

	mu      sync.Mutex
	open    error
	create  error
	write   error
	sync    error
	slow    time.Duration
	healed  chan struct{} // closed by Heal
	written int           // bytes that a failing write still puts on disk
}

// New returns a file system without faults.
func New() *FS { return &FS{inner: fs.New(), healed: make(chan struct{})} }

// Fail makes each write, sync and creation of a file fail with err; of a write, part bytes reach the disk.
func (f *FS) Fail(err error, part int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.create, f.write, f.sync, f.written = err, err, err, part
}

// FailCreate makes each creation of a file fail with err; all else works.
func (f *FS) FailCreate(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.create = err
}

// FailSync makes each sync fail with err; writes work.
func (f *FS) FailSync(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sync = err
}

// FailOpen makes each opening of a file fail with err.
func (f *FS) FailOpen(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.open = err
}

// Slow makes each sync take d longer, or until Heal.
func (f *FS) Slow(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.slow = d
}

// Heal ends all faults.
func (f *FS) Heal() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.open, f.create, f.write, f.sync, f.slow = nil, nil, nil, nil, 0
	close(f.healed)
	f.healed = make(chan struct{})
}

// ListDir implements types.VFS.
func (f *FS) ListDir(dir string) ([]string, error) { return f.inner.ListDir(dir) }

// Delete implements types.VFS.
func (f *FS) Delete(dir, name string) error { return f.inner.Delete(dir, name) }

// OpenReader implements types.VFS.
func (f *FS) OpenReader(dir, name string) (types.ReadableFile, error) {
	if err := f.opening(); err != nil {
		return nil, err
	}
	return f.inner.OpenReader(dir, name)
}

func (f *FS) opening() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.open
}

// OpenWriter implements types.VFS.
func (f *FS) OpenWriter(dir, name string) (types.WritableFile, error) {
	if err := f.opening(); err != nil {
		return nil, err
	}
	w, err := f.inner.OpenWriter(dir, name)
	if err != nil {
		return nil, err
	}
	return &file{w, f}, nil
}

// Create implements types.VFS. Like a full disk, it leaves an empty file behind when it fails.
func (f *FS) Create(dir, name string, size uint64) (types.WritableFile, error) {
	f.mu.Lock()
	fault := f.create
	f.mu.Unlock()
	if fault != nil {
		size = 0
	}
	w, err := f.inner.Create(dir, name, size)
	if err != nil {
		return nil, err
	}
	if fault != nil {
		w.Close()
		return nil, fault
	}
	return &file{w, f}, nil
}

type file struct {
	types.WritableFile
	fs *FS
}

// WriteAt implements io.WriterAt.
func (f *file) WriteAt(p []byte, off int64) (int, error) {
	f.fs.mu.Lock()
	fault, part := f.fs.write, min(f.fs.written, len(p))
	f.fs.mu.Unlock()
	if fault != nil {
		n, err := f.WritableFile.WriteAt(p[:part], off)
		if err == nil {
			err = fault
		}
		return n, err
	}
	return f.WritableFile.WriteAt(p, off)
}

// Sync implements types.WritableFile.
func (f *file) Sync() error {
	f.fs.mu.Lock()
	fault, slow, healed := f.fs.sync, f.fs.slow, f.fs.healed
	f.fs.mu.Unlock()
	if slow > 0 {
		timer := time.NewTimer(slow)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-healed:
		}
	}
	if fault != nil {
		return fault
	}
	return f.WritableFile.Sync()
}

var _ io.WriterAt = (*file)(nil)

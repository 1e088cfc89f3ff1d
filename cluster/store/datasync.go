package store

import (
	"errors"
	"os"
	"syscall"

	"github.com/hashicorp/raft-wal/types"
	"golang.org/x/sys/unix"
)

// dataFile is a file whose second and later Sync leaves out what nobody needs to read it, which is when it was written
// (fdatasync(2)): segments keep their size, so a journaling file system need not write its journal for each append. The
// first one is whole, for nothing that makes the file may be on disk yet.
//
// What loads of tables write is put out of the page cache once it is on disk. It is read again by a restart or by a node that
// has fallen behind, if at all, and would take the place of what the host's other programs use.
type dataFile struct {
	types.WritableFile
	conn     syscall.RawConn
	whole    bool
	from, to int64 // what was written since the last sync
}

// bulk is how much is written before one sync by a load of a table and not by single updates, in bytes.
const bulk = 128 << 10

// dataOnly returns w, as a dataFile if it is a file of the operating system.
func dataOnly(w types.WritableFile) types.WritableFile {
	if f, ok := w.(syscall.Conn); ok {
		if conn, err := f.SyscallConn(); err == nil {
			return &dataFile{WritableFile: w, conn: conn}
		}
	}
	return w
}

// WriteAt implements types.WritableFile. It is not to be called beside Sync.
func (f *dataFile) WriteAt(p []byte, at int64) (n int, err error) {
	n, err = f.WritableFile.WriteAt(p, at)
	if f.from == f.to {
		f.from, f.to = at, at
	}
	f.from, f.to = min(f.from, at), max(f.to, at+int64(n))
	return n, err
}

// Sync implements types.WritableFile. It is not to be called by two goroutines at the same time.
func (f *dataFile) Sync() error {
	if !f.whole {
		if err := f.WritableFile.Sync(); err != nil {
			return err
		}
		f.whole = true
	} else if err := f.control("fdatasync", unix.Fdatasync); err != nil {
		return err
	}
	if from := f.from &^ int64(os.Getpagesize()-1); f.to-from >= bulk {
		_ = f.control("fadvise", func(fd int) error { return unix.Fadvise(fd, from, f.to-from, unix.FADV_DONTNEED) }) // nothing hangs on it
	}
	f.from, f.to = 0, 0
	return nil
}

// control makes a system call with the file.
func (f *dataFile) control(name string, call func(fd int) error) error {
	var failed error
	err := f.conn.Control(func(fd uintptr) {
		for failed = unix.EINTR; failed == unix.EINTR; {
			failed = call(int(fd))
		}
	})
	return errors.Join(err, os.NewSyscallError(name, failed))
}

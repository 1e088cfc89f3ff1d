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
type dataFile struct {
	types.WritableFile
	conn  syscall.RawConn
	whole bool
}

// dataOnly returns w, as a dataFile if it is a file of the operating system.
func dataOnly(w types.WritableFile) types.WritableFile {
	if f, ok := w.(syscall.Conn); ok {
		if conn, err := f.SyscallConn(); err == nil {
			return &dataFile{WritableFile: w, conn: conn}
		}
	}
	return w
}

// Sync implements types.WritableFile. It is not to be called by two goroutines at the same time.
func (f *dataFile) Sync() error {
	if !f.whole {
		err := f.WritableFile.Sync()
		f.whole = err == nil
		return err
	}
	var synced error
	err := f.conn.Control(func(fd uintptr) {
		for synced = unix.EINTR; synced == unix.EINTR; {
			synced = unix.Fdatasync(int(fd))
		}
	})
	return errors.Join(err, os.NewSyscallError("fdatasync", synced))
}

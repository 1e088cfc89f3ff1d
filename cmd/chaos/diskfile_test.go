package chaos

import (
	"context"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// A diskFile is an open file of a disk.
type diskFile struct {
	disk *disk
	fd   int
}

var (
	_ fs.FileReader    = (*diskFile)(nil)
	_ fs.FileWriter    = (*diskFile)(nil)
	_ fs.FileAllocater = (*diskFile)(nil)
	_ fs.FileReleaser  = (*diskFile)(nil)
	_ fs.FileFlusher   = (*diskFile)(nil)
	_ fs.FileGetattrer = (*diskFile)(nil)
)

func openFile(d *disk, path string) (*diskFile, syscall.Errno) {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fs.ToErrno(err)
	}
	return &diskFile{d, fd}, 0
}

func fileInode(f *diskFile) uint64 {
	var st unix.Stat_t
	if unix.Fstat(f.fd, &st) != nil {
		return 0
	}
	return st.Ino
}

// Read implements fs.FileReader.
func (f *diskFile) Read(_ context.Context, buf []byte, offset int64) (fuse.ReadResult, syscall.Errno) {
	n, err := unix.Pread(f.fd, buf, offset)
	if err != nil {
		return nil, fs.ToErrno(err)
	}
	return fuse.ReadResultData(buf[:n]), 0
}

// Write implements fs.FileWriter.
func (f *diskFile) Write(_ context.Context, data []byte, offset int64) (uint32, syscall.Errno) {
	im := f.disk.image
	im.mu.Lock()
	defer im.mu.Unlock()
	var st unix.Stat_t
	if err := unix.Fstat(f.fd, &st); err != nil {
		return 0, fs.ToErrno(err)
	}
	if errno := f.disk.refuses(offset+int64(len(data)) > st.Size); errno != 0 {
		return 0, errno
	}
	if err := im.willWrite(f.fd, offset, data); err != nil {
		return 0, syscall.EIO
	}
	n, err := unix.Pwrite(f.fd, data, offset)
	return uint32(n), fs.ToErrno(err)
}

// resize sets the size of the file.
func (f *diskFile) resize(size int64) syscall.Errno {
	im := f.disk.image
	im.mu.Lock()
	defer im.mu.Unlock()
	var st unix.Stat_t
	if err := unix.Fstat(f.fd, &st); err != nil {
		return fs.ToErrno(err)
	}
	if errno := f.disk.refuses(size > st.Size); errno != 0 {
		return errno
	}
	if err := im.willResize(f.fd, size); err != nil {
		return syscall.EIO
	}
	return fs.ToErrno(unix.Ftruncate(f.fd, size))
}

// Allocate implements fs.FileAllocater. The room is not really taken.
func (f *diskFile) Allocate(_ context.Context, offset, size uint64, mode uint32) syscall.Errno {
	if mode != 0 {
		return syscall.EOPNOTSUPP
	}
	var st unix.Stat_t
	if err := unix.Fstat(f.fd, &st); err != nil {
		return fs.ToErrno(err)
	}
	if int64(offset+size) <= st.Size {
		return 0
	}
	return f.resize(int64(offset + size))
}

// Getattr implements fs.FileGetattrer.
func (f *diskFile) Getattr(_ context.Context, out *fuse.AttrOut) syscall.Errno {
	var st syscall.Stat_t
	if err := syscall.Fstat(f.fd, &st); err != nil {
		return fs.ToErrno(err)
	}
	out.FromStat(&st)
	return 0
}

// Flush implements fs.FileFlusher.
func (f *diskFile) Flush(context.Context) syscall.Errno { return 0 }

// Release implements fs.FileReleaser.
func (f *diskFile) Release(context.Context) syscall.Errno {
	return fs.ToErrno(unix.Close(f.fd))
}

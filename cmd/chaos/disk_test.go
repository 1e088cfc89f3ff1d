package chaos

import (
	"context"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// ailments are what is wrong with a disk.
type ailments struct {
	write    syscall.Errno // every write and every new name fails with this
	sync     syscall.Errno // every fsync fails with this
	forget   bool          // what an fsync that failed should have written is not written by the next one
	full     bool          // no file can grow and none be made
	failing  float64       // part of the writes and fsyncs that fail where write or sync say so; 0 is all
	syncTime time.Duration // how long an fsync takes at most
	hang     bool          // fsyncs wait until this ends
}

// A disk is the file system with a node's data directory. It is mounted where its keeper lives.
type disk struct {
	dir    string // the mount point
	image  *image
	keeper *keeper
	server *fuse.Server

	mu     sync.Mutex
	ails   ailments
	healed chan struct{} // closed when ails changes
}

func newDisk(k *keeper, dir string) (*disk, error) {
	im, err := newImage(filepath.Join(dir, "disk"))
	if err != nil {
		return nil, err
	}
	d := &disk{dir: filepath.Join(dir, "data"), image: im, keeper: k, healed: make(chan struct{})}
	if err := os.MkdirAll(d.dir, 0o700); err != nil {
		return nil, err
	}
	return d, d.mount()
}

func (d *disk) mount() error {
	second := time.Second
	return d.keeper.do(func() error {
		root, err := fs.NewLoopbackRoot(d.image.live)
		if err != nil {
			return err
		}
		d.server, err = fs.Mount(d.dir, &diskNode{root.(*fs.LoopbackNode), d}, &fs.Options{
			EntryTimeout: &second, AttrTimeout: &second,
			MountOptions: fuse.MountOptions{
				DirectMountStrict: true, DisableXAttrs: true, FsName: "chaos", Name: "chaos",
				Logger: log.New(io.Discard, "", 0),
			},
		})
		if err != nil {
			return fmt.Errorf("mount %s: %w", d.dir, err)
		}
		return nil
	})
}

func (d *disk) unmount() error {
	d.ail(ailments{})
	err := d.keeper.do(d.server.Unmount)
	if err != nil {
		return fmt.Errorf("unmount %s: %w", d.dir, err)
	}
	return nil
}

// ail changes what is wrong with the disk. An fsync that hangs goes on.
func (d *disk) ail(a ailments) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ails = a
	close(d.healed)
	d.healed = make(chan struct{})
}

func (d *disk) state() (ailments, <-chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.ails, d.healed
}

// powerCut forgets what was not fsynced; wipe forgets everything. No process may use the disk meanwhile.
func (d *disk) powerCut(r *rand.Rand) (account string, err error) {
	return account, d.offline(func() (err error) {
		account, err = d.image.powerCut(r)
		return err
	})
}

func (d *disk) wipe() error { return d.offline(d.image.wipe) }

// offline changes the tree behind the file system's back: the kernel forgets what it knew of it.
func (d *disk) offline(change func() error) error {
	if err := d.unmount(); err != nil {
		return err
	}
	if err := change(); err != nil {
		return err
	}
	return d.mount()
}

// chance reports whether a fault that strikes a part of the calls strikes this one.
func (a *ailments) chance() bool { return a.failing == 0 || rand.Float64() < a.failing }

// refuses returns why a write fails. grows says that it needs new room.
func (d *disk) refuses(grows bool) syscall.Errno {
	a, _ := d.state()
	switch {
	case a.write != 0 && a.chance():
		return a.write
	case a.full && grows:
		return syscall.ENOSPC
	}
	return 0
}

// fsync makes what was written last.
func (d *disk) fsync(fd int, dir bool) syscall.Errno {
	b, err := d.image.begin(fd, dir)
	if err != nil {
		return fs.ToErrno(err)
	}
	a, healed := d.state()
	switch {
	case a.hang:
		<-healed
	case a.syncTime > 0:
		select {
		case <-time.After(rand.N(a.syncTime)):
		case <-healed:
		}
	default:
		time.Sleep(rand.N(2 * time.Millisecond)) // a disk takes its time
	}
	if a, _ := d.state(); a.sync != 0 && a.chance() {
		if a.forget {
			d.image.fail(b)
		}
		return a.sync
	}
	d.image.end(b)
	return 0
}

// A diskNode is a file or directory of a disk. What it does not change is as on the file system below.
type diskNode struct {
	*fs.LoopbackNode
	disk *disk
}

var (
	_ fs.NodeWrapChilder    = (*diskNode)(nil)
	_ fs.NodeCreater        = (*diskNode)(nil)
	_ fs.NodeOpener         = (*diskNode)(nil)
	_ fs.NodeMkdirer        = (*diskNode)(nil)
	_ fs.NodeUnlinker       = (*diskNode)(nil)
	_ fs.NodeRmdirer        = (*diskNode)(nil)
	_ fs.NodeRenamer        = (*diskNode)(nil)
	_ fs.NodeSetattrer      = (*diskNode)(nil)
	_ fs.NodeFsyncer        = (*diskNode)(nil)
	_ fs.NodeOpendirHandler = (*diskNode)(nil)
	_ fs.FileFsyncdirer     = (*diskDir)(nil)
)

// WrapChild implements fs.NodeWrapChilder.
func (n *diskNode) WrapChild(_ context.Context, ops fs.InodeEmbedder) fs.InodeEmbedder {
	return &diskNode{ops.(*fs.LoopbackNode), n.disk}
}

func (n *diskNode) path(names ...string) string {
	return filepath.Join(append([]string{n.disk.image.live, n.Path(nil)}, names...)...)
}

// Create implements fs.NodeCreater.
func (n *diskNode) Create(ctx context.Context, name string, flags, mode uint32, out *fuse.EntryOut) (*fs.Inode, fs.FileHandle, uint32, syscall.Errno) {
	im, path := n.disk.image, n.path(name)
	im.mu.Lock()
	defer im.mu.Unlock()
	var before syscall.Stat_t
	if syscall.Lstat(path, &before) == nil {
		return nil, nil, 0, syscall.EEXIST // the kernel would have opened it
	}
	if errno := n.disk.refuses(true); errno != 0 {
		return nil, nil, 0, errno
	}
	flags = flags&^(syscall.O_ACCMODE|syscall.O_TRUNC|syscall.O_APPEND) | syscall.O_RDWR
	inode, other, fuseFlags, errno := n.LoopbackNode.Create(ctx, name, flags, mode, out)
	if errno != 0 {
		return nil, nil, 0, errno
	}
	other.(fs.FileReleaser).Release(ctx)
	f, errno := openFile(n.disk, path)
	if errno != 0 {
		return nil, nil, 0, errno
	}
	im.named(fileInode(f), func() error { return os.RemoveAll(path) })
	return inode, f, fuseFlags, 0
}

// Open implements fs.NodeOpener.
func (n *diskNode) Open(_ context.Context, flags uint32) (fs.FileHandle, uint32, syscall.Errno) {
	f, errno := openFile(n.disk, n.path())
	if errno == 0 && flags&syscall.O_TRUNC != 0 {
		errno = f.resize(0)
	}
	if errno != 0 {
		return nil, 0, errno
	}
	return f, fuse.FOPEN_KEEP_CACHE, 0
}

// Mkdir implements fs.NodeMkdirer.
func (n *diskNode) Mkdir(ctx context.Context, name string, mode uint32, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	if errno := n.disk.refuses(true); errno != 0 {
		return nil, errno
	}
	im, path := n.disk.image, n.path(name)
	im.mu.Lock()
	defer im.mu.Unlock()
	inode, errno := n.LoopbackNode.Mkdir(ctx, name, mode, out)
	if errno == 0 {
		im.named(0, func() error { return os.RemoveAll(path) })
	}
	return inode, errno
}

// Unlink implements fs.NodeUnlinker.
func (n *diskNode) Unlink(_ context.Context, name string) syscall.Errno {
	if errno := n.disk.refuses(false); errno != 0 {
		return errno
	}
	n.disk.image.mu.Lock()
	defer n.disk.image.mu.Unlock()
	return fs.ToErrno(n.disk.image.bury(n.path(name)))
}

// Rmdir implements fs.NodeRmdirer.
func (n *diskNode) Rmdir(_ context.Context, name string) syscall.Errno {
	if errno := n.disk.refuses(false); errno != 0 {
		return errno
	}
	entries, err := os.ReadDir(n.path(name))
	if err != nil {
		return fs.ToErrno(err)
	}
	if len(entries) > 0 {
		return syscall.ENOTEMPTY
	}
	n.disk.image.mu.Lock()
	defer n.disk.image.mu.Unlock()
	return fs.ToErrno(n.disk.image.bury(n.path(name)))
}

// Rename implements fs.NodeRenamer.
func (n *diskNode) Rename(_ context.Context, name string, parent fs.InodeEmbedder, newName string, flags uint32) syscall.Errno {
	to, ok := parent.(*diskNode)
	if !ok || flags != 0 {
		return syscall.EINVAL
	}
	if errno := n.disk.refuses(false); errno != 0 {
		return errno
	}
	im, from, target := n.disk.image, n.path(name), to.path(newName)
	im.mu.Lock()
	defer im.mu.Unlock()
	var st, old syscall.Stat_t
	if err := syscall.Lstat(from, &st); err != nil {
		return fs.ToErrno(err)
	}
	if syscall.Lstat(target, &old) == nil {
		if entries, err := os.ReadDir(target); err == nil && len(entries) > 0 {
			return syscall.ENOTEMPTY
		}
		// One step for whoever looks; two in the list, of which a power cut may keep the first only, unless
		// the second goes with it.
		if err := im.bury(target); err != nil {
			return fs.ToErrno(err)
		}
		buried := im.names[len(im.names)-1]
		im.names = im.names[:len(im.names)-1]
		if err := os.Rename(from, target); err != nil {
			return fs.ToErrno(err)
		}
		im.names = append(im.names, rename{inode: st.Ino, keep: buried.keep, undo: func() error {
			if err := os.Rename(target, from); err != nil {
				return err
			}
			return buried.undo()
		}})
		return 0
	}
	if err := os.Rename(from, target); err != nil {
		return fs.ToErrno(err)
	}
	im.named(st.Ino, func() error { return os.Rename(target, from) })
	return 0
}

// Setattr implements fs.NodeSetattrer.
func (n *diskNode) Setattr(ctx context.Context, fh fs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	if size, ok := in.GetSize(); ok {
		f, isFile := fh.(*diskFile)
		if !isFile {
			var errno syscall.Errno
			if f, errno = openFile(n.disk, n.path()); errno != 0 {
				return errno
			}
			defer f.Release(ctx)
		}
		if errno := f.resize(int64(size)); errno != 0 {
			return errno
		}
		in.Valid &^= fuse.FATTR_SIZE
	}
	return n.LoopbackNode.Setattr(ctx, nil, in, out)
}

// Fsync implements fs.NodeFsyncer, for files.
func (n *diskNode) Fsync(_ context.Context, fh fs.FileHandle, _ uint32) syscall.Errno {
	f, ok := fh.(*diskFile)
	if !ok {
		return syscall.EINVAL
	}
	return n.disk.fsync(f.fd, false)
}

// A diskDir is an open directory: the stream of the file system below, whose fsyncs are the disk's.
type diskDir struct {
	fs.FileReaddirenter
	fs.FileSeekdirer
	fs.FileReleasedirer
	node *diskNode
}

// OpendirHandle implements fs.NodeOpendirHandler.
func (n *diskNode) OpendirHandle(ctx context.Context, flags uint32) (fs.FileHandle, uint32, syscall.Errno) {
	below, out, errno := n.LoopbackNode.OpendirHandle(ctx, flags)
	if errno != 0 {
		return nil, 0, errno
	}
	return &diskDir{below.(fs.FileReaddirenter), below.(fs.FileSeekdirer), below.(fs.FileReleasedirer), n}, out, 0
}

// Fsyncdir implements fs.FileFsyncdirer.
func (d *diskDir) Fsyncdir(context.Context, uint32) syscall.Errno {
	dir, err := os.Open(d.node.path())
	if err != nil {
		return fs.ToErrno(err)
	}
	defer dir.Close()
	return d.node.disk.fsync(int(dir.Fd()), true)
}

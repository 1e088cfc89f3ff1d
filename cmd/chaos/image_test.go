package chaos

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// An image knows which part of a directory tree would survive a power cut. Of each file it keeps the writes
// since its last fsync, or of the last half minute, of the tree the changes of names since the last fsync of a
// directory; the file system that they are made on stays ahead.
//
// Names are as on a journaling file system: changes of names survive in order, an fsync of a directory keeps all
// before it, an fsync of a file all up to the last one that gave the file its name.
type image struct {
	live, grave string // the tree, and where unlinked files wait until that is on disk

	mu     sync.Mutex
	buried int
	files  map[uint64]*pending // by inode, those with writes that are not on disk
	names  []rename            // not on disk yet, in order
	synced int                 // how many of all changes of names are on disk
}

// pending are the writes to a file that are not on disk yet. The descriptor is the image's own.
type pending struct {
	fd     int
	writes []change
	before int // how many writes were taken from writes, because they are on disk
}

// settle says what became of the first n writes that wait.
func (p *pending) settle(n, state int) {
	for i := range max(n, 0) {
		if p.writes[i].state == waiting {
			p.writes[i].state = state
		}
	}
}

// A change is a write, or with new nil a new size of the file.
type change struct {
	offset   int64
	old, new []byte // old is what was there, up to the end of the file
	before   int64  // size of the file
	size     int64  // new size, where new is nil
	at       time.Time
	state    int // waiting, lost or safe
}

// What became of a write: it waits to be on disk; an fsync that was to bring it there failed, and the next one
// will not bring it either, for the kernel takes it for written; it is on disk.
const (
	waiting = iota
	lost
	safe
)

// A rename is a change of names and how to undo it.
type rename struct {
	inode uint64 // that got a name; 0 where one went
	undo  func() error
	keep  func() // when it is on disk
}

func newImage(dir string) (*image, error) {
	im := &image{live: filepath.Join(dir, "live"), grave: filepath.Join(dir, "grave"), files: map[uint64]*pending{}}
	for _, d := range []string{im.live, im.grave} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, err
		}
	}
	return im, nil
}

// willWrite notes a write that is about to be made. The caller holds mu.
func (im *image) willWrite(fd int, offset int64, data []byte) error {
	p, st, err := im.pendingOf(fd)
	if err != nil {
		return err
	}
	c := change{offset: offset, new: append([]byte{}, data...), before: st.Size, at: time.Now()}
	if n := min(st.Size-offset, int64(len(data))); n > 0 {
		c.old = make([]byte, n)
		if got, err := unix.Pread(fd, c.old, offset); err != nil || int64(got) != n {
			return fmt.Errorf("read what a write replaces: %d of %d bytes, %w", got, n, err)
		}
	}
	p.writes = append(p.writes, c)
	return nil
}

// willResize notes a new size that is about to be set. The caller holds mu.
func (im *image) willResize(fd int, size int64) error {
	p, st, err := im.pendingOf(fd)
	if err != nil || st.Size == size {
		return err
	}
	c := change{offset: size, before: st.Size, size: size, at: time.Now()}
	if n := st.Size - size; n > 0 {
		c.old = make([]byte, n)
		if got, err := unix.Pread(fd, c.old, size); err != nil || int64(got) != n {
			return fmt.Errorf("read what is cut off: %d of %d bytes, %w", got, n, err)
		}
	}
	p.writes = append(p.writes, c)
	return nil
}

func (im *image) pendingOf(fd int) (*pending, unix.Stat_t, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, st, err
	}
	p := im.files[st.Ino]
	if p == nil {
		own, err := unix.Dup(fd)
		if err != nil {
			return nil, st, err
		}
		unix.CloseOnExec(own)
		p = &pending{fd: own}
		im.files[st.Ino] = p
	}
	return p, st, nil
}

// A barrier is the moment at which an fsync began: what was written later is not its business.
type barrier struct {
	inode   uint64
	pending *pending
	writes  int
	names   int
}

// begin is called when an fsync of a file or directory begins, and end when it is done.
func (im *image) begin(fd int, dir bool) (barrier, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return barrier{}, err
	}
	im.mu.Lock()
	defer im.mu.Unlock()
	b := barrier{inode: st.Ino, names: im.synced}
	if p := im.files[st.Ino]; p != nil {
		b.pending, b.writes = p, p.before+len(p.writes)
	}
	for i, r := range im.names {
		if dir || r.inode == st.Ino {
			b.names = im.synced + i + 1
		}
	}
	return b, nil
}

func (im *image) end(b barrier) {
	im.mu.Lock()
	defer im.mu.Unlock()
	if p := im.files[b.inode]; p != nil && p == b.pending {
		im.keepWrites(b.inode, p, b.writes-p.before)
	}
	im.keepNames(b.names - im.synced)
}

// writeBack does what the kernel does by and by: what was written long ago is on disk.
func (im *image) writeBack(age time.Duration) {
	im.mu.Lock()
	defer im.mu.Unlock()
	for inode, p := range im.files {
		old := 0
		for old < len(p.writes) && time.Since(p.writes[old].at) > age {
			old++
		}
		im.keepWrites(inode, p, old)
	}
}

// fail is called when an fsync has failed, in place of end. The next one may succeed without bringing to disk
// what this one has not.
func (im *image) fail(b barrier) {
	im.mu.Lock()
	defer im.mu.Unlock()
	if p := im.files[b.inode]; p != nil && p == b.pending {
		p.settle(b.writes-p.before, lost)
	}
}

// keepWrites notes that the first n writes are on disk, but for those that are lost.
func (im *image) keepWrites(inode uint64, p *pending, n int) {
	p.settle(n, safe)
	n = 0
	for n < len(p.writes) && p.writes[n].state == safe {
		n++
	}
	p.writes, p.before = p.writes[n:], p.before+n
	if len(p.writes) == 0 {
		unix.Close(p.fd)
		delete(im.files, inode)
	}
}

func (im *image) keepNames(n int) {
	for i := range max(n, 0) {
		if im.names[i].keep != nil {
			im.names[i].keep()
		}
		im.synced++
	}
	im.names = im.names[max(n, 0):]
}

// named notes that a name was given to an inode. The caller holds mu.
func (im *image) named(inode uint64, undo func() error) {
	im.names = append(im.names, rename{inode: inode, undo: undo})
}

// bury takes a name away; its file comes back if the power is cut before that is on disk. The caller holds mu.
func (im *image) bury(path string) error {
	im.buried++
	tomb := filepath.Join(im.grave, fmt.Sprint(im.buried))
	if err := os.Rename(path, tomb); err != nil {
		return err
	}
	im.names = append(im.names, rename{undo: func() error { return os.Rename(tomb, path) }, keep: func() { os.RemoveAll(tomb) }})
	return nil
}

// powerCut takes the tree back to what is on disk, and a random part of what was under way. Nothing may use the
// tree meanwhile. It returns what was lost and what was kept of it.
func (im *image) powerCut(r *rand.Rand) (account string, err error) {
	im.mu.Lock()
	defer im.mu.Unlock()
	mode := []string{"nothing", "nothing", "a prefix", "a prefix", "any part"}[r.IntN(5)]
	names, writes, kept := len(im.names), 0, 0
	keepNames := 0
	if mode != "nothing" {
		keepNames = r.IntN(names + 1)
	}
	for i := names - 1; i >= keepNames; i-- {
		if err := im.names[i].undo(); err != nil {
			return "", fmt.Errorf("undo a change of names: %w", err)
		}
	}
	im.names = im.names[:keepNames]
	im.keepNames(keepNames)
	for inode, p := range im.files {
		for i := len(p.writes) - 1; i >= 0; i-- {
			if err := p.writes[i].revert(p.fd); err != nil {
				return "", fmt.Errorf("undo a write: %w", err)
			}
		}
		until := r.IntN(len(p.writes) + 1)
		for i, c := range p.writes {
			part := 1.0
			if c.state != safe {
				writes++
			}
			switch {
			case c.state == safe:
			case mode == "nothing" || mode == "a prefix" && i > until:
				continue
			case mode == "a prefix" && i == until:
				part = r.Float64()
			case mode == "any part":
				part = r.Float64() * 1.5
				if part < 0.25 {
					continue
				}
			}
			if c.state != safe {
				kept++
			}
			if err := c.repeat(p.fd, part); err != nil {
				return "", fmt.Errorf("keep a write: %w", err)
			}
		}
		unix.Close(p.fd)
		delete(im.files, inode)
	}
	return fmt.Sprintf("of %d writes in %d names not on disk %s survives: %d, %d", writes, names, mode, kept, keepNames), nil
}

// revert undoes a change, when all later ones are undone.
func (c *change) revert(fd int) error {
	if len(c.old) > 0 {
		if _, err := unix.Pwrite(fd, c.old, c.offset); err != nil {
			return err
		}
	}
	return unix.Ftruncate(fd, c.before)
}

// repeat makes a change again, or its first part.
func (c *change) repeat(fd int, part float64) error {
	if c.new == nil {
		return unix.Ftruncate(fd, c.size)
	}
	data := c.new
	if part < 1 {
		data = data[:int(part*float64(len(data)))]
	}
	_, err := unix.Pwrite(fd, data, c.offset)
	return err
}

// wipe empties the disk. Nothing may use the tree meanwhile.
func (im *image) wipe() error {
	im.mu.Lock()
	defer im.mu.Unlock()
	for inode, p := range im.files {
		unix.Close(p.fd)
		delete(im.files, inode)
	}
	im.names = nil
	for _, d := range []string{im.live, im.grave} {
		if err := os.RemoveAll(d); err != nil {
			return err
		}
		if err := os.MkdirAll(d, 0o700); err != nil {
			return err
		}
	}
	return nil
}

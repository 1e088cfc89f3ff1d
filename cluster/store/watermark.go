package store

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"os"
	"sync"
	"time"
)

const openTimeout = 2 * time.Second

// A Watermark remembers the highest index that the node has applied, so that a node which restarts without
// a leader knows how much of its log is surely committed. Raft itself does not write that down.
//
// The file has two slots of index and CRC-32, written in turn without waiting for the disk: a crash of the
// process loses nothing, a crash of the machine loses the last moments at most and never gives an index
// that is too high, because an entry is on disk before it is applied.
type Watermark struct {
	mu    sync.Mutex
	f     *os.File
	index uint64
	slot  int64
}

const slotSize = 16

func openWatermark(path string) (*Watermark, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open watermark: %w", err)
	}
	w := &Watermark{f: f}
	var b [2 * slotSize]byte
	n, _ := f.ReadAt(b[:], 0)
	for slot := range int64(2) {
		s := b[slot*slotSize : (slot+1)*slotSize]
		index := binary.LittleEndian.Uint64(s)
		if n >= int(slot+1)*slotSize && index > w.index && binary.LittleEndian.Uint32(s[8:]) == crc32.ChecksumIEEE(s[:8]) {
			w.index, w.slot = index, slot
		}
	}
	return w, nil
}

// Index returns the watermark, 0 when nothing was applied.
func (w *Watermark) Index() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.index
}

// Raise lifts the watermark to index; a lower one is ignored.
func (w *Watermark) Raise(index uint64) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if index <= w.index || w.f == nil {
		return nil
	}
	var b [slotSize]byte
	binary.LittleEndian.PutUint64(b[:], index)
	binary.LittleEndian.PutUint32(b[8:], crc32.ChecksumIEEE(b[:8]))
	slot := 1 - w.slot
	if _, err := w.f.WriteAt(b[:], slot*slotSize); err != nil {
		return fmt.Errorf("write watermark: %w", err)
	}
	w.index, w.slot = index, slot
	return nil
}

func (w *Watermark) close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	f := w.f
	w.f = nil
	if err := f.Sync(); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

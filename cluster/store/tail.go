package store

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/hashicorp/raft-wal/types"
)

// The frames of a segment of raft-wal, version 0: 8 bytes of kind and length or, for a commit, the CRC-32C of
// everything since the commit before; then the payload, filled up to 8 bytes. Entries are batched: entry
// frames, an index frame if the segment is full, a commit frame. A header of 32 bytes comes first.
const (
	segmentHeader = 32
	frameHeader   = 8

	frameEntry  = 1
	frameIndex  = 2
	frameCommit = 3
)

// A batch is what one commit frame commits.
type batch struct {
	start, end int64  // end is behind the commit frame
	index      int64  // where its index frame begins; 0 if it has none
	crc        uint32 // as written
	entries    uint64 // in the segment up to here
}

// mendTail prepares the last segment of a log for raft-wal, which cannot go on with one that was sealed but not
// yet followed by the next: every append would fail with "segment is sealed" for ever. Such a segment is what
// a crash, or a disk that fills up, leaves behind at that moment, whether or not the seal was committed.
//
// A committed seal is undone by a commit frame in place of the index, one write of 8 bytes; and whatever an
// append that was not committed has left behind the last commit is wiped. Where fewer entries than applied
// are committed the segment is damaged rather than torn, and is left as it is.
func mendTail(f types.WritableFile, applied uint64) error {
	base, last, err := lastBatch(f)
	if err != nil {
		return fmt.Errorf("read segment: %w", err)
	}
	if base+last.entries <= applied {
		return nil
	}
	end := last.end
	if last.index > 0 {
		sum, err := sumOf(f, last.start, last.index)
		if err != nil {
			return fmt.Errorf("read segment: %w", err)
		}
		frame := binary.LittleEndian.AppendUint32([]byte{frameCommit, 0, 0, 0}, sum)
		if _, err := f.WriteAt(frame, last.index); err != nil {
			return fmt.Errorf("unseal segment: %w", err)
		}
		if err := f.Sync(); err != nil {
			return fmt.Errorf("unseal segment: %w", err)
		}
		end = last.index + frameHeader
	}
	return wipe(f, end)
}

// lastBatch returns the last batch that was committed, by the rules of raft-wal: one behind which another was
// begun was, and one at the end was if its checksum fits. base is the index of the segment's first entry.
func lastBatch(f types.WritableFile) (base uint64, last batch, err error) {
	r := bufio.NewReaderSize(io.NewSectionReader(f, 0, 1<<40), 256<<10)
	var header [segmentHeader]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return 0, batch{}, atEnd(err)
	}
	base = binary.LittleEndian.Uint64(header[8:])
	var before, next batch
	at := int64(segmentHeader)
	for {
		var head [frameHeader]byte
		if _, err := io.ReadFull(r, head[:]); err != nil {
			if err = atEnd(err); err != nil {
				return 0, batch{}, err
			}
			break
		}
		value := binary.LittleEndian.Uint32(head[4:])
		size := int64(0)
		switch head[0] {
		case frameEntry:
			next.entries++
			size = int64(value)
		case frameIndex:
			next.index = at
			size = int64(value)
		case frameCommit:
			next.crc, next.end = value, at+frameHeader
			before, last = last, next
			next = batch{start: next.end, entries: next.entries}
		default:
			size = -1
		}
		if size < 0 {
			break
		}
		padded := (size + frameHeader - 1) &^ (frameHeader - 1)
		at += frameHeader + padded
		if skipped, err := io.CopyN(io.Discard, r, padded); skipped < padded {
			if err = atEnd(err); err != nil {
				return 0, batch{}, err
			}
			break
		}
	}
	if next.entries > last.entries || last.end == 0 {
		return base, last, nil
	}
	sum, err := sumOf(f, last.start, last.end-frameHeader)
	if err != nil {
		return 0, batch{}, err
	}
	if sum != last.crc {
		last = before
	}
	return base, last, nil
}

// atEnd makes nil of the errors that tell of the end of a file.
func atEnd(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil
	}
	return err
}

func sumOf(f types.WritableFile, from, to int64) (uint32, error) {
	sum := crc32.New(castagnoli)
	_, err := io.Copy(sum, io.NewSectionReader(f, from, to-from))
	return sum.Sum32(), err
}

// wipe makes zeros of everything from end on that is none.
func wipe(f types.WritableFile, end int64) error {
	buf, zeros := make([]byte, 256<<10), make([]byte, 256<<10)
	wiped := false
	for at := end; ; {
		n, err := f.ReadAt(buf, at)
		if err = atEnd(err); err != nil {
			return fmt.Errorf("read segment: %w", err)
		}
		if n == 0 {
			break
		}
		if !bytes.Equal(buf[:n], zeros[:n]) {
			if _, err := f.WriteAt(zeros[:n], at); err != nil {
				return fmt.Errorf("wipe torn end of segment: %w", err)
			}
			wiped = true
		}
		at += int64(n)
	}
	if !wiped {
		return nil
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("wipe torn end of segment: %w", err)
	}
	return nil
}

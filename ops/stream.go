package ops

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"strconv"

	"postraft/dict"
)

// The kinds of frames; see the package comment.
const (
	frameEntry   = 'e'
	frameAdded   = '+'
	frameChanged = '~'
	frameRemoved = '-'
	frameEnd     = '.'
	frameError   = '!'
)

const maxErrorFrame = 1 << 20

// A streamWriter writes frames. Its first error stays.
type streamWriter struct {
	w     *bufio.Writer
	count int
}

func newStreamWriter(w io.Writer) *streamWriter {
	return &streamWriter{w: bufio.NewWriterSize(w, 64<<10)}
}

// frame writes a frame in one piece, for there may be millions.
func (s *streamWriter) frame(kind byte, parts ...[]byte) error {
	s.count++
	b := append(s.w.AvailableBuffer(), kind)
	for _, p := range parts {
		b = append(binary.AppendUvarint(b, uint64(len(p))), p...)
	}
	_, err := s.w.Write(b)
	return err
}

func (s *streamWriter) entry(key, value []byte) error { return s.frame(frameEntry, key, value) }

func (s *streamWriter) change(c Change) error {
	switch {
	case c.Old == nil:
		return s.frame(frameAdded, c.Key, c.New)
	case c.New == nil:
		return s.frame(frameRemoved, c.Key, c.Old)
	default:
		return s.frame(frameChanged, c.Key, c.Old, c.New)
	}
}

// end closes the stream: with err, if there is one, or as whole.
func (s *streamWriter) end(err error) error {
	if err == nil {
		s.frame(frameEnd, strconv.AppendInt(nil, int64(s.count), 10))
		return s.w.Flush()
	}
	payload, jsonErr := json.Marshal(Classify(err))
	if jsonErr != nil {
		return jsonErr
	}
	s.frame(frameError, payload)
	return s.w.Flush()
}

// A streamReader reads frames.
type streamReader struct {
	r     *bufio.Reader
	count int
	buf   []byte
}

func newStreamReader(r io.Reader) *streamReader {
	return &streamReader{r: bufio.NewReaderSize(r, 64<<10)}
}

// part reads one part of a frame behind what is in s.buf.
func (s *streamReader) part(limit int) (from, to int, err error) {
	n, err := binary.ReadUvarint(s.r)
	if err != nil {
		return 0, 0, cut(err)
	}
	if n > uint64(limit) {
		return 0, 0, Errorf(BadData, "read entry stream: frame %d has a part of %d bytes, at most %d are allowed", s.count, n, limit)
	}
	from, to = len(s.buf), len(s.buf)+int(n)
	for cap(s.buf) < to {
		s.buf = append(s.buf[:cap(s.buf)], 0)
	}
	s.buf = s.buf[:to]
	if _, err := io.ReadFull(s.r, s.buf[from:to]); err != nil {
		return 0, 0, cut(err)
	}
	return from, to, nil
}

// cut says that a stream broke off: retry, because whatever read it must not act on it.
func cut(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return Errorf(Retry, "read entry stream: it broke off before its end")
	}
	return fmt.Errorf("read entry stream: %w", err)
}

// next returns the next frame of an entry or a change; io.EOF is its proper end. The slices are valid until the
// next call.
func (s *streamReader) next() (kind byte, c Change, err error) {
	if kind, err = s.r.ReadByte(); err != nil {
		return 0, c, cut(err)
	}
	s.buf = s.buf[:0]
	switch kind {
	case frameEnd:
		from, to, err := s.part(20)
		if err != nil {
			return 0, c, err
		}
		if string(s.buf[from:to]) != strconv.Itoa(s.count) {
			return 0, c, Errorf(BadData, "read entry stream: %d frames came, %q were sent", s.count, s.buf[from:to])
		}
		return 0, c, io.EOF
	case frameError:
		from, to, err := s.part(maxErrorFrame)
		if err != nil {
			return 0, c, err
		}
		var e Error
		if err := json.Unmarshal(s.buf[from:to], &e); err != nil {
			return 0, c, Errorf(BadData, "read entry stream: bad error frame: %v", err)
		}
		return 0, c, &e
	case frameEntry, frameAdded, frameChanged, frameRemoved:
	default:
		return 0, c, Errorf(BadData, "read entry stream: frame %d is of the unknown kind %q", s.count, kind)
	}
	keyFrom, keyTo, err := s.part(dict.MaxKeyLen)
	if err != nil {
		return 0, c, err
	}
	from, to, err := s.part(dict.MaxValueLen)
	if err != nil {
		return 0, c, err
	}
	newFrom, newTo := from, to
	if kind == frameChanged {
		if newFrom, newTo, err = s.part(dict.MaxValueLen); err != nil {
			return 0, c, err
		}
	}
	s.count++
	c.Key = s.buf[keyFrom:keyTo:keyTo]
	if kind != frameRemoved {
		c.New = s.buf[newFrom:newTo:newTo]
	}
	if kind == frameRemoved || kind == frameChanged {
		c.Old = s.buf[from:to:to]
	}
	return kind, c, nil
}

// entry returns the next frame if it is that of an entry and all of it is in memory already, and passes over it. The slices
// are valid until the next call. Anything else is for next.
func (s *streamReader) entry() (key, value []byte, ok bool) {
	b, _ := s.r.Peek(s.r.Buffered())
	if len(b) == 0 || b[0] != frameEntry {
		return nil, nil, false
	}
	at := 1
	if key, at, ok = partOf(b, at, dict.MaxKeyLen); !ok {
		return nil, nil, false
	}
	if value, at, ok = partOf(b, at, dict.MaxValueLen); !ok {
		return nil, nil, false
	}
	s.r.Discard(at)
	s.count++
	return key, value, true
}

// partOf returns the part of a frame at a place in b, and the place behind it. ok is false where b has not all of it, or it
// breaks the limit.
func partOf(b []byte, at, limit int) (part []byte, end int, ok bool) {
	n, width := binary.Uvarint(b[at:])
	at += width
	if width <= 0 || n > uint64(limit) || len(b)-at < int(n) {
		return nil, 0, false
	}
	end = at + int(n)
	return b[at:end:end], end, true
}

// entries calls emit for each entry up to the end of the stream. The slices are valid during the call.
func (s *streamReader) entries(emit func(key, value []byte) error) error {
	for {
		if key, value, ok := s.entry(); ok {
			if err := emit(key, value); err != nil {
				return err
			}
			continue
		}
		kind, c, err := s.next()
		switch {
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		case kind != frameEntry:
			return Errorf(BadData, "read entry stream: frame %d is a change, entries were expected", s.count)
		}
		if err := emit(c.Key, c.New); err != nil {
			return err
		}
	}
}

// changes calls emit for each change up to the end of the stream.
func (s *streamReader) changes(emit func(Change) error) error {
	for {
		kind, c, err := s.next()
		switch {
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		case kind == frameEntry:
			return Errorf(BadData, "read entry stream: frame %d is an entry, changes were expected", s.count)
		}
		if err := emit(c); err != nil {
			return err
		}
	}
}

package fsm

import (
	"encoding/binary"
	"time"
)

// records are the changes of a run of entries, encoded, so that a history of many thousand changes costs the garbage
// collector nothing. They do not change once they are in a History.
//
// A record is a byte of flags; where one of them says so, what is not as with the record before: index, time, table, node
// and way; then key, value before and value after, each as far as the flags say that it is there.
type records struct {
	last   uint64 // index of the last one
	count  int
	bytes  int64 // what they count for in a History
	data   []byte
	wholes []wholeRecord
}

// A wholeRecord is the rest of a record of a table that was made, dropped or loaded.
type wholeRecord struct{ before, after *Table }

const (
	recordHead  = 1 << iota // it differs in more than key and values from the one before
	recordWhole             // the next of wholes
	recordOld
	recordNew

	recordOverhead = 160 // what a record counts for beside its keys and values
	recordsEnough  = 512 // of a run
	recorderKeeps  = 256 << 10
)

// A recorder encodes records.
type recorder struct {
	records
	head Record // what the record before had
}

func (r *recorder) add(head *Record, flags byte, key, old, new []byte) {
	h := &r.head
	if r.count == 0 || h.Index != head.Index || h.Table != head.Table || h.Origin != head.Origin || !h.Time.Equal(head.Time) {
		flags |= recordHead
		*h = *head
	}
	r.data = append(r.data, flags)
	if flags&recordHead != 0 {
		r.data = binary.AppendUvarint(r.data, head.Index)
		nanos := int64(0)
		if !head.Time.IsZero() {
			nanos = head.Time.UnixNano()
		}
		r.data = binary.AppendVarint(r.data, nanos)
		r.data = appendSized(r.data, head.Table)
		r.data = appendSized(r.data, head.Node)
		r.data = append(r.data, byte(head.Way))
	}
	if flags&recordWhole == 0 {
		r.data = appendSized(r.data, key)
	}
	if flags&recordOld != 0 {
		r.data = appendSized(r.data, old)
	}
	if flags&recordNew != 0 {
		r.data = appendSized(r.data, new)
	}
	r.last = head.Index
	r.count++
	r.bytes += int64(len(key) + len(old) + len(new) + recordOverhead)
}

func (r *recorder) whole(head *Record, before, after *Table) {
	r.add(head, recordWhole, nil, nil, nil)
	r.wholes = append(r.wholes, wholeRecord{before, after})
	if before != nil {
		r.bytes += before.Bytes()
	}
}

// take returns the records so far and begins anew.
func (r *recorder) take() records {
	done, buffer := r.records, r.data
	done.data = append(make([]byte, 0, len(buffer)), buffer...)
	if cap(buffer) > recorderKeeps {
		buffer = nil
	}
	r.records = records{data: buffer[:0]}
	return done
}

func appendSized[T string | []byte](dst []byte, s T) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

// all yields the records in order. Their keys and values are parts of the data.
func (r *records) all(yield func(Record) bool) {
	var head Record
	data, wholes := r.data, r.wholes
	number := func() uint64 {
		v, n := binary.Uvarint(data)
		data = data[n:]
		return v
	}
	sized := func() []byte {
		n := number()
		s := data[:n:n]
		data = data[n:]
		return s
	}
	for len(data) > 0 {
		flags := data[0]
		data = data[1:]
		if flags&recordHead != 0 {
			head = Record{Index: number()}
			nanos, n := binary.Varint(data)
			data = data[n:]
			if nanos != 0 {
				head.Time = time.Unix(0, nanos)
			}
			head.Table, head.Node = string(sized()), string(sized())
			head.Way = Way(data[0])
			data = data[1:]
		}
		record := head
		if flags&recordWhole != 0 {
			record.Whole, record.Before, record.After = true, wholes[0].before, wholes[0].after
			wholes = wholes[1:]
		} else {
			record.Key = sized()
		}
		if flags&recordOld != 0 {
			record.Old = sized()
		}
		if flags&recordNew != 0 {
			record.New = sized()
		}
		if !yield(record) {
			return
		}
	}
}

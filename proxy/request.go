package proxy

import (
	"postraft/dict"
)

// A status is the answer to a request (src/global/dict_proxy.h).
type status uint32

const (
	statusOK     status = 0
	statusNoKey  status = 1
	statusRetry  status = 2
	statusBad    status = 3
	statusDeny   status = 4
	statusConfig status = 5
)

// An operation is what a request asks for.
type operation uint8

const (
	opUnknown operation = iota
	opOpen
	opLookup
	opUpdate
	opDelete
	opSequence
)

func (o operation) String() string {
	return [...]string{"unknown", "open", "lookup", "update", "delete", "sequence"}[o]
}

// A request is one parsed request. Its slices point into the connection's buffer.
type request struct {
	op       operation
	modern   bool // 3.11 and later: replies carry flags
	table    []byte
	instance dict.Flags // of an open: what the client wants of the table
	flags    dict.Flags // of the others
	key      []byte
	value    []byte
	next     bool // sequence: next, not first
}

// verdict says what is to be done with a list.
type verdict uint8

const (
	serve   verdict = iota // a request
	reject                 // a request that is malformed: BAD
	ignore                 // not a request: no reply at all
	strange                // a request of an unknown name: a bare BAD
)

// parse reads a request out of a list. modern is what a malformed request is taken for when it does not show.
func (r *request) parse(l *attrList, modern bool) verdict {
	*r = request{modern: modern}
	if !l.is(0, "request") {
		return ignore
	}
	switch string(l.attrs[0].value) {
	case "open":
		r.op = opOpen
	case "lookup":
		r.op = opLookup
	case "update":
		r.op = opUpdate
	case "delete":
		r.op = opDelete
	case "sequence":
		r.op = opSequence
	default:
		return strange
	}
	if !l.is(1, "table") {
		return reject
	}
	r.table = l.attrs[1].value
	at := 2
	var ok bool
	switch {
	case l.is(at, "instance_flags"):
		r.modern = true
		if r.instance, ok = flags(l, &at, "instance_flags"); !ok {
			return reject
		}
		if r.op == opOpen {
			return serve
		}
		if r.flags, ok = flags(l, &at, "flags"); !ok {
			return reject
		}
	default:
		if l.is(at, "flags") {
			r.modern = false
		}
		if r.flags, ok = flags(l, &at, "flags"); !ok {
			return reject
		}
		if r.op == opOpen {
			r.instance = r.flags
			return serve
		}
	}
	if r.op == opSequence {
		if !l.is(at, "function") {
			return reject
		}
		function, ok := parseUint(l.attrs[at].value)
		if !ok || function > 1 {
			return reject
		}
		r.next = function == 1
		return serve
	}
	if !l.is(at, "key") {
		return reject
	}
	r.key = l.attrs[at].value
	if r.op == opUpdate {
		if !l.is(at+1, "value") {
			return reject
		}
		r.value = l.attrs[at+1].value
	}
	return serve
}

func flags(l *attrList, at *int, name string) (dict.Flags, bool) {
	if !l.is(*at, name) {
		return 0, false
	}
	v, ok := parseUint(l.attrs[*at].value)
	*at++
	return dict.Flags(v), ok
}

// appendReply appends the reply to r: always all attributes that such a reply has.
func (r *request) appendReply(dst []byte, s status, key, value []byte) []byte {
	dst = appendUint(dst, "status", uint32(s))
	if r.modern || r.op == opOpen {
		dst = appendUint(dst, "flags", uint32(r.replyFlags(s)))
	}
	switch r.op {
	case opLookup:
		dst = appendBytes(dst, "value", value)
	case opSequence:
		dst = appendBytes(appendBytes(dst, "key", key), "value", value)
	}
	return appendEnd(dst)
}

// replyFlags returns what the client shall take for the flags of the table from now on. Those of an open
// are put into r.flags by whoever answers it.
func (r *request) replyFlags(s status) dict.Flags {
	switch {
	case s == statusDeny || s == statusBad:
		return 0
	case r.op == opUpdate:
		return r.flags | dict.SyncUpdate | dict.DupReplace
	case r.op == opDelete:
		return r.flags | dict.SyncUpdate
	default:
		return r.flags
	}
}

package fsm

import (
	"cmp"
	"errors"
	"fmt"
	"iter"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"

	"postraft/dict"
)

// entryVersion is the first byte of every log entry.
const entryVersion = 1

// ErrUnreadable says that a log entry is damaged, or newer than this program.
var ErrUnreadable = errors.New("unreadable log entry")

// An ID names a session or a stage.
type ID [16]byte

// A WriteID makes a command recognisable: a node numbers the commands of each of its lives from 1 and has
// one of them under way at a time, so a command that is proposed twice is applied once.
type WriteID struct {
	Session ID
	Seq     uint64
}

// A Command is one change. Exactly one of the bodies is set.
type Command struct {
	ID     WriteID
	Origin Origin // of level 3
	Write  *Write
	Create *Create
	Drop   *Drop
	Begin  *StageBegin
	Chunk  *StageChunk
	Commit *StageCommit
	Abort  *StageAbort
	Lead   *Lead

	DeleteIf *DeleteIf // of level 2

	Set    *Set    // of level 3
	Expire *Expire // of level 3
}

// OpKind says what an Op does.
type OpKind uint8

const (
	OpUpdate OpKind = 0
	OpDelete OpKind = 1
)

// An Op is the update or delete of one entry.
type Op struct {
	Kind       OpKind
	Way        Way // lost where the command has no Origin
	Table      string
	Key, Value []byte
}

// Write holds updates and deletes, applied in order. With IfTable it happens as a whole or, when that
// table's version is not IfVersion, not at all.
type Write struct {
	Ops       []Op
	IfTable   string
	IfVersion uint64
}

// Create makes an empty table. One that is there already is kept as it is.
type Create struct {
	Name, Type   string
	MustNotExist bool
	Settings     dict.Settings // not none: of level 3
}

// Drop removes a table.
type Drop struct{ Name string }

// StageBegin starts a table aside, to be filled by chunks and put in place by StageCommit.
type StageBegin struct {
	ID          ID
	Table, Type string
	Settings    dict.Settings // none: those that the table has; not none: of level 3
}

// StageChunk appends packed blocks to a stage. Chunks are numbered from 1; any other than the next one is
// refused.
type StageChunk struct {
	ID     ID
	Number uint64
	Blocks [][]byte
}

// StageCommit puts staged tables in place, all in this entry. With Merge their entries are added to the
// table instead of replacing it; with Only every other table is dropped.
type StageCommit struct {
	IDs         []ID
	Merge, Only bool
	Delta       *StageDelta // of level 3
}

// StageDelta makes a commit one of changes to a table of fixed keys: the entries of its only stage are added to the
// table and the keys of the stage Gone removed. It happens as a whole or, when the table's version is not IfVersion,
// not at all, and then the stages stay.
type StageDelta struct {
	Gone      ID // zero: no key is removed
	IfVersion uint64
}

// StageAbort forgets a stage.
type StageAbort struct{ ID ID }

// DeleteIf removes an entry whose value is still the one that the sender has seen.
type DeleteIf struct {
	Table      string
	Key, Value []byte
}

// Lead is what each new leader applies first: it changes nothing and tells every node the term.
type Lead struct{ Node string }

// AppendEntry starts a log entry in dst; AppendCommand adds to it.
func AppendEntry(dst []byte) []byte { return append(dst, entryVersion) }

// AppendCommand adds an encoded command (EncodeCommand) to a log entry.
func AppendCommand(entry, command []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(entry, 1, protowire.BytesType), command)
}

// ChangesWhole reports whether an encoded command makes, drops or replaces tables. Such a one goes into an entry of its
// own: tables have versions by the index of the entry, and the one before it is to be one that can be restored.
func ChangesWhole(command []byte) bool {
	for num := range numbers(command) {
		switch {
		case num == 4, num == 5, num == 8:
			return true
		case num >= 3 && num != originNode && num != originWay:
			return false
		}
	}
	return false
}

// numbers yields the numbers of the fields of an encoded command, as far as they can be read, without reading more of each
// than has to be passed over for the next.
func numbers(command []byte) iter.Seq[protowire.Number] {
	return func(yield func(protowire.Number) bool) {
		for rest := command; len(rest) > 0; {
			num, typ, n := protowire.ConsumeTag(rest)
			if n < 0 || !yield(num) {
				return
			}
			m := protowire.ConsumeFieldValue(num, typ, rest[n:])
			if m < 0 {
				return
			}
			rest = rest[n+m:]
		}
	}
}

// EncodeCommand appends the encoded command to dst.
func EncodeCommand(dst []byte, c *Command) []byte {
	var body []byte
	field := protowire.Number(0)
	switch {
	case c.Write != nil:
		field, body = 3, c.Write.encode(c.Origin)
	case c.Create != nil:
		field = 4
		body = appendString(nil, 1, c.Create.Name)
		body = appendString(body, 2, c.Create.Type)
		body = appendBool(body, 3, c.Create.MustNotExist)
		body = appendSettings(body, 4, c.Create.Settings)
	case c.Drop != nil:
		field, body = 5, appendString(nil, 1, c.Drop.Name)
	case c.Begin != nil:
		field = 6
		body = appendBytes(nil, 1, c.Begin.ID[:])
		body = appendString(body, 2, c.Begin.Table)
		body = appendString(body, 3, c.Begin.Type)
		body = appendSettings(body, 4, c.Begin.Settings)
	case c.Chunk != nil:
		size := c.Chunk.size() // as large as an entry gets: its blocks are copied once
		dst = slices.Grow(dst, 48+len(c.Origin.Node)+size)
		dst = c.appendHead(dst)
		dst = protowire.AppendVarint(protowire.AppendTag(dst, 7, protowire.BytesType), uint64(size))
		return c.Chunk.append(dst)
	case c.Commit != nil:
		field = 8
		for _, id := range c.Commit.IDs {
			body = appendBytes(body, 1, id[:])
		}
		body = appendBool(body, 2, c.Commit.Merge)
		body = appendBool(body, 3, c.Commit.Only)
		if d := c.Commit.Delta; d != nil {
			body = appendBytes(body, 4, appendUint(appendBytes(nil, 1, d.Gone[:]), 2, d.IfVersion))
		}
	case c.Abort != nil:
		field, body = 9, appendBytes(nil, 1, c.Abort.ID[:])
	case c.Lead != nil:
		field, body = 10, appendString(nil, 1, c.Lead.Node)
	case c.DeleteIf != nil:
		field = 11
		body = appendString(nil, 1, c.DeleteIf.Table)
		body = appendBytes(body, 2, c.DeleteIf.Key)
		body = appendBytes(body, 3, c.DeleteIf.Value)
	case c.Set != nil:
		field, body = 12, c.Set.encode()
	case c.Expire != nil:
		field, body = 13, c.Expire.encode()
	}
	dst = slices.Grow(dst, 48+len(c.Origin.Node)+len(body)) // room for the whole head
	return appendBytes(c.appendHead(dst), field, body)
}

// appendHead appends what comes before the body.
func (c *Command) appendHead(dst []byte) []byte {
	dst = appendBytes(dst, 1, c.ID.Session[:])
	dst = appendUint(dst, 2, c.ID.Seq)
	return c.Origin.append(dst)
}

// size returns how many bytes append appends.
func (c *StageChunk) size() int {
	size := 1 + protowire.SizeBytes(len(c.ID)) + 1 + protowire.SizeVarint(c.Number)
	for _, b := range c.Blocks {
		size += 1 + protowire.SizeBytes(len(b))
	}
	return size
}

func (c *StageChunk) append(dst []byte) []byte {
	dst = appendUint(appendBytes(dst, 1, c.ID[:]), 2, c.Number)
	for _, b := range c.Blocks {
		dst = appendBytes(dst, 3, b)
	}
	return dst
}

func (w *Write) encode(origin Origin) []byte {
	size := 16 + len(w.IfTable)
	for _, op := range w.Ops {
		size += 26 + len(op.Table) + len(op.Key) + len(op.Value)
	}
	body := make([]byte, 0, size)
	for _, op := range w.Ops {
		n := protowire.SizeBytes(len(op.Table)) + protowire.SizeBytes(len(op.Key)) + 2
		if op.Kind != OpUpdate {
			n += 2
		}
		if len(op.Value) > 0 {
			n += 1 + protowire.SizeBytes(len(op.Value))
		}
		ownWay := origin.Node != "" && op.Way != origin.Way
		if ownWay {
			n += 1 + protowire.SizeVarint(uint64(op.Way))
		}
		body = protowire.AppendVarint(protowire.AppendTag(body, 1, protowire.BytesType), uint64(n))
		if op.Kind != OpUpdate {
			body = appendUint(body, 1, uint64(op.Kind))
		}
		body = appendString(body, 2, op.Table)
		body = appendBytes(body, 3, op.Key)
		if len(op.Value) > 0 {
			body = appendBytes(body, 4, op.Value)
		}
		if ownWay {
			body = appendUint(body, opWay, uint64(op.Way))
		}
	}
	if w.IfTable != "" {
		body = appendString(body, 2, w.IfTable)
		body = appendUint(body, 3, w.IfVersion)
	}
	return body
}

func appendBytes(dst []byte, field protowire.Number, v []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(dst, field, protowire.BytesType), v)
}

func appendString(dst []byte, field protowire.Number, v string) []byte {
	return protowire.AppendString(protowire.AppendTag(dst, field, protowire.BytesType), v)
}

func appendUint(dst []byte, field protowire.Number, v uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(dst, field, protowire.VarintType), v)
}

func appendBool(dst []byte, field protowire.Number, v bool) []byte {
	if !v {
		return dst
	}
	return appendUint(dst, field, 1)
}

// DecodeEntry reads a log entry. The commands share memory with it. The error is an ErrUnreadable.
func DecodeEntry(entry []byte) ([]Command, error) {
	if len(entry) == 0 {
		return nil, fmt.Errorf("%w: empty", ErrUnreadable)
	}
	if entry[0] != entryVersion {
		return nil, fmt.Errorf("%w: version %d, this program reads version %d", ErrUnreadable, entry[0], entryVersion)
	}
	var commands []Command
	err := fields(entry[1:], "entry", func(f field) error {
		if f.num != 1 || f.typ != protowire.BytesType {
			return f.unknown()
		}
		c, err := decodeCommand(f.bytes)
		commands = append(commands, c)
		return err
	})
	return commands, err
}

// CheckCommand returns an ErrUnreadable unless this program can carry out an encoded command.
func CheckCommand(command []byte) error {
	_, err := decodeCommand(command)
	return err
}

func decodeCommand(b []byte) (c Command, err error) {
	bodies := 0
	err = fields(b, "command", func(f field) error {
		if bodies == 0 {
			if taken, err := c.Origin.field(f); taken {
				return err
			}
		}
		if f.num >= 3 {
			bodies++
		}
		switch {
		case f.is(1, protowire.BytesType):
			return f.id(&c.ID.Session)
		case f.is(2, protowire.VarintType):
			c.ID.Seq = f.uint
		case f.is(3, protowire.BytesType):
			c.Write, err = decodeWrite(f.bytes, c.Origin)
		case f.is(4, protowire.BytesType):
			c.Create = &Create{}
			err = fields(f.bytes, "create", func(f field) error {
				return f.one(stringInto(1, &c.Create.Name), stringInto(2, &c.Create.Type), boolInto(3, &c.Create.MustNotExist), settingsInto(4, &c.Create.Settings))
			})
			err = cmp.Or(err, knownType(c.Create.Type))
		case f.is(5, protowire.BytesType):
			c.Drop = &Drop{}
			err = fields(f.bytes, "drop", func(f field) error { return f.one(stringInto(1, &c.Drop.Name)) })
		case f.is(6, protowire.BytesType):
			c.Begin = &StageBegin{}
			err = fields(f.bytes, "begin", func(f field) error {
				return f.one(idInto(1, &c.Begin.ID), stringInto(2, &c.Begin.Table), stringInto(3, &c.Begin.Type), settingsInto(4, &c.Begin.Settings))
			})
			err = cmp.Or(err, knownType(c.Begin.Type))
		case f.is(7, protowire.BytesType):
			c.Chunk = &StageChunk{}
			err = fields(f.bytes, "chunk", func(f field) error {
				if f.is(3, protowire.BytesType) {
					c.Chunk.Blocks = append(c.Chunk.Blocks, f.bytes)
					return nil
				}
				return f.one(idInto(1, &c.Chunk.ID), uintInto(2, &c.Chunk.Number))
			})
		case f.is(8, protowire.BytesType):
			c.Commit = &StageCommit{}
			err = fields(f.bytes, "commit", func(f field) error {
				if f.is(1, protowire.BytesType) {
					c.Commit.IDs = append(c.Commit.IDs, ID{})
					return f.id(&c.Commit.IDs[len(c.Commit.IDs)-1])
				}
				if f.is(4, protowire.BytesType) {
					c.Commit.Delta = &StageDelta{}
					return fields(f.bytes, "delta", func(f field) error {
						return f.one(idInto(1, &c.Commit.Delta.Gone), uintInto(2, &c.Commit.Delta.IfVersion))
					})
				}
				return f.one(boolInto(2, &c.Commit.Merge), boolInto(3, &c.Commit.Only))
			})
		case f.is(9, protowire.BytesType):
			c.Abort = &StageAbort{}
			err = fields(f.bytes, "abort", func(f field) error { return f.one(idInto(1, &c.Abort.ID)) })
		case f.is(10, protowire.BytesType):
			c.Lead = &Lead{}
			err = fields(f.bytes, "lead", func(f field) error { return f.one(stringInto(1, &c.Lead.Node)) })
		case f.is(11, protowire.BytesType):
			c.DeleteIf = &DeleteIf{}
			err = fields(f.bytes, "conditional delete", func(f field) error {
				switch {
				case f.is(2, protowire.BytesType):
					c.DeleteIf.Key = f.bytes
				case f.is(3, protowire.BytesType):
					c.DeleteIf.Value = f.bytes
				default:
					return f.one(stringInto(1, &c.DeleteIf.Table))
				}
				return nil
			})
		case f.is(12, protowire.BytesType):
			c.Set, err = decodeSet(f.bytes)
		case f.is(13, protowire.BytesType):
			c.Expire, err = decodeExpire(f.bytes)
		default:
			return f.unknown()
		}
		return err
	})
	if err == nil && bodies != 1 {
		err = fmt.Errorf("%w: command with %d bodies", ErrUnreadable, bodies)
	}
	return c, err
}

// knownType makes a kind of table that this program cannot keep unreadable: to refuse the command, where a
// newer node carries it out, would make the nodes differ.
func knownType(typ string) error {
	if dict.CheckTableType(typ) != nil {
		return fmt.Errorf("%w: table of unknown type %q: written by a newer version?", ErrUnreadable, typ)
	}
	return nil
}

func decodeWrite(b []byte, origin Origin) (*Write, error) {
	w := &Write{}
	err := fields(b, "write", func(f field) error {
		if !f.is(1, protowire.BytesType) {
			return f.one(stringInto(2, &w.IfTable), uintInto(3, &w.IfVersion))
		}
		w.Ops = append(w.Ops, Op{Way: origin.Way})
		op := &w.Ops[len(w.Ops)-1]
		return fields(f.bytes, "op", func(f field) (err error) {
			switch {
			case f.is(1, protowire.VarintType) && f.uint <= uint64(OpDelete):
				op.Kind = OpKind(f.uint)
			case f.is(2, protowire.BytesType):
				op.Table = string(f.bytes)
			case f.is(3, protowire.BytesType):
				op.Key = f.bytes
			case f.is(4, protowire.BytesType):
				op.Value = f.bytes
			case f.is(opWay, protowire.VarintType) && origin.Node != "":
				op.Way, err = f.way()
			default:
				return f.unknown()
			}
			return err
		})
	})
	return w, err
}

// A field is one field of a message.
type field struct {
	of    string
	num   protowire.Number
	typ   protowire.Type
	bytes []byte
	uint  uint64
}

// fields calls each for the fields of a message. Only the two types that commands use are known.
func fields(b []byte, of string, each func(field) error) error {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return fmt.Errorf("%w: %s: %w", ErrUnreadable, of, protowire.ParseError(n))
		}
		b = b[n:]
		f := field{of: of, num: num, typ: typ}
		switch typ {
		case protowire.BytesType:
			f.bytes, n = protowire.ConsumeBytes(b)
		case protowire.VarintType:
			f.uint, n = protowire.ConsumeVarint(b)
		default:
			return f.unknown()
		}
		if n < 0 {
			return fmt.Errorf("%w: %s field %d: %w", ErrUnreadable, of, num, protowire.ParseError(n))
		}
		b = b[n:]
		if err := each(f); err != nil {
			return err
		}
	}
	return nil
}

func (f field) is(num protowire.Number, typ protowire.Type) bool { return f.num == num && f.typ == typ }

func (f field) unknown() error {
	return fmt.Errorf("%w: %s with unknown field %d: written by a newer version?", ErrUnreadable, f.of, f.num)
}

func (f field) id(to *ID) error {
	if len(f.bytes) != len(to) {
		return fmt.Errorf("%w: %s field %d: id of %d bytes", ErrUnreadable, f.of, f.num, len(f.bytes))
	}
	copy(to[:], f.bytes)
	return nil
}

// A setter takes a field if it is the one it is for.
type setter func(field) (taken bool, err error)

// one hands f to the setter that takes it.
func (f field) one(setters ...setter) error {
	for _, set := range setters {
		if taken, err := set(f); taken {
			return err
		}
	}
	return f.unknown()
}

func stringInto(num protowire.Number, to *string) setter {
	return func(f field) (bool, error) {
		if !f.is(num, protowire.BytesType) {
			return false, nil
		}
		*to = string(f.bytes)
		return true, nil
	}
}

func idInto(num protowire.Number, to *ID) setter {
	return func(f field) (bool, error) {
		if !f.is(num, protowire.BytesType) {
			return false, nil
		}
		return true, f.id(to)
	}
}

func uintInto(num protowire.Number, to *uint64) setter {
	return func(f field) (bool, error) {
		if !f.is(num, protowire.VarintType) {
			return false, nil
		}
		*to = f.uint
		return true, nil
	}
}

func boolInto(num protowire.Number, to *bool) setter {
	return func(f field) (bool, error) {
		if !f.is(num, protowire.VarintType) {
			return false, nil
		}
		*to = f.uint != 0
		return true, nil
	}
}

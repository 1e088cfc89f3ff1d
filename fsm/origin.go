package fsm

import (
	"fmt"
	"strconv"

	"google.golang.org/protobuf/encoding/protowire"
)

// A Way says by what means a change came about. The numbers are part of the log; one that this program does not
// know is kept as it is.
type Way uint8

const (
	WayUnknown    Way = 0
	WayProxywrite Way = 1 // a Postfix process
	WayCommand    Way = 2 // an operator's command on one entry, or on a table as a whole
	WayImport     Way = 3
	WayRestore    Way = 4 // of an earlier version, or from a snapshot file
	WayWatchFile  Way = 5 // an import because a watched file has changed
	WayExpiry     Way = 6
)

var wayNames = [...]string{"", "proxywrite", "command", "import", "restore", "watch-file", "expiry"}

// String returns the name of the way, nothing for WayUnknown.
func (w Way) String() string {
	if int(w) < len(wayNames) {
		return wayNames[w]
	}
	return "way " + strconv.Itoa(int(w))
}

// An Origin says where a change comes from, for the history; what becomes of the tables never depends on it. In a
// command it is before the body, and an Op may have a way of its own. The zero Origin is not known.
type Origin struct {
	Node string // name of the node on which the change was made
	Way  Way
}

func (o Origin) append(dst []byte) []byte {
	if o.Node == "" {
		return dst
	}
	dst = appendString(dst, originNode, o.Node)
	if o.Way != WayUnknown {
		dst = appendUint(dst, originWay, uint64(o.Way))
	}
	return dst
}

// Fields of a Command and of an Op.
const (
	originNode protowire.Number = 14
	originWay  protowire.Number = 15
	opWay      protowire.Number = 5
)

// field takes a field of a command if it is part of the origin.
func (o *Origin) field(f field) (taken bool, err error) {
	switch {
	case f.is(originNode, protowire.BytesType) && len(f.bytes) > 0:
		o.Node = string(f.bytes)
	case f.is(originWay, protowire.VarintType) && o.Node != "":
		o.Way, err = f.way()
	default:
		return false, nil
	}
	return true, err
}

func (f field) way() (Way, error) {
	if f.uint > 255 {
		return 0, fmt.Errorf("%w: %s field %d: way %d", ErrUnreadable, f.of, f.num, f.uint)
	}
	return Way(f.uint), nil
}

// HasOrigin reports whether an encoded command says where it comes from, for which all servers of a cluster must be
// of OriginLevel.
func HasOrigin(command []byte) bool {
	for num := range numbers(command) {
		if num >= 3 {
			return num == originNode
		}
	}
	return false
}

// WithoutOrigin returns the encoded command without its Origin. What cannot be read it returns as it is.
func WithoutOrigin(command []byte) []byte {
	c, err := decodeCommand(command)
	if err != nil {
		return command
	}
	c.Origin = Origin{}
	return EncodeCommand(make([]byte, 0, len(command)), &c)
}

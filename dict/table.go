package dict

import (
	"context"
	"time"
)

// Limits of what a raft table holds, in bytes. A larger key or value is refused with ErrBadSource.
const (
	MaxKeyLen   = 16 << 10
	MaxValueLen = 256 << 10
)

// A Reader answers lookups in one table. Its methods may be called from any goroutine, never wait for
// the network and return slices that the caller must not change.
type Reader interface {
	// Lookup returns the value of key, byte for byte: folding is the caller's affair. found is false
	// only when the key is surely not there; when that cannot be known, err is an ErrRetry.
	Lookup(key []byte) (value []byte, found bool, err error)

	// Next returns the entry with the smallest key greater than after, or the first entry when after
	// is nil. found is false at the end of the table.
	Next(after []byte) (key, value []byte, found bool, err error)

	// Kind says how Postfix has to ask: Fixed for tables of fixed keys, Pattern for rules. It is Fixed
	// for a table that is not there, because Postfix keeps the answer for the life of a process.
	Kind() Flags
}

// A FlagReader is a Reader whose answers depend on the flags of the request: NoRegSub leaves out rules with
// $number in their result.
type FlagReader interface {
	LookupFlags(key []byte, flags Flags) (value []byte, found bool, err error)
}

// A Writer changes one table. Its methods return when the change is committed by a quorum and visible
// to a Reader of the same table on this node, or with an error: an ErrRetry after which nothing has
// changed, or ErrUnknownOutcome. They may be called from any goroutine.
type Writer interface {
	// Update adds the entry, or replaces the value of the key.
	Update(ctx context.Context, key, value []byte) error

	// Delete removes the entry. found is false when there was none.
	Delete(ctx context.Context, key []byte) (found bool, err error)

	// DeleteIf removes the entry if its value is still seen. An entry with another value stays, and is found.
	DeleteIf(ctx context.Context, key, seen []byte) (found bool, err error)
}

// A Starter is a Writer whose updates go on without a goroutine that waits for them.
type Starter interface {
	// Start begins an Update and returns at once. It copies key and value. limit is how long the caller is going to wait.
	// done is called when the Change has an outcome, once, from any goroutine and perhaps before Start returns; it must
	// not wait and must not call Outcome. It is not called after an error, nor after Outcome has returned.
	Start(key, value []byte, limit time.Duration, done func()) (Change, error)
}

// A Change is an update that was started. Its method may be called from any goroutine.
type Change interface {
	// Outcome returns what Update would have returned. Where there is no outcome yet, the caller gives up, as by the end
	// of Update's context. Once there is one, it stays.
	Outcome() error
}

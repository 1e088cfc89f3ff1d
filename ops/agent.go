package ops

import (
	"context"
	"io"
	"iter"

	"postraft/dict"
)

// An Agent is what the server needs of the node behind it. Its methods are called from many goroutines. ctx
// has a deadline, and ends early when the operator goes away. Errors are an *Error, or carry a sentinel of
// package dict, or are taken for a bug.
type Agent interface {
	Membership
	Keyring
	Tables
	Snapshots
}

// Membership is about the node and the cluster.
type Membership interface {
	// Status never waits.
	Status() Status
	Members(ctx context.Context) ([]Member, error)

	// Reach waits until this node, or with all every member that is alive, shows the entry of an index in its
	// tables, and returns how far each is. When ctx ends first, what it returns says who lags.
	Reach(ctx context.Context, index uint64, all bool) []Reached

	// Index returns an index such that tables that show its entry show every change that was answered here before
	// the call.
	Index() uint64

	// Join makes the node look for its cluster at these gossip addresses, HOST or HOST:PORT.
	Join(ctx context.Context, addresses []string) error

	// Leave ends the node's membership. The agent stops after the reply.
	Leave(ctx context.Context) error
	Remove(ctx context.Context, name string) error

	// TransferLeader hands leadership to a voter, to any other one when name is empty.
	TransferLeader(ctx context.Context, name string) error
}

// Tables is about raft tables. Keys are taken byte for byte.
type Tables interface {
	// Tables fails where a lookup would: a node that has not caught up does not know its tables.
	Tables(ctx context.Context) ([]TableInfo, error)
	CreateTable(ctx context.Context, name, typ string, settings dict.Settings) error
	SetTable(ctx context.Context, name string, change dict.SettingsChange) error
	DropTable(ctx context.Context, name string) error

	// Get reads the node's own memory or, with consistent, what the whole cluster has now.
	Get(ctx context.Context, table string, key []byte, consistent bool) (value []byte, found bool, err error)

	// Explain is Get from the node's own memory, with how it came to the answer. The key is folded as Postfix does,
	// unless exact.
	Explain(ctx context.Context, table string, key []byte, exact bool) (Explained, error)
	Put(ctx context.Context, table string, key, value []byte) error
	Delete(ctx context.Context, table string, key []byte) (found bool, err error)

	// Entries returns the entries whose keys begin with prefix, as they are at the time of the call, in the
	// order of their keys.
	Entries(ctx context.Context, table string, prefix []byte) (iter.Seq2[[]byte, []byte], error)

	// Import makes the table equal to entries, which may be read once, in one step for every reader. When
	// entries break off, ctx has ended before they stop, and nothing may change.
	Import(ctx context.Context, table string, opts ImportOptions, entries iter.Seq2[[]byte, []byte]) (ImportResult, error)

	// Watch calls emit for each change of a table behind the index from, or behind now when that is nil, until ctx
	// ends or emit fails; and idle at the start and about once a second while nothing changes, with the index up to
	// which emit was called for all.
	Watch(ctx context.Context, table string, from *uint64, emit func(Event) error, idle func(at uint64) error) error

	// History returns the changes of one key that the node remembers, the oldest first, and the index behind which
	// it remembers all.
	History(ctx context.Context, table string, key []byte) (History, error)

	// RestoreVersion makes a table what it was at an index, within what the node remembers.
	RestoreVersion(ctx context.Context, table string, index uint64) (ImportResult, error)

	// Diff returns what Import would change. What was said of entries there is true here.
	Diff(ctx context.Context, table string, entries iter.Seq2[[]byte, []byte]) (iter.Seq[Change], error)
}

// Snapshots is about snapshot files.
type Snapshots interface {
	// SaveSnapshot fails before it writes, or because w does.
	SaveSnapshot(ctx context.Context, w io.Writer) error

	// RestoreSnapshot verifies all of r before it changes anything. Without names, the tables of the snapshot
	// replace all tables; with names, these ones. It returns the names of the tables restored.
	RestoreSnapshot(ctx context.Context, r io.Reader, names []string) ([]string, error)
}

package ops

// Status is what a node knows of itself.
type Status struct {
	Name          string      `json:"name"`
	ID            string      `json:"id"`
	Version       string      `json:"version"`
	State         string      `json:"state"`  // leader, follower, candidate
	Leader        string      `json:"leader"` // name; empty when none is known
	Term          uint64      `json:"term"`
	AppliedIndex  uint64      `json:"applied_index"`
	CommitIndex   uint64      `json:"commit_index"`
	LastLogIndex  uint64      `json:"last_log_index"`
	Ready         bool        `json:"ready"` // lookups are answered
	NotReady      string      `json:"not_ready,omitempty"`
	Voters        []string    `json:"voters"`
	Tables        []TableInfo `json:"tables"`
	LastContact   float64     `json:"last_contact_seconds"` // since the leader was heard of; 0 on the leader
	Address       string      `json:"address"`
	Gossip        string      `json:"gossip"`
	Warnings      []string    `json:"warnings"`
	Role          string      `json:"role"`            // voter, nonvoter; empty while it is no member
	LastContactMS int64       `json:"last_contact_ms"` // LastContact again, or the time since the start without any
	TablesIndex   uint64      `json:"tables_index"`    // of the newest change that the tables show
	Behind        uint64      `json:"behind"`          // entries known to be committed that they do not show yet
	VotersWanted  int         `json:"voters_wanted"`
	Alive         []string    `json:"alive"`  // members that gossip calls alive, by name
	Failed        []string    `json:"failed"` // those that it does not
	Aliases       []Alias     `json:"aliases"`

	Mirrors []MirrorState `json:"mirrors"`
}

// An Alias is a table of Postfix for which this node answers from a raft table.
type Alias struct {
	Name  string `json:"name"`  // maptype:mapname
	Table string `json:"table"` // the raft table
}

// Member is a server of the cluster, or a node on its way to become one.
type Member struct {
	Name         string `json:"name"`
	ID           string `json:"id"`
	Address      string `json:"address"`
	Role         string `json:"role"` // voter, nonvoter
	Leader       bool   `json:"leader"`
	Alive        string `json:"alive"` // alive, failed; whoever has left is not listed
	Version      string `json:"version"`
	AppliedIndex uint64 `json:"applied_index"` // 0 when the member did not answer
}

// Reached is how far a member is on its way to an index.
type Reached struct {
	Name         string `json:"name"`
	ID           string `json:"id"`
	Alive        string `json:"alive"`         // alive, or failed: then it is not waited for
	AppliedIndex uint64 `json:"applied_index"` // 0 when the member did not answer
	Reached      bool   `json:"reached"`
	Error        string `json:"error,omitempty"` // why it did not answer
}

// TableInfo describes a table.
type TableInfo struct {
	Name    string `json:"name"`
	Type    string `json:"type"`
	Entries int    `json:"entries"`
	Bytes   int64  `json:"bytes"`   // keys and values
	Version uint64 `json:"version"` // raft index of the last change
	Digest  string `json:"digest"`  // hexadecimal; equal for equal tables

	Settings TableSettings `json:"settings,omitzero"`
	Expired  uint64        `json:"expired,omitempty"` // entries that went because of their age
	Evicted  uint64        `json:"evicted,omitempty"` // and those that made room
}

// ImportOptions say what an import does.
type ImportOptions struct {
	Type   string // of a table that is not there yet; empty is hash
	Merge  bool   // add and replace only
	DryRun bool   // count and change nothing

	MaxChange float64 // percent of the entries that are there which may be changed or removed; 0 is without a limit

	// Digest is that of the entries, as TableInfo has it; a table that has it already is left alone without reading
	// them. Empty is not known.
	Digest string
	Way    string // for the history: WayImport, which empty is too, or WayWatchFile
}

// Ways of changes that an operator can choose.
const (
	WayImport    = "import"
	WayWatchFile = "watch-file"
)

// ImportResult counts the entries of an import.
type ImportResult struct {
	Table     string `json:"table"`
	Added     int    `json:"added"`
	Changed   int    `json:"changed"`
	Removed   int    `json:"removed"`
	Unchanged int    `json:"unchanged"`
	Version   uint64 `json:"version"`
	Was       uint64 `json:"was"`             // the version before, 0 where there was no such table
	Index     uint64 `json:"index,omitempty"` // see Changed; not of a dry run
	DryRun    bool   `json:"dry_run"`
}

// A Change is a difference at one key. Old is nil for a key that is new, New for one that goes.
type Change struct{ Key, Old, New []byte }

// Value answers a get.
type Value struct {
	Found bool   `json:"found"`
	Value []byte `json:"value"`
}

// Changed answers a change. Tables that show the entry of this index show the change.
type Changed struct {
	Index uint64 `json:"index"`
}

// Deleted answers a delete.
type Deleted struct {
	Found bool   `json:"found"`
	Index uint64 `json:"index"` // see Changed
}

// Restored answers the restore of a snapshot.
type Restored struct {
	Tables []string `json:"tables"`
	Index  uint64   `json:"index"` // see Changed
}

type joinRequest struct {
	Addresses []string `json:"addresses"`
}

type nameRequest struct {
	Name string `json:"name"`
}

type entryRequest struct {
	Key        []byte `json:"key"`
	Value      []byte `json:"value,omitempty"`      // put
	Consistent bool   `json:"consistent,omitempty"` // get: as of now for the whole cluster
}

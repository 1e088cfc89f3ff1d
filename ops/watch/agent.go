package watch

import (
	"context"
	"time"

	"postraft/ops"
)

// An Agent is what is watched. Its methods are called from many goroutines and, but for Members, never wait.
type Agent interface {
	Status() ops.Status
	Vitals() Vitals

	// Members lists the members of the cluster, and may ask each of them.
	Members(ctx context.Context) ([]ops.Member, error)
}

// Vitals are what an agent measures of itself, beside its Status.
type Vitals struct {
	Events       map[string]uint64 // how often each has happened
	Alarms       int               // what this node, as the leader, has against members
	GossipHealth int               // 0 is well

	DiskFailing bool          // this node cannot write
	DiskBusy    time.Duration // how long the oldest write under way has taken so far
	DiskSlowest time.Duration // the slowest write of the last ten seconds

	Certificate time.Time  // when the operator's certificate ends; zero without one
	Snapshots   *Snapshots // nil where no snapshots are saved automatically

	Services []Service // by name
	Lookup   Latency   // of lookups
	Write    Latency   // of updates and deletes
}

// Snapshots are the results of automatic snapshots.
type Snapshots struct {
	Saved, Failed uint64
	Every         time.Duration
	Current       time.Time // when the newest one was last known to hold all; zero if never
}

// Service is what the connections of a proxymap service did.
type Service struct {
	Name        string
	Open        int // connections now
	Connections uint64
	Malformed   uint64
	Passed      uint64 // requests that the stock service has answered
	NotPassed   uint64 // those that it has not
	Tables      []Table
}

// Table is what was asked of a raft table. Name is empty for tables that are not named.
type Table struct {
	Name                                 string
	Lookups, Updates, Deletes, Sequences Results
	Denied                               uint64
}

// Results count requests by their answer.
type Results struct{ OK, NoKey, Retry, Config uint64 }

// Latency is a histogram: Buckets counts, by upper bound in seconds, the answers that took so long or less.
type Latency struct {
	Buckets map[float64]uint64
	Count   uint64
	Sum     time.Duration
}

package handoff

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	"postraft/dict"
	"postraft/proxy"
)

// Away are the raft tables while the agent is away: nothing is known of any of them.
type Away struct{}

// Table implements proxy.Tables.
func (Away) Table(string) proxy.Table { return awayTable{} }

type awayTable struct{}

var errAway = fmt.Errorf("the agent is away: %w", dict.ErrRetry)

func (awayTable) Lookup([]byte) ([]byte, bool, error)                    { return nil, false, errAway }
func (awayTable) Next([]byte) ([]byte, []byte, bool, error)              { return nil, nil, false, errAway }
func (awayTable) Kind() dict.Flags                                       { return dict.Fixed }
func (awayTable) Update(context.Context, []byte, []byte) error           { return errAway }
func (awayTable) Delete(context.Context, []byte) (bool, error)           { return false, errAway }
func (awayTable) DeleteIf(context.Context, []byte, []byte) (bool, error) { return false, errAway }
func (awayTable) Create(context.Context) error                           { return errAway }

// AwayLocals are the local tables while the agent is away. The stock service answers them, except those that may
// have a raft table in them: what it knows of these is nothing, or the file of former times.
type AwayLocals struct {
	Passthrough bool // there is a stock service; without one nothing is known of any table

	aliases atomic.Pointer[[]string] // nil: no agent was there yet
}

// Alias takes the names of aliases.
func (a *AwayLocals) Alias(names []string) {
	names = slices.Clone(names)
	a.aliases.Store(&names)
}

// indexed are the types of tables that are made of a list of keys, as a raft table is.
var indexed = []string{"hash:", "btree:", "lmdb:", "cdb:", "dbm:", "sdbm:", "texthash:"}

// Open implements proxy.Locals.
func (a *AwayLocals) Open(name string, _ proxy.LocalOptions) dict.Reader {
	suspects := indexed
	if aliases := a.aliases.Load(); aliases != nil {
		suspects = *aliases
	}
	in := func(s string) bool { return strings.Contains(name, s) }
	if !a.Passthrough || in(dict.RaftType+":") || slices.ContainsFunc(suspects, in) {
		return awayTable{}
	}
	return nil
}

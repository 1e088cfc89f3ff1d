package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"sync/atomic"

	"postraft/cluster"
	"postraft/dict"
	"postraft/fsm"
	"postraft/fsm/packed"
	"postraft/ops"
	"postraft/proxy"
)

// operated is a node as the operator's API wants it.
type operated struct {
	node    *cluster.Node
	aliases *inEffect // nil: none
	mirrors []*ops.Mirror
	watches *atomic.Pointer[[]*ops.FileWatch] // nil: none
}

// operated returns the agent as the operator's API wants it.
func (g *agent) operated() operated { return operated{g.node, &g.aliases, g.mirrors, &g.watches} }

func (o operated) mirrorStates() []ops.MirrorState {
	states := make([]ops.MirrorState, 0, len(o.mirrors))
	for _, m := range o.mirrors {
		states = append(states, m.State())
	}
	return states
}

var _ ops.Agent = operated{}

// opsError sorts the errors of cluster for the operator.
func opsError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, cluster.ErrNoMember):
		return ops.Errorf(ops.NotFound, "%v", err).Advise("list the members with: postraft members")
	case errors.Is(err, cluster.ErrTooMuch):
		return ops.Errorf(ops.BadData, "%v", err).Advise("nothing was changed; look with: postraft table diff, and import with --force if it is right")
	case errors.Is(err, cluster.ErrRefused):
		return ops.Errorf(ops.Refused, "%v", err)
	case errors.Is(err, cluster.ErrExists):
		return ops.Errorf(ops.Exists, "%v", err)
	case errors.Is(err, cluster.ErrForgotten):
		return ops.Errorf(ops.NotFound, "%v", err).Advise("a node remembers the newest 65,536 changes, and 16 MiB of them, since its last snapshot before it was started")
	case errors.Is(err, fsm.ErrBadSnapshot):
		return ops.Errorf(ops.BadData, "%v", err).Advise("nothing was changed")
	default:
		return err // by the sentinels of package dict
	}
}

func tableInfo(t fsm.TableInfo) ops.TableInfo {
	return ops.TableInfo{
		Name: t.Name, Type: t.Type, Entries: t.Entries, Bytes: t.Bytes, Version: t.Version, Digest: t.Digest.String(),
		Settings: ops.SettingsOf(t.Settings), Expired: t.Expired, Evicted: t.Evicted,
	}
}

func tableInfos(tables []fsm.TableInfo) []ops.TableInfo {
	infos := make([]ops.TableInfo, 0, len(tables))
	for _, t := range tables {
		infos = append(infos, tableInfo(t))
	}
	return infos
}

func (o operated) Status() ops.Status {
	s := o.node.Status()
	warnings := list(s.Warnings)
	if o.watches != nil {
		warnings = append(warnings, watchWarnings(o.watches.Load())...)
	}
	return ops.Status{
		Name: s.Name, ID: s.ID, Version: version, State: s.State, Leader: s.Leader, Term: s.Term,
		AppliedIndex: s.AppliedIndex, CommitIndex: s.CommitIndex, LastLogIndex: s.LastLogIndex,
		Ready: s.Ready, NotReady: s.NotReady, Voters: list(s.Voters), Tables: tableInfos(s.Tables),
		LastContact: s.LastContact.Seconds(), LastContactMS: s.Staleness.Milliseconds(), Address: s.Address, Gossip: s.Gossip, Warnings: warnings,
		Role: s.Role, TablesIndex: s.TablesIndex, Behind: s.Behind, VotersWanted: s.VotersWanted, Alive: list(s.Alive), Failed: list(s.Failed),
		Aliases: o.aliases.list(), Mirrors: o.mirrorStates(),
	}
}

// list is a list that JSON shows as one even when it is empty.
func list(words []string) []string {
	if words == nil {
		return []string{}
	}
	return words
}

func (o operated) Reach(ctx context.Context, index uint64, all bool) []ops.Reached {
	var list []ops.Reached
	for _, r := range o.node.Reach(ctx, index, all) {
		out := ops.Reached{Name: r.Name, ID: r.ID, Alive: r.Alive, AppliedIndex: r.AppliedIndex, Reached: r.Reached}
		if r.Err != nil {
			out.Error = r.Err.Error()
		}
		list = append(list, out)
	}
	return list
}

func (o operated) Index() uint64 { return o.node.TablesIndex() }

func (o operated) Members(ctx context.Context) ([]ops.Member, error) {
	members, err := o.node.Members(ctx)
	if err != nil {
		return nil, opsError(err)
	}
	list := make([]ops.Member, 0, len(members))
	for _, m := range members {
		list = append(list, ops.Member{
			Name: m.Name, ID: m.ID, Address: m.Address, Role: m.Role, Leader: m.Leader, Alive: m.Alive, Version: m.Version, AppliedIndex: m.AppliedIndex,
		})
	}
	return list, nil
}

func (o operated) Join(ctx context.Context, addresses []string) error {
	err := o.node.Join(ctx, addresses)
	if errors.Is(err, cluster.ErrRefused) {
		return opsError(err)
	}
	if err != nil {
		return ops.Errorf(ops.Retry, "%v", err).Advise("check the address, and that both nodes have the same secret")
	}
	return nil
}

func (o operated) Leave(ctx context.Context) error { return opsError(o.node.Leave(ctx)) }

func (o operated) Remove(ctx context.Context, name string) error {
	return opsError(o.node.Remove(ctx, name))
}

func (o operated) TransferLeader(ctx context.Context, name string) error {
	return opsError(o.node.TransferLeader(ctx, name))
}

func (o operated) Tables(context.Context) ([]ops.TableInfo, error) {
	s, err := o.node.State()
	if err != nil {
		return nil, opsError(err)
	}
	return tableInfos(s.Tables()), nil
}

func (o operated) CreateTable(ctx context.Context, name, typ string, settings dict.Settings) error {
	return opsError(o.node.CreateTable(ctx, name, typ, settings))
}

func (o operated) SetTable(ctx context.Context, name string, change dict.SettingsChange) error {
	return opsError(o.node.SetTable(ctx, name, change))
}

func (o operated) DropTable(ctx context.Context, name string) error {
	return opsError(o.node.DropTable(ctx, name))
}

func (o operated) Get(ctx context.Context, table string, key []byte, consistent bool) (value []byte, found bool, err error) {
	if consistent {
		value, found, err = o.node.LookupConsistent(ctx, table, key)
	} else {
		value, found, err = o.node.Table(table).Lookup(key)
	}
	return value, found, atTable(table, err)
}

func (o operated) Explain(_ context.Context, table string, key []byte, exact bool) (ops.Explained, error) {
	e, err := o.node.Explain(table, key, exact)
	if err != nil {
		return ops.Explained{}, opsError(err)
	}
	return ops.Explained{
		Table: table, Type: e.Type, Key: key, Asked: e.Asked, Found: e.Found, Value: e.Value, Line: e.Line, Rule: e.Rule,
		Version: e.Version, Index: e.Index, Node: e.Node, Leader: e.Leader, AgeMS: e.Age.Milliseconds(),
	}, nil
}

// atTable adds the table to an error that does not name it.
func atTable(table string, err error) error {
	if err == nil {
		return nil
	}
	return opsError(fmt.Errorf("table %s: %w", table, err))
}

func (o operated) Put(ctx context.Context, table string, key, value []byte) error {
	return opsError(o.node.Table(table).By(fsm.WayCommand).Update(ctx, key, value))
}

func (o operated) Delete(ctx context.Context, table string, key []byte) (bool, error) {
	found, err := o.node.Table(table).By(fsm.WayCommand).Delete(ctx, key)
	return found, opsError(err)
}

func (o operated) Entries(_ context.Context, table string, prefix []byte) (iter.Seq2[[]byte, []byte], error) {
	s, err := o.node.State()
	if err != nil {
		return nil, opsError(err)
	}
	t, ok := s.Table(table)
	if !ok {
		return nil, atTable(table, dict.ErrNoTable)
	}
	return t.Prefix(prefix), nil
}

func (o operated) Import(ctx context.Context, table string, opts ops.ImportOptions, entries iter.Seq2[[]byte, []byte]) (ops.ImportResult, error) {
	do := cluster.ImportOptions{Type: opts.Type, Merge: opts.Merge, DryRun: opts.DryRun, MaxChange: opts.MaxChange, Way: fsm.WayImport}
	if opts.Way == ops.WayWatchFile {
		do.Way = fsm.WayWatchFile
	}
	if opts.Digest != "" {
		d, err := packed.ParseDigest(opts.Digest)
		if err != nil {
			return ops.ImportResult{}, ops.Errorf(ops.Usage, "digest %q: %v", opts.Digest, err)
		}
		do.Digest = &d
	}
	return imported(o.node.Import(ctx, table, do, entries))
}

func imported(r cluster.ImportResult, err error) (ops.ImportResult, error) {
	if err != nil {
		return ops.ImportResult{}, opsError(err)
	}
	return ops.ImportResult{Added: r.Added, Changed: r.Changed, Removed: r.Removed, Unchanged: r.Unchanged, Version: r.Version, Was: r.Was}, nil
}

func (o operated) Diff(ctx context.Context, table string, entries iter.Seq2[[]byte, []byte]) (iter.Seq[ops.Change], error) {
	next, err := packed.Build(entries)
	if err != nil {
		return nil, ops.Errorf(ops.BadData, "diff with table %s: %v", table, err)
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err := o.node.ReadIndex(ctx); err != nil {
		return nil, opsError(err)
	}
	s, err := o.node.State()
	if err != nil {
		return nil, opsError(err)
	}
	var old *packed.Table
	if t, ok := s.Table(table); ok {
		old = t.Table
	}
	return func(yield func(ops.Change) bool) {
		for c := range fsm.Diff(old, next) {
			if !yield(ops.Change{Key: c.Key, Old: c.Old, New: c.New}) {
				return
			}
		}
	}, nil
}

func (o operated) SaveSnapshot(ctx context.Context, w io.Writer) error {
	return opsError(o.node.SaveSnapshot(ctx, w))
}

func (o operated) RestoreSnapshot(ctx context.Context, r io.Reader, names []string) ([]string, error) {
	restored, err := o.node.RestoreSnapshot(ctx, r, names)
	return restored, opsError(err)
}

// served is a node as the proxymap server wants it.
type served struct{ node *cluster.Node }

var _ proxy.DeadlineTable = (*cluster.Table)(nil)

// Table implements proxy.Tables.
func (s served) Table(name string) proxy.Table { return s.node.Table(name).By(fsm.WayProxywrite) }

func (o operated) Watch(ctx context.Context, table string, from *uint64, emit func(ops.Event) error, idle func(at uint64) error) error {
	return opsError(o.node.Watch(ctx, table, from, func(e cluster.Event) error { return emit(opsEvent(e)) }, idle))
}

func (o operated) History(_ context.Context, table string, key []byte) (ops.History, error) {
	events, begin, err := o.node.KeyHistory(table, key)
	list := ops.History{Events: []ops.Event{}, Begin: begin}
	for _, e := range events {
		list.Events = append(list.Events, opsEvent(e))
	}
	return list, opsError(err)
}

func opsEvent(e cluster.Event) ops.Event {
	return ops.Event{Index: e.Index, Time: e.Time, Node: e.Node, Way: e.Way.String(), Whole: e.Whole, Key: e.Key, Old: e.Old, New: e.New, HadOld: e.Old != nil, HasNew: e.New != nil}
}

func (o operated) RestoreVersion(ctx context.Context, table string, index uint64) (ops.ImportResult, error) {
	return imported(o.node.RestoreVersion(ctx, table, index))
}

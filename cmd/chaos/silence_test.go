package chaos

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"postraft/ops"
)

// How long the cluster may take to heal.
const (
	healBound   = 60 * time.Second // until every node serves and takes writes
	settleBound = 20 * time.Second // without load, until all nodes are equal
)

// digests are the digests of all tables by version, from all nodes.
type digests struct {
	mu     sync.Mutex
	tables map[string]map[uint64]sighting
}

type sighting struct{ digest, node string }

func newDigests() *digests { return &digests{tables: map[string]map[uint64]sighting{}} }

// note checks I3: the version of a table, the index of its last change, says what is in it.
func (d *digests) note(r *record, node string, tables []ops.TableInfo) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, t := range tables {
		r.checks.Add(1)
		versions := d.tables[t.Name]
		if versions == nil {
			versions = map[uint64]sighting{}
			d.tables[t.Name] = versions
		}
		other, ok := versions[t.Version]
		if ok && other.digest != t.Digest {
			r.violate("I3", t.Name, "", "version %d of table %s has digest %s on %s and %s on %s", t.Version, t.Name, other.digest, other.node, t.Digest, node)
		}
		versions[t.Version] = sighting{t.Digest, node}
		if len(versions) > 20000 {
			oldest := slices.Sorted(maps.Keys(versions))
			for _, v := range oldest[:10000] {
				delete(versions, v)
			}
		}
	}
}

// healed requires I13 after a fault: every node serves, knows the leader and takes writes, and all are voters;
// then, in silence, that all are equal and have what was acknowledged. whole compares every entry.
func (l *load) healed(ctx context.Context, whole bool) {
	began := time.Now()
	if err := until(ctx, healBound, func() error { return l.serves(ctx) }); err != nil {
		if ctx.Err() == nil {
			l.s.record.violate("I13", "", "", "the cluster does not heal: %v", err)
		}
		return
	}
	took := time.Since(began)
	l.s.record.recovered(took)
	l.s.record.step("healed after %v", took.Round(time.Millisecond))
	l.s.gate.Lock()
	defer l.s.gate.Unlock()
	if err := until(ctx, settleBound, func() error { return l.equal(ctx) }); err != nil {
		if ctx.Err() == nil {
			l.s.record.violate("I13", "", "", "the nodes do not become equal without load: %v", err)
		}
		return
	}
	l.lin.check()
	tables := map[string]func(node string, has map[string]string){
		seqTable: func(node string, has map[string]string) { l.order.check(l.s.record, node, has) },
	}
	if whole {
		tables[logTable] = func(node string, has map[string]string) { l.journal.check(l.s.record, node, has) }
	}
	for name, check := range tables {
		for _, n := range l.s.nodes {
			has := map[string]string{}
			err := n.admin(adminTime).Entries(ctx, name, nil, func(key, value []byte) error {
				has[string(key)] = string(value)
				return nil
			})
			if ctx.Err() != nil {
				return
			}
			if err != nil {
				l.s.record.violate("I13", name, "", "%s does not list table %s: %v", n.name, name, err)
				return
			}
			check(n.name, has)
		}
	}
}

// serves returns why a node does not serve as it should.
func (l *load) serves(ctx context.Context) error {
	leader := ""
	for _, n := range l.s.nodes {
		st, err := n.status(ctx)
		if err != nil {
			return fmt.Errorf("status of %s: %w", n.name, err)
		}
		if leader == "" {
			leader = st.Leader
		}
		if !st.Ready || st.Leader == "" || st.Leader != leader || len(st.Voters) != nodeCount {
			return fmt.Errorf("%s: ready %t %s, leader %q where others have %q, voters %v, warnings %q", n.name, st.Ready, st.NotReady, st.Leader, leader, st.Voters, st.Warnings)
		}
	}
	members, err := l.s.nodes[0].admin(2 * time.Second).Members(ctx)
	if err != nil {
		return fmt.Errorf("members: %w", err)
	}
	for _, m := range members {
		if m.Alive != "alive" || len(members) != nodeCount {
			return fmt.Errorf("members: %v", members)
		}
	}
	for _, n := range l.s.nodes {
		c := l.s.session(n, "prober")
		value, out := c.lookup(constTable, constKey(0))
		if out == done && value != constValue(0) {
			out = unsure
		}
		if out == done {
			out = c.update(photoTable, "probe-"+n.name, fmt.Sprint(l.s.record.now()))
		}
		c.close()
		if out != done {
			return fmt.Errorf("%s answers %s to a probe", n.name, out)
		}
	}
	return nil
}

// equal returns how the nodes differ.
func (l *load) equal(ctx context.Context) error {
	var first ops.Status
	for i, n := range l.s.nodes {
		st, err := n.status(ctx)
		if err != nil {
			return fmt.Errorf("status of %s: %w", n.name, err)
		}
		l.digests.note(l.s.record, n.name, st.Tables)
		if i == 0 {
			first = st
			continue
		}
		if st.AppliedIndex != first.AppliedIndex || st.CommitIndex != first.CommitIndex || !slices.Equal(st.Tables, first.Tables) {
			return fmt.Errorf("%s has applied %d: %v; %s has applied %d: %v", first.Name, first.AppliedIndex, first.Tables, n.name, st.AppliedIndex, st.Tables)
		}
	}
	return nil
}

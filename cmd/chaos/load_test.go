package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"postraft/dict"
)

// The tables of the load.
const (
	constTable  = "const"  // never changes
	logTable    = "log"    // keys that are written once, and perhaps deleted once
	seqTable    = "seq"    // a few keys with one writer each time
	linTable    = "lin"    // keys that many write and read
	importTable = "import" // generations
	photoTable  = "photo"  // restored from snapshots
)

const constKeys = 1000

func constKey(i int) string   { return fmt.Sprintf("const-%04d@example.com", i) }
func constValue(i int) string { return fmt.Sprintf("value %d of a thousand", i) }

// A load is everything that works on the cluster all the while.
type load struct {
	s       *site
	journal *journal
	order   *order
	lin     *history
	imports *imports
	digests *digests
}

// prepare fills the tables that must be there before the first fault.
func prepare(ctx context.Context, s *site) (*load, error) {
	l := &load{s: s, journal: newJournal(), order: newOrder(), lin: newHistory(s.record), imports: newImports(), digests: newDigests()}
	api := s.nodes[0].admin(30 * time.Second)
	if err := until(ctx, formBound, func() error { return api.CreateTable(ctx, constTable, "hash", dict.Settings{}) }); err != nil {
		return nil, fmt.Errorf("create table %s: %w", constTable, err)
	}
	for _, name := range []string{logTable, seqTable, linTable, importTable, photoTable} {
		if err := api.CreateTable(ctx, name, "hash", dict.Settings{}); err != nil {
			return nil, fmt.Errorf("create table %s: %w", name, err)
		}
	}
	err := importEntries(ctx, api, constTable, func(emit func(key, value string)) {
		for i := range constKeys {
			emit(constKey(i), constValue(i))
		}
	})
	if err != nil {
		return nil, fmt.Errorf("import table %s: %w", constTable, err)
	}
	return l, until(ctx, formBound, func() error { return l.serves(ctx) })
}

// run starts the workers and returns when ctx has ended and they have.
func (l *load) run(ctx context.Context) {
	var workers sync.WaitGroup
	for _, n := range l.s.nodes {
		workers.Go(func() { l.askConstants(ctx, n) })
		workers.Go(func() { l.keepJournal(ctx, n) })
		workers.Go(func() { l.readOrder(ctx, n) })
		workers.Go(func() { l.readImports(ctx, n) })
		workers.Go(func() { l.watchStatus(ctx, n) })
	}
	for i := range 6 {
		workers.Go(func() { l.contend(ctx, i) })
	}
	workers.Go(func() { l.writeOrder(ctx) })
	workers.Go(func() { l.consultOrder(ctx) })
	workers.Go(func() { l.importGenerations(ctx) })
	workers.Go(func() { l.s.watchStalls(ctx) })
	workers.Go(func() { l.s.watchProcesses(ctx) })
	workers.Go(func() { l.s.writeBack(ctx) })
	workers.Wait()
}

// each calls request again and again, about every d, and not while checks want silence.
func (l *load) each(ctx context.Context, d time.Duration, request func()) {
	for every(ctx, d/2+rand.N(d)) {
		l.s.gate.RLock()
		if ctx.Err() == nil {
			request()
		}
		l.s.gate.RUnlock()
	}
}

// askConstants checks I6: what was always there is never "not found", has its value, and is not deferred any
// more once this life of the agent has served.
func (l *load) askConstants(ctx context.Context, n *node) {
	c := l.s.session(n, "constants")
	defer c.close()
	var served *process // the life that has
	l.each(ctx, 40*time.Millisecond, func() {
		i, life := rand.IntN(constKeys), n.running()
		value, out := c.lookup(constTable, constKey(i))
		violate := func(format string, args ...any) {
			l.s.record.violate("I6", constTable, constKey(i), format, args...)
		}
		switch {
		case out == absent:
			violate("%s does not find %s, which was always there", n.name, constKey(i))
		case out == done && value != constValue(i):
			violate("%s finds %q for %s, which was always %q", n.name, value, constKey(i), constValue(i))
		case out == deferred && served != nil && served == life && n.running() == life:
			violate("%s defers a lookup of %s, although it has served since it was started", n.name, constKey(i))
		case out == done && n.running() == life:
			served = life
		}
	})
}

// watchStatus collects the digests of a node for I3, and checks the configuration that it knows.
func (l *load) watchStatus(ctx context.Context, n *node) {
	rounds := 0
	l.each(ctx, 400*time.Millisecond, func() {
		st, err := n.status(ctx)
		if err != nil {
			return
		}
		l.digests.note(l.s.record, n.name, st.Tables)
		l.checkVoters(n, st.Voters)
		if rounds++; rounds%8 == 0 {
			if members, err := n.admin(2 * time.Second).Members(ctx); err == nil {
				var voters []string
				for _, m := range members {
					if m.Role == "voter" {
						voters = append(voters, m.Name)
					}
				}
				l.checkVoters(n, voters)
			}
		}
	})
}

// checkVoters checks I11 for the configuration that a node knows.
func (l *load) checkVoters(n *node, voters []string) {
	l.s.record.checks.Add(1)
	seen := map[string]bool{}
	for _, v := range voters {
		if seen[v] {
			l.s.record.violate("I11", "", "", "%s has a configuration with two voters called %s: %v", n.name, v, voters)
		}
		seen[v] = true
	}
	if len(voters) > nodeCount {
		l.s.record.violate("I11", "", "", "%s has a configuration with more than %d voters: %v", n.name, nodeCount, voters)
	}
}

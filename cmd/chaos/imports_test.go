package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"postraft/ops"
)

const generationSize = 200

// sizeOf returns how many entries a generation has. Each third one is too large to travel as one change.
func sizeOf(g int) int {
	if g%3 == 0 {
		return 20 * generationSize
	}
	return generationSize
}

// imports is the model of the table import: it is empty, or one generation whole.
type imports struct {
	mu      sync.Mutex
	next    int
	refused map[string]bool // generations that surely never were
}

func newImports() *imports { return &imports{refused: map[string]bool{}} }

// generation emits a generation. Even and odd ones share some of their keys.
func generation(g int, emit func(key, value string)) {
	for i := range sizeOf(g) {
		emit(fmt.Sprintf("entry-%04d", i+g%2*generationSize/2), fmt.Sprintf("generation %d", g))
	}
}

// importEntries makes a table equal to entries, which come in the order of their keys.
func importEntries(ctx context.Context, api *ops.Client, table string, entries func(emit func(key, value string))) error {
	_, err := api.Import(ctx, table, ops.ImportOptions{}, func(yield func(key, value []byte) bool) {
		more := true
		entries(func(key, value string) {
			more = more && yield([]byte(key), []byte(value))
		})
	})
	return err
}

// importGenerations imports one generation after the other, through any node.
func (l *load) importGenerations(ctx context.Context) {
	all := l.s.sessions("importer")
	m := l.imports
	l.each(ctx, 1500*time.Millisecond, func() {
		c := all[rand.IntN(len(all))]
		m.next++
		g := m.next
		value := fmt.Sprintf("generation %d", g)
		var out outcome
		c.timed(importLimit, operation{what: "import", table: importTable, value: value}, func() string {
			err := importEntries(ctx, c.api, importTable, func(emit func(key, value string)) { generation(g, emit) })
			out = judged(err)
			return answer(out, err)
		})
		if out == undone {
			m.mu.Lock()
			m.refused[value] = true
			m.mu.Unlock()
		}
	})
}

// readImports checks I8 on a node: the whole table is one generation, and single lookups never go back.
func (l *load) readImports(ctx context.Context, n *node) {
	c := l.s.session(n, "import reader")
	defer c.close()
	v := view{}
	rounds := 0
	l.each(ctx, 100*time.Millisecond, func() {
		if rounds++; rounds%8 == 0 {
			l.walkImport(ctx, c)
			return
		}
		for range 8 { // at once, so that a table which changes by and by is caught at it
			value, out := c.lookup(importTable, fmt.Sprintf("entry-%04d", generationSize/2+rand.IntN(generationSize/2)))
			if out == done && v.see("", value) {
				l.s.record.violate("I8", importTable, "", "%s shows an entry of %q after entries of a later generation", n.name, value)
			}
		}
	})
}

func (l *load) walkImport(ctx context.Context, c *session) {
	got := map[string]string{}
	var err error
	c.timed(updateLimit, operation{what: "walk", table: importTable}, func() string {
		err = c.api.Entries(ctx, importTable, nil, func(key, value []byte) error {
			got[string(key)] = string(value)
			return nil
		})
		if err != nil {
			return err.Error()
		}
		return fmt.Sprintf("%d entries", len(got))
	})
	if err != nil || len(got) == 0 {
		return
	}
	l.s.record.checks.Add(1)
	generations := map[string]int{}
	g := 0
	for _, value := range got {
		generations[value]++
		fmt.Sscanf(value, "generation %d", &g)
	}
	missing := 0
	generation(g, func(key, _ string) {
		if _, ok := got[key]; !ok {
			missing++
		}
	})
	if len(generations) != 1 || len(got) != sizeOf(g) || missing > 0 {
		l.s.record.violate("I8", importTable, "", "%s shows a mixture: entries of generation: %v; %d of generation %d missing", c.n.name, generations, missing, g)
	}
	l.imports.mu.Lock()
	defer l.imports.mu.Unlock()
	for value := range generations {
		if l.imports.refused[value] {
			l.s.record.violate("I10", importTable, "", "%s shows %s, whose import was surely not done", c.n.name, value)
		}
	}
}

package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"
)

// A journal is the model of the table log: each key is written at most once, with a value of its own, and
// deleted at most once.
type journal struct {
	mu    sync.Mutex
	kept  map[string]string // acknowledged and not deleted
	gone  map[string]bool   // written, and its deletion acknowledged; or refused
	maybe map[string]string // written or deleted with unknown outcome
	seq   int
}

func newJournal() *journal {
	return &journal{kept: map[string]string{}, gone: map[string]bool{}, maybe: map[string]string{}}
}

// keepJournal writes keys through a node, looks at once whether the node shows them, and deletes some again.
func (l *load) keepJournal(ctx context.Context, n *node) {
	c := l.s.session(n, "journal")
	defer c.close()
	j := l.journal
	var mine []string // kept keys that were written here
	viaAPI := false
	l.each(ctx, 150*time.Millisecond, func() {
		if len(mine) > 0 && rand.IntN(4) == 0 {
			at := rand.IntN(len(mine))
			key := mine[at]
			mine = append(mine[:at], mine[at+1:]...)
			l.deleteFromJournal(c, key)
			return
		}
		j.mu.Lock()
		j.seq++
		key := fmt.Sprintf("%s-%06d", n.name, j.seq)
		value := fmt.Sprintf("log %d", j.seq)
		j.maybe[key] = value
		j.mu.Unlock()
		var out outcome
		if viaAPI = !viaAPI; viaAPI {
			out = c.put(ctx, logTable, key, value)
		} else {
			out = c.update(logTable, key, value)
		}
		j.mu.Lock()
		switch out {
		case done:
			delete(j.maybe, key)
			j.kept[key] = value
			mine = append(mine, key)
		case undone:
			delete(j.maybe, key)
			j.gone[key] = true
		}
		j.mu.Unlock()
		if out != done {
			return
		}
		got, out := c.lookup(logTable, key)
		if out == absent || out == done && got != value {
			l.s.record.violate("I5", logTable, key, "%s acknowledged %s = %q and shows %s %q", n.name, key, value, out, got)
		}
	})
}

func (l *load) deleteFromJournal(c *session, key string) {
	j := l.journal
	j.mu.Lock()
	value := j.kept[key]
	delete(j.kept, key)
	j.maybe[key] = value
	j.mu.Unlock()
	out := c.remove(logTable, key)
	j.mu.Lock()
	switch out {
	case done:
		delete(j.maybe, key)
		j.gone[key] = true
	case undone:
		delete(j.maybe, key)
		j.kept[key] = value
	}
	j.mu.Unlock()
	if out == absent {
		l.s.record.violate("I1", logTable, key, "%s says that %s is not there to be deleted, which was acknowledged and never deleted", c.n.name, key)
	}
	if out != done {
		return
	}
	if got, out := c.lookup(logTable, key); out == done {
		l.s.record.violate("I5", logTable, key, "%s acknowledged the deletion of %s and shows %q", c.n.name, key, got)
	}
}

// check compares what a node has with the model. Nothing may be under way. Of what is not known it takes the
// node's word, so that all nodes must agree from then on.
func (j *journal) check(r *record, node string, has map[string]string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	r.checks.Add(int64(len(j.kept) + len(j.gone)))
	for key, want := range j.kept {
		if got, ok := has[key]; !ok {
			r.violate("I1", logTable, key, "%s has lost %s, which was acknowledged", node, key)
		} else if got != want {
			r.violate("I1", logTable, key, "%s has %s = %q, acknowledged was %q", node, key, got, want)
		}
	}
	for key, got := range has {
		want, maybe := j.maybe[key]
		switch {
		case j.gone[key]:
			r.violate("I10", logTable, key, "%s has %s, which was deleted, or refused from the start", node, key)
		case j.kept[key] != "":
		case !maybe:
			r.violate("I10", logTable, key, "%s has %s = %q, which nobody wrote", node, key, got)
		case got != want:
			r.violate("I10", logTable, key, "%s has %s = %q, written was %q", node, key, got, want)
		}
	}
}

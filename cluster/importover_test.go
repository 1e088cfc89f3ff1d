package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"postraft/cluster"
	"postraft/cluster/clustertest"
	"postraft/dict"
	"postraft/fsm/packed"
)

// ascending yields the entries of m in order.
func ascending(m map[string]string) iter.Seq2[[]byte, []byte] {
	return func(yield func(k, v []byte) bool) {
		for _, k := range slices.Sorted(maps.Keys(m)) {
			if !yield([]byte(k), []byte(m[k])) {
				return
			}
		}
	}
}

// TestNode_ImportOver ensures that an import over a table makes it what it is to be and counts rightly, wherever in the
// table it is that so much has changed that all is sent, and where it is never so much.
func TestNode_ImportOver(t *testing.T) {
	const count = 8000 // half a megabyte, so that half of it does not fit into one entry of the log
	c := clustertest.New(t, 1)
	n := c.Nodes[0]
	value := func(generation int) string { return fmt.Sprintf("%050d", generation) }
	full := func(generation int) map[string]string {
		m := map[string]string{"": "of the empty key"}
		for i := range count {
			m[fmt.Sprintf("user%05d", i)] = value(generation)
		}
		return m
	}
	rng := rand.New(rand.NewPCG(1, 2))
	changed := func(share float64, from, to int, do func(m map[string]string, key string)) map[string]string {
		m := full(0)
		for i := from; i < to; i++ {
			if rng.Float64() < share {
				do(m, fmt.Sprintf("user%05d", i))
			}
		}
		return m
	}
	change := func(m map[string]string, key string) { m[key] = value(1) }
	remove := func(m map[string]string, key string) { delete(m, key) }
	add := func(m map[string]string, key string) { m[key+"a"], m[key+"\x01"] = value(2), "" }
	all := func(m map[string]string, key string) {
		[]func(map[string]string, string){change, remove, add}[rng.IntN(3)](m, key)
	}
	for name, next := range map[string]map[string]string{
		"same":                full(0),
		"all changed":         changed(1, 0, count, change),
		"first half changed":  changed(1, 0, count/2, change),
		"second half changed": changed(1, count/2, count, change),
		"last one changed":    changed(1, count-1, count, change),
		"first half removed":  changed(1, 0, count/2, remove),
		"all but the last":    changed(1, 0, count-1, remove),
		"all but the first":   changed(1, 1, count, remove),
		"all removed":         {},
		"one behind":          {"z": "v"},
		"one before":          {"a": "v"},
		"all other":           {"": "", "a": "b", "user": "v", "user00000\x01": "v", "z": "v"},
		"all added to":        changed(1, 0, count, add),
		"tenth of all":        changed(.1, 0, count, all),
		"half of all":         changed(.5, 0, count, all),
		"all of all":          changed(1, 0, count, all),
		"fifth, then all":     changed(.2, 0, count, all),
	} {
		t.Run(name, func(t *testing.T) {
			old := full(0)
			if name == "fifth, then all" {
				old = changed(1, 0, count, all)
			}
			imported(t, n, cluster.ImportOptions{}, ascending(old))
			was := n.Status().Tables[0].Version
			var want cluster.ImportResult
			for k, v := range next {
				switch before, ok := old[k]; {
				case !ok:
					want.Added++
				case v != before:
					want.Changed++
				default:
					want.Unchanged++
				}
			}
			want.Removed = len(old) - want.Changed - want.Unchanged
			want.Version, want.Was = was, was
			if got := imported(t, n, cluster.ImportOptions{DryRun: true}, ascending(next)); got != want {
				t.Errorf("a dry run: %+v, want %+v", got, want)
			}
			if table := n.Status().Tables[0]; table.Version != was || n.Stages() != 0 {
				t.Errorf("a dry run has left %+v, %d stages", table, n.Stages())
			}
			got := imported(t, n, cluster.ImportOptions{}, ascending(next))
			if want.Version = n.Status().Tables[0].Version; got != want {
				t.Errorf("%+v, want %+v", got, want)
			}
			if digest := n.Status().Tables[0].Digest; digest != packed.DigestOf(ascending(next)) {
				t.Error("the table is not what was imported")
			}
			if n.Stages() != 0 {
				t.Errorf("%d stages are left", n.Stages())
			}
		})
	}
}

// TestNode_ImportOverFails ensures that a table is as it was where an import over it breaks off, is not in order, or does
// more than it may, before and after all that came is staged.
func TestNode_ImportOverFails(t *testing.T) {
	const count = 20_000
	c := clustertest.New(t, 2)
	n := c.Nodes[0]
	if err := n.CreateTable(t.Context(), "t", dict.TypeHash, dict.Settings{MaxEntries: count}); err != nil {
		t.Fatal(err)
	}
	imported(t, n, cluster.ImportOptions{}, numbered(count, same))
	was := n.Status().Tables[0]
	another := func(int) string { return "another mailbox" }
	staged := func() error {
		if n.Stages() != 1 {
			return fmt.Errorf("%d stages", n.Stages())
		}
		return nil
	}
	for _, part := range []int{count / 100, count / 4 * 3} {
		// then yields a part of the entries, all of them changed, and goes on with do.
		then := func(do func(yield func(k, v []byte) bool)) iter.Seq2[[]byte, []byte] {
			return func(yield func(k, v []byte) bool) {
				for k, v := range numbered(part, another) {
					if !yield(k, v) {
						return
					}
				}
				if part > count/2 {
					c.Eventually("a stage", staged)
				}
				do(yield)
			}
		}
		broke := errors.New("the client has gone")
		ctx, cancel := context.WithCancelCause(t.Context())
		for name, try := range map[string]struct {
			opts    cluster.ImportOptions
			entries iter.Seq2[[]byte, []byte]
			want    error
		}{
			"broken off":   {entries: then(func(func(k, v []byte) bool) { cancel(broke) }), want: broke},
			"not in order": {entries: then(func(yield func(k, v []byte) bool) { yield([]byte("user000000@example.com"), nil) }), want: dict.ErrBadSource},
			"twice": {entries: then(func(yield func(k, v []byte) bool) {
				yield(fmt.Appendf(nil, "user%06d@example.com", part-1), nil)
			}), want: dict.ErrBadSource},
			"twice, unchanged": {entries: func(yield func(k, v []byte) bool) {
				for range 2 {
					if !yield([]byte("user000000@example.com"), []byte("mailbox")) {
						return
					}
				}
			}, want: dict.ErrBadSource},
			"too much": {opts: cluster.ImportOptions{MaxChange: 99}, entries: then(func(func(k, v []byte) bool) {}), want: cluster.ErrTooMuch},
			"too many": {entries: then(func(yield func(k, v []byte) bool) {
				for i := range count + 1 {
					if !yield(fmt.Appendf(nil, "z%06d", i), []byte("v")) {
						return
					}
				}
			}), want: cluster.ErrRefused},
		} {
			// Of these the context ends in one only.
			do := t.Context()
			if name == "broken off" {
				do = ctx
			}
			if _, err := n.Import(do, "t", try.opts, try.entries); !errors.Is(err, try.want) {
				t.Errorf("%s behind %d: %v, want %v", name, part, err, try.want)
			}
			c.Eventually("no stage", func() error {
				if n.Stages() != 0 {
					return fmt.Errorf("%d stages", n.Stages())
				}
				return nil
			})
			if now := n.Status().Tables[0]; now.Digest != was.Digest || now.Version != was.Version {
				t.Fatalf("%s behind %d: the table has changed: %+v", name, part, now)
			}
		}
		cancel(nil)
	}
	// Of what is soon too much nothing is sent, and it is told how much it is.
	before := n.Status().LastLogIndex
	_, err := n.Import(t.Context(), "t", cluster.ImportOptions{MaxChange: 10}, numbered(count, another))
	if sent := n.Status().LastLogIndex - before; sent != 0 {
		t.Errorf("%d entries of the log", sent)
	}
	if want := fmt.Sprintf("%d of %d entries would be changed and 0 removed", count, count); !errors.Is(err, cluster.ErrTooMuch) || !strings.Contains(err.Error(), want) {
		t.Errorf("%v, want %q", err, want)
	}
}

// TestNode_ImportOverMeanwhile ensures that an import makes the table what was imported, keeps within its limits and counts
// what it has done when others have changed the table while its entries came.
func TestNode_ImportOverMeanwhile(t *testing.T) {
	const count = 20_000
	c := clustertest.New(t, 2)
	n, other := c.Nodes[0], c.Nodes[1]
	another := func(int) string { return "another mailbox" }
	// during yields the entries of a table and lets do happen behind three quarters of them.
	during := func(value func(i int) string, do func()) iter.Seq2[[]byte, []byte] {
		return func(yield func(k, v []byte) bool) {
			i := 0
			for k, v := range numbered(count, value) {
				if i++; i == count/4*3 {
					do()
				}
				if !yield(k, v) {
					return
				}
			}
		}
	}
	staged := func() {
		c.Eventually("a stage", func() error {
			if n.Stages() != 1 {
				return fmt.Errorf("%d stages", n.Stages())
			}
			return nil
		})
	}
	is := func(value func(i int) string) {
		t.Helper()
		if got := n.Status().Tables[0]; got.Digest != packed.DigestOf(numbered(count, value)) {
			t.Errorf("the table is not what was imported: %+v", got)
		}
		if n.Stages() != 0 {
			t.Errorf("%d stages are left", n.Stages())
		}
	}
	counted := func(got cluster.ImportResult, want string) {
		t.Helper()
		if text := fmt.Sprint(got.Added, got.Changed, got.Removed, got.Unchanged); text != want || got.Was >= got.Version {
			t.Errorf("%+v, want %s", got, want)
		}
	}
	imported(t, n, cluster.ImportOptions{}, numbered(count, same))

	counted(imported(t, n, cluster.ImportOptions{}, during(same, func() {
		if _, err := other.Table("t").Delete(t.Context(), []byte("user000007@example.com")); err != nil {
			t.Error(err)
		}
	})), "1 0 0 19999")
	is(same)

	grow := func() {
		staged()
		imported(t, other, cluster.ImportOptions{Merge: true}, func(yield func(k, v []byte) bool) {
			for i := range count {
				if !yield(fmt.Appendf(nil, "z%06d", i), []byte("v")) {
					return
				}
			}
		})
	}
	_, err := n.Import(t.Context(), "t", cluster.ImportOptions{MaxChange: 99.2}, during(everyHundredthSame, grow))
	if !errors.Is(err, cluster.ErrTooMuch) || !strings.Contains(err.Error(), "20000 removed") {
		t.Errorf("with so much more to be removed: %v", err)
	}
	if got := n.Status().Tables[0]; got.Entries != 2*count {
		t.Errorf("it did something: %+v", got)
	}
	imported(t, n, cluster.ImportOptions{}, numbered(count, same))
	put := func() { other.Put("t", "late", "v") }
	if _, err := n.Import(t.Context(), "t", cluster.ImportOptions{MaxChange: 10}, during(another, put)); !errors.Is(err, cluster.ErrTooMuch) {
		t.Errorf("too much, and a table that has changed: %v", err)
	}
	imported(t, n, cluster.ImportOptions{}, numbered(count, same))
	counted(imported(t, n, cluster.ImportOptions{}, during(another, grow)), "0 20000 20000 0")
	is(another)

	// Somebody else has imported the same meanwhile: nothing is written.
	imported(t, n, cluster.ImportOptions{}, numbered(count, same))
	if got := imported(t, n, cluster.ImportOptions{}, during(another, func() {
		staged()
		imported(t, other, cluster.ImportOptions{}, numbered(count, another))
	})); got.Unchanged != count || got.Version != got.Was || got.Version != n.Status().Tables[0].Version {
		t.Errorf("what the table has already: %+v, and the table %+v", got, n.Status().Tables[0])
	}
	is(another)
	// A dry run tells of the table as it is in the end.
	if got := imported(t, n, cluster.ImportOptions{DryRun: true}, during(same, func() {
		imported(t, other, cluster.ImportOptions{}, numbered(10, same))
	})); got.Added != count-10 || got.Unchanged != 10 || got.Version != n.Status().Tables[0].Version {
		t.Errorf("a dry run: %+v", got)
	}
	imported(t, n, cluster.ImportOptions{}, numbered(count, another))

	counted(imported(t, n, cluster.ImportOptions{}, during(same, func() {
		staged()
		if err := other.DropTable(t.Context(), "t"); err != nil {
			t.Error(err)
		}
	})), "20000 0 0 0")
	is(same)
	c.Agree()

	// Where little is left, that is sent and not what goes, which is less than half of the table.
	long := func(int) string { return strings.Repeat("mailbox", 9) }
	imported(t, n, cluster.ImportOptions{}, numbered(count, long))
	before := n.Status().LastLogIndex
	imported(t, n, cluster.ImportOptions{}, numbered(10, long))
	if sent := n.Status().LastLogIndex - before; sent > 3 {
		t.Errorf("%d entries of the log for ten of the table", sent)
	}
	imported(t, n, cluster.ImportOptions{}, numbered(count, same))

	// What turns out to be too much is sent no further.
	most := int64(count + 10)
	if err := n.SetTable(t.Context(), "t", dict.SettingsChange{MaxEntries: &most}); err != nil {
		t.Fatal(err)
	}
	_, err = n.Import(t.Context(), "t", cluster.ImportOptions{}, func(yield func(k, v []byte) bool) {
		for k, v := range during(another, func() { staged(); put() }) {
			if !yield(k, v) {
				return
			}
		}
		for i := range 10 * count {
			if i == 100 {
				before = n.Status().LastLogIndex
			}
			if !yield(fmt.Appendf(nil, "z%06d", i), []byte("v")) {
				return
			}
		}
	})
	if sent := n.Status().LastLogIndex - before; !errors.Is(err, cluster.ErrRefused) || !strings.Contains(err.Error(), "220000 entries") || sent > 4 {
		t.Errorf("%v; %d entries of the log", err, sent)
	}
	if got := n.Status().Tables[0]; got.Entries != count+1 {
		t.Errorf("it did something: %+v", got)
	}
}

// everyHundredthSame leaves every hundredth entry as it is.
func everyHundredthSame(i int) string {
	if i%100 == 0 {
		return "mailbox"
	}
	return "another mailbox"
}

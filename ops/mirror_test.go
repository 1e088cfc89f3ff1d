package ops

import (
	"context"
	"iter"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postraft/dict"
)

// oneTable is a table of four entries, of which postmap(1) reads two.
type oneTable struct{ others }

// others are the methods that a Mirror does not use.
type others interface{ Tables }

func (oneTable) Tables(context.Context) ([]TableInfo, error) {
	return []TableInfo{{Name: "t", Type: dict.TypeHash, Entries: 4, Version: 7, Digest: "x"}}, nil
}

func (oneTable) Entries(context.Context, string, []byte) (iter.Seq2[[]byte, []byte], error) {
	return func(yield func(k, v []byte) bool) {
		for _, k := range []string{"B", "a", "b", "\xff"} {
			if !yield([]byte(k), []byte("v")) {
				return
			}
		}
	}, nil
}

// TestMirror_Incomplete ensures that a database which lacks entries, as a genuine postmap(1) makes them without a word
// where the disk is full, does not come into place, that this is told, and that the next one does.
func TestMirror_Incomplete(t *testing.T) {
	dir := t.TempDir()
	made := filepath.Join(dir, "made")
	command := filepath.Join(dir, "postmap")
	script := "#!/bin/sh\nif [ \"$1\" = -s ]; then cat '" + made + "'; else echo database >\"${1#*:}.lmdb\"; fi\n"
	if err := os.WriteFile(command, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	say := func(lines int) {
		if err := os.WriteFile(made+".new", []byte(strings.Repeat("k\tv\n", lines)), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(made+".new", made); err != nil {
			t.Fatal(err)
		}
	}
	say(1)
	m := &Mirror{Table: "t", Target: dict.Name{Type: "lmdb", Map: filepath.Join(dir, "v")}, From: oneTable{}, Logger: slog.New(slog.DiscardHandler), Postmap: command, Poll: 10 * time.Millisecond}
	start(t, m)
	until := func(what string, ok func(MirrorState) bool) {
		t.Helper()
		deadline := time.Now().Add(10 * time.Second)
		for !ok(m.State()) {
			if time.Now().After(deadline) {
				t.Fatalf("%s: %+v", what, m.State())
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
	until("an incomplete database", func(s MirrorState) bool { return strings.Contains(s.Error, "has 1 entries, not 2") })
	if _, err := os.Stat(m.Target.Map + ".lmdb"); err == nil {
		t.Error("the incomplete database is in place")
	}
	say(2)
	until("a whole one", func(s MirrorState) bool { return s.Current && s.Version == 7 })
	for _, path := range []string{m.Target.Map, m.Target.Map + ".lmdb"} {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		until("what was removed comes back", func(MirrorState) bool {
			_, err := os.Stat(path)
			return err == nil
		})
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".v*")); len(left) > 0 {
		t.Errorf("left over: %v", left)
	}
}

// start runs m until the test ends.
func start(t *testing.T, m *Mirror) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		m.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
}

// atOnce calls a function when a Mirror has just put its files in place.
type atOnce struct {
	slog.Handler
	written func()
}

func (atOnce) Enabled(context.Context, slog.Level) bool { return true }

func (h atOnce) Handle(_ context.Context, r slog.Record) error {
	if r.Message == "mirror written" {
		h.written()
	}
	return nil
}

// TestMirror_RemovedAtOnce ensures that a file which somebody removes in the moment that it was put in place comes back.
func TestMirror_RemovedAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "v")
	written, times := make(chan error, 1), 0
	logger := slog.New(atOnce{slog.DiscardHandler, func() {
		switch times++; times {
		case 1:
			os.Remove(path)
		case 2:
			_, err := os.Stat(path)
			written <- err
		}
	}})
	m := &Mirror{Table: "t", Target: dict.Name{Type: "texthash", Map: path}, From: oneTable{}, Logger: logger, Poll: 5 * time.Millisecond}
	start(t, m)
	select {
	case err := <-written:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Errorf("it does not come back: %+v", m.State())
	}
}

package ops_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"postraft/ops"
)

// source is a node with a table of that version, and one that does not change until it is dropped.
type source struct {
	mu      sync.Mutex
	leads   bool
	version uint64
	dropped bool
	err     error
	asked   int
}

func (s *source) Status() ops.Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	state := "follower"
	if s.leads {
		state = "leader"
	}
	s.asked++
	tables := []ops.TableInfo{{Name: "t", Version: s.version}, {Name: "u", Version: 1}}
	if s.dropped {
		tables = tables[:1]
	}
	return ops.Status{State: state, Ready: true, Tables: tables}
}

func (s *source) SaveSnapshot(_ context.Context, w io.Writer) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		w.Write([]byte("half"))
		return s.err
	}
	_, err := w.Write([]byte("whole"))
	return err
}

func (s *source) set(f func(*source)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(s)
}

// TestAutoSnapshots ensures that a leader, and nobody else, saves snapshots while there is something new, keeps
// as many as it shall, and leaves nothing of one that failed.
func TestAutoSnapshots(t *testing.T) {
	dir := t.TempDir()
	s := &source{version: 1}
	a := &ops.AutoSnapshots{Dir: dir, Every: time.Millisecond, Keep: 2, Source: s, Logger: slog.New(slog.DiscardHandler)}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); a.Run(ctx) }()
	defer func() { stop(); <-done }()
	files := func() []string {
		list, _ := filepath.Glob(filepath.Join(dir, "*"))
		hidden, _ := filepath.Glob(filepath.Join(dir, ".*"))
		return append(list, hidden...)
	}
	until := func(what string, check func() bool) {
		t.Helper()
		for deadline := time.Now().Add(10 * time.Second); !check(); {
			if time.Now().After(deadline) {
				t.Fatalf("not so in 10 s: %s: %v", what, files())
			}
			time.Sleep(time.Millisecond)
		}
	}
	saved := func() uint64 { n, _ := a.Counts(); return n }
	if len(files()) > 0 {
		t.Fatal("a follower has saved")
	}
	s.set(func(s *source) { s.leads = true })
	until("one is saved", func() bool { return saved() == 1 && len(files()) == 1 })
	for v := uint64(2); v <= 4; v++ {
		s.set(func(s *source) { s.version = v })
		until("a change is saved", func() bool { return saved() == v })
	}
	until("two are kept", func() bool { return len(files()) == 2 })
	for _, f := range files() {
		if b, err := os.ReadFile(f); err != nil || string(b) != "whole" {
			t.Errorf("%s: %q %v", f, b, err)
		}
	}
	s.set(func(s *source) { s.err, s.version = errors.New("no leader"), 5 })
	until("a failure is counted", func() bool { _, failed := a.Counts(); return failed > 2 })
	s.set(func(s *source) { s.leads = false })
	until("nothing of it is left", func() bool { return len(files()) == 2 })
}

// TestAutoSnapshots_Names ensures that files with other names are neither taken for snapshots nor removed, that those from the time
// of a wrong clock are the first to go, that a dropped table is a change, and that no half of an ended process stays.
func TestAutoSnapshots_Names(t *testing.T) {
	dir := t.TempDir()
	put := func(name string, age time.Duration) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, time.Time{}, time.Now().Add(-age)); err != nil {
			t.Fatal(err)
		}
		return path
	}
	stay := []string{put("postraft-before-upgrade.snapshot", 0), put("postraft-1.snapshot", 0), put(".postraft-20260101T000000Z-1.snapshot.tmp", 0)}
	leave := []string{put(".postraft-20250101T000000Z-1.snapshot.tmp", time.Hour), put("postraft-20991231T000000Z-7.snapshot", 0), put("postraft-20260101T000000Z-7.snapshot", 0)}
	s := &source{version: 7, leads: true}
	a := &ops.AutoSnapshots{Dir: dir, Every: time.Millisecond, Keep: 2, Source: s, Logger: slog.New(slog.DiscardHandler)}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); a.Run(ctx) }()
	defer func() { stop(); <-done }()
	saves := func(what string, want uint64) {
		t.Helper()
		asked := func() (n int) { s.set(func(s *source) { n = s.asked }); return n }
		last := asked()
		for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
			saved, failed := a.Counts()
			if saved > want || failed > 0 || time.Now().After(deadline) {
				t.Fatalf("%s: %d saved, %d not; want %d saved", what, saved, failed, want)
			}
			if saved < want {
				last = asked()
			} else if asked() > last+20 { // and none after it
				break
			}
		}
		for second := time.Now().Unix(); time.Now().Unix() == second; time.Sleep(10 * time.Millisecond) { // names differ by seconds
		}
	}
	saves("the name of an earlier version", 1)
	s.set(func(s *source) { s.version = 8 })
	saves("a change", 2)
	s.set(func(s *source) { s.dropped = true })
	saves("a dropped table", 3)
	for _, path := range stay {
		if _, err := os.Stat(path); err != nil {
			t.Errorf("removed: %v", err)
		}
	}
	for _, path := range leave {
		if _, err := os.Stat(path); err == nil {
			t.Errorf("stays: %s", path)
		}
	}
}

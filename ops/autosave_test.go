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

// source is a node whose only table changes with each call of change.
type source struct {
	mu      sync.Mutex
	leads   bool
	version uint64
	err     error
}

func (s *source) Status() ops.Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	state := "follower"
	if s.leads {
		state = "leader"
	}
	return ops.Status{State: state, Ready: true, Tables: []ops.TableInfo{{Name: "t", Version: s.version}}}
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

package e2e

import (
	"bytes"
	"context"
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"postraft/dict"
	"postraft/proxy"
	"postraft/proxy/handoff"
)

// builds are the programs that were built for this run.
var builds struct {
	mu  sync.Mutex // guards dir and what is in it
	dir string
}

// program builds one of the programs, once, and returns its path.
func program(t *testing.T, name string) string {
	t.Helper()
	builds.mu.Lock()
	defer builds.mu.Unlock()
	if builds.dir == "" {
		dir, err := os.MkdirTemp("", "pb")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(dir, 0o755); err != nil { // the agents run as another user
			t.Fatal(err)
		}
		builds.dir = dir
	}
	path := filepath.Join(builds.dir, name)
	if _, err := os.Stat(path); err == nil {
		return path
	}
	cmd := exec.Command("go", "build", "-o", path, "postraft/cmd/"+name)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", name, err, out)
	}
	return path
}

func TestMain(m *testing.M) {
	status := m.Run()
	if builds.dir != "" {
		os.RemoveAll(builds.dir)
	}
	os.Exit(status)
}

// A memAgent is the agent's side of the hand-off over tables in this process's memory, for tests of the
// front end alone.
type memAgent struct {
	t      *testing.T
	runDir string
	stop   func()

	mu     sync.Mutex // guards tables
	tables map[string]map[string]string
}

func newMemAgent(t *testing.T) *memAgent {
	t.Helper()
	dir, err := os.MkdirTemp("", "pr")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	a := &memAgent{t: t, runDir: dir, stop: func() {}, tables: map[string]map[string]string{}}
	t.Cleanup(func() { a.stop() })
	return a
}

func (a *memAgent) start() {
	a.t.Helper()
	uid := int(lookupAccount(a.t, "postfix").uid)
	server := proxy.New(proxy.Config{Tables: a, Logger: slog.New(slog.DiscardHandler)})
	srv, err := handoff.Listen(handoff.Config{
		Path: filepath.Join(a.runDir, "handoff.sock"), UIDs: []int{uid},
		Open: handoff.Sessions(server), Logger: slog.New(slog.NewTextHandler(a.t.Output(), nil)),
	})
	if err != nil {
		a.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := srv.Serve(ctx); err != nil {
			a.t.Error(err)
		}
	}()
	a.stop = sync.OnceFunc(func() {
		cancel()
		<-done
		server.Close()
	})
}

func (a *memAgent) put(table, key, value string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.tables[table] == nil {
		a.tables[table] = map[string]string{}
	}
	a.tables[table][key] = value
}

func (a *memAgent) Table(name string) proxy.Table { return memTable{a, name} }

type memTable struct {
	a    *memAgent
	name string
}

// with calls use with the table, if it is there.
func (m memTable) with(use func(map[string]string)) error {
	m.a.mu.Lock()
	defer m.a.mu.Unlock()
	entries, ok := m.a.tables[m.name]
	if !ok {
		return dict.ErrNoTable
	}
	use(entries)
	return nil
}

func (m memTable) Kind() dict.Flags { return dict.Fixed }

func (m memTable) Lookup(key []byte) (value []byte, found bool, err error) {
	err = m.with(func(entries map[string]string) {
		var v string
		v, found = entries[string(key)]
		value = []byte(v)
	})
	return value, found, err
}

func (m memTable) Next(after []byte) (key, value []byte, found bool, err error) {
	err = m.with(func(entries map[string]string) {
		for _, k := range slices.Sorted(maps.Keys(entries)) {
			if after == nil || bytes.Compare([]byte(k), after) > 0 {
				key, value, found = []byte(k), []byte(entries[k]), true
				return
			}
		}
	})
	return key, value, found, err
}

func (m memTable) Update(_ context.Context, key, value []byte) error {
	return m.with(func(entries map[string]string) { entries[string(key)] = string(value) })
}

func (m memTable) Delete(_ context.Context, key []byte) (found bool, err error) {
	err = m.with(func(entries map[string]string) {
		_, found = entries[string(key)]
		delete(entries, string(key))
	})
	return found, err
}

func (m memTable) DeleteIf(_ context.Context, key, seen []byte) (found bool, err error) {
	err = m.with(func(entries map[string]string) {
		var now string
		if now, found = entries[string(key)]; now == string(seen) {
			delete(entries, string(key))
		}
	})
	return found, err
}

func (m memTable) Create(context.Context) error {
	m.a.mu.Lock()
	defer m.a.mu.Unlock()
	if m.a.tables[m.name] == nil {
		m.a.tables[m.name] = map[string]string{}
	}
	return nil
}

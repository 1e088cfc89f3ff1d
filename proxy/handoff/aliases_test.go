package handoff

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// TestAliases_Told ensures that a front end knows the aliases of each agent from its welcome on, and other ones
// when they change.
func TestAliases_Told(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	a := newAgent(t, "one")
	srv, err := Listen(Config{Path: path, Open: a.open, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	srv.Alias([]string{"hash:/a"})
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() { srv.Serve(ctx) })
	var mu sync.Mutex
	told := "nothing"
	f := startFront(t, FrontEndConfig{Path: path, Aliases: func(names []string) {
		mu.Lock()
		told = fmt.Sprint(names)
		mu.Unlock()
	}})
	knows := func(want string) {
		t.Helper()
		within(t, 5*time.Second, "the front end is told of "+want, func() error {
			mu.Lock()
			defer mu.Unlock()
			if told != want {
				return fmt.Errorf("it knows of %s", told)
			}
			return nil
		})
	}
	knows("[hash:/a]")
	within(t, 5*time.Second, "the agent serves", f.answeredBy(t, "one"))
	srv.Alias([]string{"hash:/a", "hash:/b"})
	knows("[hash:/a hash:/b]")
	srv.Alias(nil)
	knows("[]")
}

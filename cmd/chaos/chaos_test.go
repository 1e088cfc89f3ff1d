package chaos

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	shortRun    = 90 * time.Second
	formBound   = 60 * time.Second
	wholeChecks = 5 // after every so many steps all entries are compared

	// onlyNamed is left out unless it is asked for: a disk that forgets may leave a log that is damaged, and
	// the agent then rightly does not start before an operator says --reset.
	onlyNamed = "forgetful-sync"
)

// settings are what the environment asks for.
type settings struct {
	duration time.Duration
	seed     uint64
	faults   []string // empty is all
	keep     bool
}

func readSettings(t *testing.T) settings {
	t.Helper()
	s := settings{duration: shortRun, seed: uint64(time.Now().UnixNano() % 1e6), keep: os.Getenv("CHAOS_KEEP") == "1"}
	var err error
	if v := os.Getenv("CHAOS_DURATION"); v != "" {
		if s.duration, err = time.ParseDuration(v); err != nil {
			t.Fatalf("CHAOS_DURATION=%s: %v", v, err)
		}
	}
	if v := os.Getenv("CHAOS_SEED"); v != "" {
		if s.seed, err = strconv.ParseUint(v, 10, 64); err != nil {
			t.Fatalf("CHAOS_SEED=%s: %v", v, err)
		}
	}
	s.faults = strings.FieldsFunc(os.Getenv("CHAOS_FAULTS"), func(r rune) bool { return r == ',' || r == ' ' })
	return s
}

// TestCluster_KeepsItsPromises ensures that the invariants in the package comment hold under load while
// everything around the agents fails, and that the cluster heals from each fault.
func TestCluster_KeepsItsPromises(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes a while")
	}
	set := readSettings(t)
	m, left := possible()
	for _, what := range left {
		t.Log("left out: " + what)
		fmt.Fprintln(os.Stderr, "chaos: LEFT OUT: "+what)
	}
	faults := choose(t, set, m)
	logs, err := os.MkdirTemp("", "postraft-chaos-")
	if err != nil {
		t.Fatal(err)
	}
	stepLog, err := os.Create(filepath.Join(logs, "steps.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer stepLog.Close()
	t.Cleanup(func() {
		if t.Failed() || set.keep {
			t.Logf("seed %d; logs: %s", set.seed, logs)
			return
		}
		os.RemoveAll(logs)
	})
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	rec := newRecord(stepLog, cancel)
	rec.step("seed %d, %v", set.seed, set.duration)
	s := newSite(ctx, t, rec, logs, m)
	l, err := prepare(ctx, s)
	if err != nil {
		t.Fatalf("no cluster forms: %v; logs: %s", err, logs)
	}
	run(ctx, l, newPlan(set.seed, faults), set.duration)
	violations, steps := rec.report()
	for _, v := range violations {
		t.Error(v)
	}
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, errViolation) {
		t.Error(cause)
	}
	if len(violations) > 0 {
		t.Logf("seed %d, the steps were:\n%s", set.seed, strings.Join(steps, "\n"))
	}
	summary := fmt.Sprintf("chaos: seed %d, %v: %d operations, %d faults, %d checks, %d histories too long to check, slowest recovery %v, %d violations",
		set.seed, rec.now().Round(time.Second), rec.operations.Load(), rec.faults.Load(), rec.checks.Load(), rec.unknown, rec.slowest.Round(time.Millisecond), len(violations))
	t.Log(summary)
	fmt.Fprintln(os.Stderr, summary)
}

// run works through the plan under load, and ends when the time has passed or a check found something.
func run(ctx context.Context, l *load, p *plan, duration time.Duration) {
	rec := l.s.record
	working, stop := context.WithCancel(ctx)
	var workers sync.WaitGroup
	workers.Go(func() { l.run(working) })
	defer workers.Wait()
	defer stop()
	l.healed(ctx, true)
	for i := 1; ctx.Err() == nil && rec.now() < duration; i++ {
		s := p.next()
		if !every(ctx, s.calm) {
			return
		}
		rec.step("step %d: %v", i, s)
		var acts sync.WaitGroup
		for k, a := range s.acts {
			rec.faults.Add(1)
			acts.Go(func() {
				if !every(ctx, s.delay[k]) {
					return
				}
				if err := a.run(ctx, l); err != nil && ctx.Err() == nil {
					rec.violate("I13", "", "", "%s failed: %v", s.names[k], err)
				}
			})
		}
		acts.Wait()
		rec.step("step %d is over", i)
		l.healed(ctx, i%wholeChecks == 0)
	}
	if ctx.Err() == nil {
		l.healed(ctx, true)
	}
}

// possible finds out what the machine allows, and says what it does not.
func possible() (m means, left []string) {
	k, err := newKeeper(true)
	if err == nil {
		err = k.do(func() error {
			tap, err := openTun(nodeIP(0))
			if err == nil {
				tap.Close()
			}
			return err
		})
		k.close()
	}
	if m.namespaces = err == nil; !m.namespaces {
		left = append(left, fmt.Sprintf("all faults of the network: %v", err))
	}
	if fuse, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0); err != nil || !m.namespaces {
		left = append(left, fmt.Sprintf("all faults of disks, and power cuts: no FUSE file systems of its own (%v)", err))
	} else {
		fuse.Close()
		m.disks = true
	}
	if m.clocks = os.Getenv("CHAOS_CLOCK") != "0" && os.Getenv("CHAOS_BINARY") == ""; !m.clocks {
		left = append(left, "faults of clocks: not wanted")
	}
	if _, err := exec.LookPath("go"); err != nil && os.Getenv("CHAOS_BINARY") == "" {
		left = append(left, "no go command to build the agent with")
	}
	return m, left
}

// choose returns the faults that are possible and wanted.
func choose(t *testing.T, set settings, m means) []fault {
	t.Helper()
	faults := append(processFaults(), memberFaults()...)
	if m.namespaces {
		faults = append(faults, networkFaults()...)
	}
	if m.disks {
		faults = append(faults, diskFaults()...)
	}
	if m.clocks {
		faults = append(faults, clockFaults()...)
	}
	if len(set.faults) == 0 {
		return slices.DeleteFunc(faults, func(f fault) bool { return f.name == onlyNamed })
	}
	var names []string
	for _, f := range faults {
		names = append(names, f.name)
	}
	for _, name := range set.faults {
		if !slices.Contains(names, name) {
			t.Fatalf("CHAOS_FAULTS: no fault %q; there are %v", name, names)
		}
	}
	return slices.DeleteFunc(faults, func(f fault) bool { return !slices.Contains(set.faults, f.name) })
}

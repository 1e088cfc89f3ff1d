package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/pflag"
)

// options say how much is measured.
type options struct {
	rounds  int           // how often each pair is measured
	time    time.Duration // of each measurement
	entries int           // of a large table
	loaded  time.Duration // how long the scenario loaded takes
}

// A scenario measures one thing.
type scenario struct {
	name    string
	long    bool // only when it is named, or with --all
	about   string
	missing func() string // why it cannot be measured here, empty where it can
	run     func(*lab, options) (*section, error)
}

func never() string { return "" }

var scenarios = []scenario{
	{"lookups", false, "lookups beside the stock proxymap and an echo", missingPostfix, lookups},
	{"sizes", false, "lookups in tables of 100,000 and a million entries", never, func(l *lab, o options) (*section, error) {
		return sizes(l, o, smallTable, o.entries)
	}},
	{"updates", false, "replicated updates beside etcd", missingEtcd, updates},
	{"import", false, "import of a million lines into three nodes beside postmap", missingPostmap, imports},
	{"memory", false, "memory of an agent with a million entries", never, func(l *lab, o options) (*section, error) {
		return memory(l, o.entries, 2.2)
	}},
	{"restart", false, "restart with a million entries", never, func(l *lab, o options) (*section, error) {
		return restart(l, o, o.entries, 2*time.Second)
	}},
	{"failover", false, "the leader is killed, four times each round", never, failover},
	{"disturbed", false, "lookups while a table of a million entries is replaced", never, whileReplaced},
	{"followers", false, "what 3 to 50 nonvoters cost the leader", never, followers},
	{"snapshots", true, "lookups during a snapshot of raft; a minute for each of two in each round", never, whileSnapshot},
	{"loaded", true, "elections while all processors are busy, for --loaded", never, loaded},
	{"sizes10m", true, "lookups in tables of 100,000 and ten million entries", never, func(l *lab, o options) (*section, error) {
		return sizes(l, o, smallTable, 10*o.entries)
	}},
	{"import10m", true, "import of ten million lines beside one million", never, importsTenfold},
	{"memory10m", true, "memory of an agent with ten million entries", never, func(l *lab, o options) (*section, error) {
		return memory(l, 10*o.entries, 1.6)
	}},
	{"restart10m", true, "restart with ten million entries", never, func(l *lab, o options) (*section, error) {
		return restart(l, o, 10*o.entries, 15*time.Second)
	}},
}

// helpers are what this program runs as processes of their own, called with the arguments behind their name.
var helpers = map[string]func(ctx context.Context, args []string) error{
	"echo":      echoProcess,
	"spin":      spinProcess,
	"nonvoters": nonvotersProcess,
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) > 0 && helpers[args[0]] != nil {
		return helpers[args[0]](ctx, args[1:])
	}
	flags := pflag.NewFlagSet("bench", pflag.ContinueOnError)
	out := flags.String("out", "bin/bench", "directory for the report")
	bin := flags.String("bin", "bin", "directory of postraft and postraft-proxymap")
	only := flags.StringSlice("only", nil, "the scenarios to run; see --list")
	all := flags.Bool("all", false, "run the long scenarios too")
	show := flags.Bool("list", false, "list the scenarios and measure nothing")
	var o options
	flags.IntVar(&o.rounds, "rounds", 5, "how often each is measured")
	flags.DurationVar(&o.time, "time", 1500*time.Millisecond, "how long each measurement takes")
	flags.IntVar(&o.entries, "entries", 1_000_000, "entries of a large table; a tenfold one has ten times as many")
	flags.DurationVar(&o.loaded, "loaded", 10*time.Minute, "how long the scenario loaded takes")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, pflag.ErrHelp) {
			return nil
		}
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("what is %q? scenarios are named with --only", flags.Arg(0))
	}
	if o.rounds < 1 || o.time <= 0 || o.entries < 1 || o.loaded <= 0 {
		return errors.New("--rounds, --time, --entries and --loaded must be above 0")
	}
	if *show {
		return list(os.Stdout)
	}
	chosen, err := choose(*only, *all)
	if err != nil {
		return err
	}
	r := &report{Began: time.Now(), Machine: machine(os.TempDir())}
	say := func(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
	return measureAll(ctx, r, chosen, *bin, *out, o, say)
}

// list prints the scenarios.
func list(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, s := range scenarios {
		when, about := "", s.about
		if s.long {
			when = "long"
		}
		if why := s.missing(); why != "" {
			about += " (LEFT OUT here: " + why + ")"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\n", s.name, when, about)
	}
	return t.Flush()
}

// choose returns the scenarios to run.
func choose(only []string, all bool) (chosen []scenario, err error) {
	for _, name := range only {
		if !slices.ContainsFunc(scenarios, func(s scenario) bool { return s.name == name }) {
			return nil, fmt.Errorf("there is no scenario %s; --list shows them", name)
		}
	}
	for _, s := range scenarios {
		if slices.Contains(only, s.name) || len(only) == 0 && (all || !s.long) {
			chosen = append(chosen, s)
		}
	}
	return chosen, nil
}

// measureAll runs scenarios and writes the report after each. One that fails does not keep the others from running.
func measureAll(ctx context.Context, r *report, chosen []scenario, bin, out string, o options, say func(string, ...any)) error {
	var failures []error
	for _, s := range chosen {
		if why := s.missing(); why != "" {
			say("%s LEFT OUT: %s", s.name, why)
			r.LeftOut = append(r.LeftOut, s.name+": "+why)
		} else {
			say("%s: %s", s.name, s.about)
			section, err := measure(ctx, s, bin, o, say)
			if ctx.Err() != nil {
				return fmt.Errorf("%s: interrupted", s.name)
			}
			if err != nil {
				say("%s FAILED: %v", s.name, err)
				failures = append(failures, fmt.Errorf("%s: %w", s.name, err))
				first, _, _ := strings.Cut(err.Error(), "\n")
				r.Failed = append(r.Failed, s.name+": "+first)
			} else {
				r.Sections = append(r.Sections, *section)
			}
		}
		r.Took = time.Since(r.Began).Round(time.Second).String()
		if err := r.write(out); err != nil {
			return err
		}
	}
	say("the report is %s/bench.md", out)
	return errors.Join(failures...)
}

// measure runs one scenario. What the machine did beside it goes into the report.
func measure(ctx context.Context, s scenario, bin string, o options, say func(string, ...any)) (*section, error) {
	l, err := newLab(ctx, bin, say)
	if err != nil {
		return nil, err
	}
	defer l.close()
	quiet := loadAverage()
	stolen := watchSteal()
	began := time.Now()
	section, err := s.run(l, o)
	if err != nil {
		return nil, err
	}
	section.Name = s.name
	section.say("Took %v. Load of the machine before: %s; processor time taken by other virtual machines meanwhile: %s.",
		time.Since(began).Round(time.Second), quiet, stolen())
	return section, nil
}

func dial(path string) (net.Conn, error) { return net.Dial("unix", path) }

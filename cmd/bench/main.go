package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/pflag"
)

// options say how much is measured.
type options struct {
	rounds int           // how often each pair is measured
	time   time.Duration // of each measurement
}

// A scenario measures one thing.
type scenario struct {
	name    string
	long    bool // only when it is named
	missing func() string
	run     func(*lab, options) (*section, error)
}

func never() string { return "" }

var scenarios = []scenario{
	{"lookups", false, missingPostfix, lookups},
	{"sizes", false, never, sizes},
	{"updates", false, missingEtcd, updates},
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
	if len(args) == 3 && args[0] == "echo" { // the peer, in a process of its own
		reply, err := strconv.Atoi(args[2])
		if err != nil {
			return err
		}
		return echo(ctx, args[1], reply)
	}
	var names []string
	for _, s := range scenarios {
		names = append(names, s.name)
	}
	flags := pflag.NewFlagSet("bench", pflag.ContinueOnError)
	out := flags.String("out", "bin/bench", "directory for the report")
	bin := flags.String("bin", "bin", "directory of postraft and postraft-proxymap")
	only := flags.StringSlice("only", nil, "scenarios to run, of "+strings.Join(names, ", "))
	rounds := flags.Int("rounds", 5, "how often each is measured")
	period := flags.Duration("time", 2*time.Second, "how long each measurement takes")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, pflag.ErrHelp) {
			return nil
		}
		return err
	}
	for _, name := range *only {
		if !slices.Contains(names, name) {
			return fmt.Errorf("there is no scenario %s, only %s", name, strings.Join(names, ", "))
		}
	}
	r := &report{Began: time.Now(), Machine: machine(os.TempDir())}
	say := func(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
	for _, s := range scenarios {
		if len(*only) > 0 && !slices.Contains(*only, s.name) || len(*only) == 0 && s.long {
			continue
		}
		if why := s.missing(); why != "" {
			say("%s LEFT OUT: %s", s.name, why)
			r.LeftOut = append(r.LeftOut, s.name+": "+why)
			continue
		}
		say("%s", s.name)
		section, err := measure(ctx, s, *bin, options{*rounds, *period}, say)
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		r.Sections = append(r.Sections, *section)
		r.Took = time.Since(r.Began).Round(time.Second).String()
		if err := r.write(*out); err != nil {
			return err
		}
	}
	say("the report is %s/bench.md", *out)
	return nil
}

func measure(ctx context.Context, s scenario, bin string, o options, say func(string, ...any)) (*section, error) {
	l, err := newLab(ctx, bin, say)
	if err != nil {
		return nil, err
	}
	defer l.close()
	section, err := s.run(l, o)
	if err != nil {
		return nil, err
	}
	section.Name = s.name
	return section, nil
}

func dial(path string) (net.Conn, error) { return net.Dial("unix", path) }

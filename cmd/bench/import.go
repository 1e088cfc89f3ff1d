package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// importFresh drops the table, which must be there, imports a source at the first agent, and waits until all show it.
func importFresh(agents []*agent, source string) (job, error) {
	if _, err := agents[0].postraft("table", "drop", "virtual"); err != nil {
		return job{}, err
	}
	if err := same(agents); err != nil {
		return job{}, err
	}
	unix.Sync() // nobody shall wait for what others have left to write
	servers := all(agents)
	before, err := servers.cpu()
	if err != nil {
		return job{}, err
	}
	begin := time.Now()
	command, err := agents[0].timed("table", "import", "virtual", source)
	if err != nil {
		return job{}, err
	}
	if err := same(agents); err != nil {
		return job{}, err
	}
	took := time.Since(begin)
	after, err := servers.cpu()
	return job{took, command.CPU + after - before}, err
}

func took(j job) float64      { return float64(j.Took) }
func jobCPU(j job) float64    { return float64(j.CPU) }
func seconds(n spread) spread { return spread{n.Median / 1e9, n.Low / 1e9, n.High / 1e9} }

// imports compares the import of a table into three agents with postmap, which makes a database of the same file.
func imports(l *lab, o options) (*section, error) {
	agents, err := l.cluster("a", 3)
	if err != nil {
		return nil, err
	}
	if _, err := agents[0].postraft("table", "create", "virtual"); err != nil {
		return nil, err
	}
	config, err := l.mapConfig()
	if err != nil {
		return nil, err
	}
	source := l.path("virtual")
	if err := writeSource(source, o.entries, valueFormat); err != nil {
		return nil, err
	}
	names := []string{"table import", "postmap lmdb:"}
	lists, err := takeTurns(o.rounds, 2, func(i int) (j job, err error) {
		if i == 0 {
			j, err = importFresh(agents, source)
		} else {
			if err := os.Remove(source + ".lmdb"); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return job{}, err
			}
			unix.Sync()
			j, err = l.timed("postmap", "-c", config, "lmdb:"+source)
		}
		if err == nil {
			l.say("  %-24s %v", names[i], j.Took)
		}
		return j, err
	})
	if err != nil {
		return nil, err
	}
	s := &section{
		Title: "Import of a table",
		Head:  []string{"lines", "by", "time", "lines/s", "CPU", "time to postmap's"},
	}
	s.say("%s lines of a source in random order. *table import* into three agents on this machine, from the command's start until all three show the table, anew each time; CPU of the command and all three. *postmap* makes a new lmdb database of the same file, with an lmdb_map_size that is large enough from the start.", thousands(float64(o.entries)))
	bars := plot{Title: "Seconds for " + thousands(float64(o.entries)) + " lines", Unit: "s", Groups: []string{""}}
	for i, name := range names {
		s.keep(name, lists[i])
		s.row(thousands(float64(o.entries)), name, of(lists[i], took).duration(),
			of(lists[i], func(j job) float64 { return float64(o.entries) / j.Took.Seconds() }).count(), of(lists[i], jobCPU).duration(),
			ratio(lists[i], lists[1], took).factor())
		bars.Series = append(bars.Series, series{name, []spread{seconds(of(lists[i], took))}})
	}
	s.atMost(fmt.Sprintf("time to postmap's, %s lines", thousands(float64(o.entries))), ratio(lists[0], lists[1], took).Median, 1)
	s.Plots = []picture{bars}
	return s, nil
}

// importsTenfold compares the import of a tenfold table with that of a large one.
func importsTenfold(l *lab, o options) (*section, error) {
	agents, err := l.cluster("a", 3)
	if err != nil {
		return nil, err
	}
	if _, err := agents[0].postraft("table", "create", "virtual"); err != nil {
		return nil, err
	}
	counts := []int{o.entries, 10 * o.entries}
	for _, n := range counts {
		if err := writeSource(l.path(fmt.Sprint(n)), n, valueFormat); err != nil {
			return nil, err
		}
	}
	lists, err := takeTurns(o.rounds, 2, func(i int) (job, error) {
		j, err := importFresh(agents, l.path(fmt.Sprint(counts[i])))
		if err == nil {
			l.say("  %s lines: %v", thousands(float64(counts[i])), j.Took)
		}
		return j, err
	})
	if err != nil {
		return nil, err
	}
	s := &section{
		Title: "Import of a table ten times as large",
		Head:  []string{"lines", "time", "lines/s", "CPU", "times as long"},
	}
	s.say("Lines of a source in random order into three agents on this machine, until all three show the table.")
	for i, n := range counts {
		s.keep(fmt.Sprint(n), lists[i])
		s.row(thousands(float64(n)), of(lists[i], took).duration(), of(lists[i], func(j job) float64 { return float64(n) / j.Took.Seconds() }).count(),
			of(lists[i], jobCPU).duration(), ratio(lists[i], lists[0], took).factor())
	}
	s.atMost(fmt.Sprintf("time for %s lines to that for %s", thousands(float64(counts[1])), thousands(float64(counts[0]))), ratio(lists[1], lists[0], took).Median, 12)
	return s, nil
}

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A section is what one scenario has to report.
type section struct {
	Name   string         `json:"name"`
	Title  string         `json:"title"`
	Text   []string       `json:"text"` // paragraphs: what was measured, and how
	Head   []string       `json:"head"` // of the table
	Rows   [][]string     `json:"rows"`
	Checks []check        `json:"checks"`
	Plots  []picture      `json:"-"`
	Raw    map[string]any `json:"measured,omitempty"`
}

// A check is an aim and what was reached.
type check struct {
	What string  `json:"what"`
	Got  float64 `json:"got"`
	Aim  float64 `json:"aim"`
	Most bool    `json:"most"` // the aim is an upper bound
}

func (c check) reached() bool {
	if c.Most {
		return c.Got <= c.Aim
	}
	return c.Got >= c.Aim
}

func (s *section) row(cells ...string) { s.Rows = append(s.Rows, cells) }
func (s *section) say(format string, args ...any) {
	s.Text = append(s.Text, fmt.Sprintf(format, args...))
}
func (s *section) atLeast(what string, got, aim float64) {
	s.Checks = append(s.Checks, check{what, got, aim, false})
}
func (s *section) atMost(what string, got, aim float64) {
	s.Checks = append(s.Checks, check{what, got, aim, true})
}

// keep puts what was measured into bench.json as it is.
func (s *section) keep(what string, measured any) {
	if s.Raw == nil {
		s.Raw = map[string]any{}
	}
	s.Raw[what] = measured
}

// A picture is a plot of bars, or curves.
type picture interface {
	heading() string
	svg() string
}

// A report is the whole.
type report struct {
	Began    time.Time `json:"began"`
	Took     string    `json:"took"`
	Machine  []string  `json:"machine"`
	Sections []section `json:"sections"`
	LeftOut  []string  `json:"left_out"`
	Failed   []string  `json:"failed"`
}

// write puts bench.md, bench.json and the plots into a directory.
func (r *report) write(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	var text strings.Builder
	fmt.Fprintf(&text, "# postraft measured\n\n%s, in %s.\n\n", r.Began.Format("2006-01-02 15:04 MST"), r.Took)
	for _, line := range r.Machine {
		fmt.Fprintf(&text, "- %s\n", line)
	}
	for _, line := range r.LeftOut {
		fmt.Fprintf(&text, "- LEFT OUT: %s\n", line)
	}
	for _, line := range r.Failed {
		fmt.Fprintf(&text, "- FAILED: %s\n", line)
	}
	text.WriteString("\nFigures are medians; in brackets the lowest and the highest of all rounds. Ratios are medians of the ratios of each round.\n")
	for _, s := range r.Sections {
		fmt.Fprintf(&text, "\n## %s\n", s.Title)
		for _, p := range s.Text {
			fmt.Fprintf(&text, "\n%s\n", p)
		}
		if len(s.Rows) > 0 {
			fmt.Fprintf(&text, "\n| %s |\n|%s\n", strings.Join(s.Head, " | "), strings.Repeat("---|", len(s.Head)))
			for _, row := range s.Rows {
				fmt.Fprintf(&text, "| %s |\n", strings.Join(row, " | "))
			}
		}
		for i, p := range s.Plots {
			name := fmt.Sprintf("%s-%d.svg", s.Name, i+1)
			if err := os.WriteFile(filepath.Join(dir, name), []byte(p.svg()), 0o644); err != nil {
				return err
			}
			fmt.Fprintf(&text, "\n![%s](%s)\n", p.heading(), name)
		}
	}
	r.writeChecks(&text)
	data, err := json.MarshalIndent(r, "", "\t")
	return errors.Join(err,
		os.WriteFile(filepath.Join(dir, "bench.md"), []byte(text.String()), 0o644),
		os.WriteFile(filepath.Join(dir, "bench.json"), append(data, '\n'), 0o644))
}

// writeChecks ends the report with all that was aimed at.
func (r *report) writeChecks(text *strings.Builder) {
	fmt.Fprint(text, "\n## Aims\n\n| scenario | aim | wanted | measured | |\n|---|---|---|---|---|\n")
	met, all := 0, 0
	for _, s := range r.Sections {
		for _, c := range s.Checks {
			want, verdict := "at least ", "**not met**"
			if c.Most {
				want = "at most "
			}
			if all++; c.reached() {
				met++
				verdict = "met"
			}
			fmt.Fprintf(text, "| %s | %s | %s%.3g | %.3g | %s |\n", s.Name, c.What, want, c.Aim, c.Got, verdict)
		}
	}
	fmt.Fprintf(text, "\n%d of %d are met.\n", met, all)
}

// machine describes what all this ran on.
func machine(dir string) []string {
	lines := []string{fmt.Sprintf("%d processors: %s", runtime.NumCPU(), field("/proc/cpuinfo", "model name"))}
	var uts unix.Utsname
	if unix.Uname(&uts) == nil {
		lines = append(lines, "Linux "+unix.ByteSliceToString(uts.Release[:])+", "+runtime.Version())
	}
	lines = append(lines, "memory: "+field("/proc/meminfo", "MemTotal"))
	var files unix.Statfs_t
	if unix.Statfs(dir, &files) == nil && files.Type == unix.TMPFS_MAGIC {
		lines = append(lines, dir+" is kept in memory, where fsync costs nothing: set TMPDIR to a directory on a disk for figures of writes that mean something")
	}
	if d, err := syncTime(dir); err == nil {
		lines = append(lines, fmt.Sprintf("fsync of 4 KiB appended to a file: %s (median of 200), where the agents and etcd have their disks", short(float64(d))))
	}
	return lines
}

// loadAverage returns how many processes ran or waited to, on average over the last minute.
func loadAverage() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	return strings.Fields(string(text))[0]
}

// watchSteal returns a function that says which part of all processor time since then the hypervisor gave to others.
func watchSteal() func() string {
	read := func() (stolen, all float64, ok bool) {
		for i, text := range strings.Fields(field("/proc/stat", "cpu")) {
			n, err := strconv.ParseFloat(text, 64)
			if err != nil || i > 7 { // guest time is part of user time
				break
			}
			if all += n; i == 7 {
				stolen, ok = n, true
			}
		}
		return stolen, all, ok
	}
	stolen, all, ok := read()
	return func() string {
		stolenNow, allNow, okNow := read()
		if !ok || !okNow || allNow <= all {
			return "unknown"
		}
		return fmt.Sprintf("%.1f %%", (stolenNow-stolen)/(allNow-all)*100)
	}
}

// field returns the first line of a file that begins with a name, without it.
func field(path, name string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return "unknown"
	}
	_, rest, _ := strings.Cut(string(data), name)
	line, _, _ := strings.Cut(rest, "\n")
	return strings.Join(strings.Fields(strings.TrimLeft(line, " \t:")), " ")
}

// syncTime measures the disk.
func syncTime(dir string) (time.Duration, error) {
	file, err := os.CreateTemp(dir, "sync")
	if err != nil {
		return 0, err
	}
	defer os.Remove(file.Name())
	defer file.Close()
	var h histogram
	for range 200 {
		if _, err := file.Write(make([]byte, 4096)); err != nil {
			return 0, err
		}
		begin := time.Now()
		if err := file.Sync(); err != nil {
			return 0, err
		}
		h.add(time.Since(begin))
	}
	return h.quantile(.5), nil
}

// short prints nanoseconds with three digits.
func short(ns float64) string {
	switch {
	case ns < 1e3:
		return fmt.Sprintf("%.0f ns", ns)
	case ns < 1e6:
		return fmt.Sprintf("%.3g µs", ns/1e3)
	case ns < 1e9:
		return fmt.Sprintf("%.3g ms", ns/1e6)
	default:
		return fmt.Sprintf("%.3g s", ns/1e9)
	}
}

func (s spread) duration() string {
	return fmt.Sprintf("%s (%s–%s)", short(s.Median), short(s.Low), short(s.High))
}

func (s spread) count() string {
	return fmt.Sprintf("%s (%s–%s)", thousands(s.Median), thousands(s.Low), thousands(s.High))
}

func (s spread) factor() string { return fmt.Sprintf("%.2f (%.2f–%.2f)", s.Median, s.Low, s.High) }

// thousands prints a whole number in groups of three.
func thousands(f float64) string {
	text := fmt.Sprintf("%.0f", math.Abs(f))
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

func megabytes(n float64) string { return fmt.Sprintf("%.1f MB", n/1e6) }

package main

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"postraft/dict"
	"postraft/proxy"
)

// TestHistogram_Quantile ensures that quantiles are right to a bucket, from nanoseconds to minutes.
func TestHistogram_Quantile(t *testing.T) {
	for _, unit := range []time.Duration{1, time.Microsecond, 17 * time.Millisecond} {
		var a, b histogram
		for i := range 10_000 {
			h := &a
			if i%3 == 0 {
				h = &b
			}
			h.add(time.Duration(i) * unit)
		}
		a.merge(&b)
		for _, q := range []float64{0, .5, .99, .999} {
			want := time.Duration(q*10_000) * unit
			if got := a.quantile(q); got > want || float64(got) < float64(want)*(1-1./(1<<subBits)) {
				t.Errorf("unit %v: quantile %v is %v, want %v or a bucket less", unit, q, got, want)
			}
		}
		if want := 9999 * unit; a.max != want || a.quantile(1) != want {
			t.Errorf("unit %v: the highest is %v, quantile 1 is %v, want %v", unit, a.max, a.quantile(1), want)
		}
	}
	if got := new(histogram).quantile(.5); got != 0 {
		t.Errorf("an empty histogram has a median, %v", got)
	}
}

// TestSource_Whole ensures that a source holds each entry once, whatever its size, and not in order.
func TestSource_Whole(t *testing.T) {
	for _, n := range []int{1, 2, 1000, 50_000} {
		var b bytes.Buffer
		if err := source(&b, n, valueFormat); err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
		if n > 100 && slices.IsSorted(lines) {
			t.Errorf("%d lines are in order", n)
		}
		slices.Sort(lines)
		if lines = slices.Compact(lines); len(lines) != n {
			t.Errorf("%d different lines, want %d", len(lines), n)
		}
		if want := "user00000000@example.com mailbox00000000@host.example.net"; lines[0] != want {
			t.Errorf("the first line is %q, want %q", lines[0], want)
		}
	}
}

// TestSpreadOf ensures that medians and ratios are those of pairs.
func TestSpreadOf(t *testing.T) {
	if got, want := spreadOf([]float64{3, 1, 2}), (spread{2, 1, 3}); got != want {
		t.Errorf("got %v, want %v", got, want)
	}
	if got, want := spreadOf([]float64{4, 1, 2, 3}), (spread{2.5, 1, 4}); got != want {
		t.Errorf("got %v, want %v", got, want)
	}
	// The machine became twice as slow after the first round: the pairs do not show it.
	same := func(f float64) float64 { return f }
	if got, want := ratio([]float64{30, 15, 15}, []float64{10, 5, 5}, same), (spread{3, 3, 3}); got != want {
		t.Errorf("got %v, want %v", got, want)
	}
	if start, slope := straight([]point{{1, spread{Median: 5}}, {2, spread{Median: 7}}, {4, spread{Median: 11}}}); start != 3 || slope != 2 {
		t.Errorf("the line starts at %v and rises by %v, want 3 and 2", start, slope)
	}
}

// TestTakeTurns_Rotates ensures that each round begins with another, and that results stay with what they are of.
func TestTakeTurns_Rotates(t *testing.T) {
	var order []int
	lists, err := takeTurns(3, 3, func(i int) (string, error) {
		order = append(order, i)
		return fmt.Sprint("of ", i), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if want := []int{0, 1, 2, 1, 2, 0, 2, 0, 1}; !slices.Equal(order, want) {
		t.Errorf("turns %v, want %v", order, want)
	}
	if got, want := fmt.Sprint(lists), "[[of 0 of 0 of 0] [of 1 of 1 of 1] [of 2 of 2 of 2]]"; got != want {
		t.Errorf("results %s, want %s", got, want)
	}
}

// TestReport_Write ensures that the report says what was measured, left out, failed and aimed at, with plots that a
// browser can read.
func TestReport_Write(t *testing.T) {
	s := section{Name: "one", Title: "First <thing>", Head: []string{"server", "rate"}}
	s.say("How %s was measured.", "it")
	s.row("postraft", spread{12345, 9000, 20000}.count())
	s.atLeast("rate", 2, 1.5)
	s.atMost("p99", 2, 1.5)
	s.keep("raw", []sample{{Rate: 1}})
	s.Plots = []picture{
		plot{Title: "Bars & more", Unit: "1/s", Groups: []string{"a", "b"}, Series: []series{{"<x>", []spread{{2, 1, 3}}}}},
		plot{},
		curves{Title: "Lines & more", Along: "s", Lines: []line{{"y", []point{{0, spread{1, 0, 2}}, {5, spread{3, 2, 4}}}, true}, {Name: "empty"}}, Marks: []mark{{2, "a<b"}}},
		curves{},
	}
	r := report{Began: time.Now(), Took: "1s", Machine: []string{"a machine"}, Sections: []section{s}, LeftOut: []string{"two: etcd is not installed"}, Failed: []string{"three: it broke"}}
	dir := filepath.Join(t.TempDir(), "deep", "report")
	if err := r.write(dir); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "bench.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"- a machine\n", "- LEFT OUT: two: etcd is not installed\n", "- FAILED: three: it broke\n", "## First <thing>\n\nHow it was measured.\n",
		"| server | rate |\n|---|---|\n| postraft | 12,345 (9,000–20,000) |\n", "![Bars & more](one-1.svg)", "![Lines & more](one-3.svg)",
		"| one | rate | at least 1.5 | 2 | met |\n| one | p99 | at most 1.5 | 2 | **not met** |\n\n1 of 2 are met.\n",
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("bench.md does not hold %q:\n%s", want, text)
		}
	}
	data, err := os.ReadFile(filepath.Join(dir, "bench.json"))
	if err != nil || !strings.Contains(string(data), `"rate": 1`) {
		t.Errorf("bench.json holds no measurements: %v\n%s", err, data)
	}
	for i := range s.Plots {
		name := fmt.Sprintf("one-%d.svg", i+1)
		file, err := os.Open(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		d := xml.NewDecoder(file)
		for {
			token, err := d.Token()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			element, _ := token.(xml.StartElement)
			for _, a := range element.Attr {
				if strings.Contains(a.Value, "NaN") || strings.Contains(a.Value, "Inf") {
					t.Errorf("%s: %s %s is %s", name, element.Name.Local, a.Name.Local, a.Value)
				}
			}
		}
	}
}

// TestChoose ensures that long scenarios run only when they are asked for.
func TestChoose(t *testing.T) {
	names := func(chosen []scenario) (names []string) {
		for _, s := range chosen {
			names = append(names, s.name)
		}
		return names
	}
	chosen, err := choose(nil, false)
	if err != nil || !slices.Contains(names(chosen), "lookups") || slices.Contains(names(chosen), "loaded") {
		t.Errorf("by default %v, %v", names(chosen), err)
	}
	if chosen, err = choose([]string{"loaded", "lookups"}, false); err != nil || !slices.Equal(names(chosen), []string{"lookups", "loaded"}) {
		t.Errorf("by name %v, %v", names(chosen), err)
	}
	if chosen, err = choose(nil, true); err != nil || len(chosen) != len(scenarios) {
		t.Errorf("with all %v, %v", names(chosen), err)
	}
	if _, err = choose([]string{"lookup"}, false); err == nil || !strings.Contains(err.Error(), "--list") {
		t.Errorf("an unknown name: %v", err)
	}
}

// computed is a table that holds all entries of a source without keeping any.
type computed struct{ format string }

func (c computed) Table(string) proxy.Table { return c }

func (c computed) Lookup(key []byte) ([]byte, bool, error) {
	var n int
	if _, err := fmt.Sscanf(string(key), keyFormat, &n); err != nil {
		return nil, false, err
	}
	return fmt.Appendf(nil, c.format, n), true, nil
}

var errReadOnly = errors.New("this table only looks up")

func (computed) Kind() dict.Flags { return dict.Fixed }
func (computed) Next([]byte) (key, value []byte, found bool, err error) {
	return nil, nil, false, errReadOnly
}
func (computed) Update(context.Context, []byte, []byte) error           { return dict.ErrRetry }
func (computed) Delete(context.Context, []byte) (bool, error)           { return false, errReadOnly }
func (computed) DeleteIf(context.Context, []byte, []byte) (bool, error) { return false, errReadOnly }
func (computed) Create(context.Context) error                           { return nil }

// serveComputed serves tables of values of that format on a proxymap and a proxywrite socket.
func serveComputed(t *testing.T, l *lab, format string) (read, write string) {
	t.Helper()
	server := proxy.New(proxy.Config{Tables: computed{format}})
	ctx, cancel := context.WithCancel(t.Context())
	var tasks sync.WaitGroup
	t.Cleanup(func() {
		cancel()
		tasks.Wait()
		server.Close()
	})
	read, write = l.path("read"+format[len(format)-3:]), l.path("write"+format[len(format)-3:])
	for path, svc := range map[string]*proxy.Service{read: {Name: "proxymap", Announce: true}, write: {Name: "proxywrite", Announce: true, Write: true}} {
		svc.Approve(proxy.ApproveAllRaft())
		ln, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		tasks.Go(func() {
			if err := server.Serve(ctx, ln, svc); err != nil {
				t.Error(err)
			}
		})
	}
	return read, write
}

func testLab(t *testing.T) *lab {
	t.Helper()
	l, err := newLab(t.Context(), "", t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.close)
	return l
}

// TestLookups_Small ensures that lookups beside an echo are counted, and that a wrong reply ends the measurement.
func TestLookups_Small(t *testing.T) {
	l := testLab(t)
	read, _ := serveComputed(t, l, valueFormat)
	socket := l.path("echo")
	ctx, cancel := context.WithCancel(t.Context())
	var tasks sync.WaitGroup
	defer tasks.Wait()
	defer cancel()
	tasks.Go(func() {
		if err := echo(ctx, socket, len(found(valueFormat))); err != nil {
			t.Error(err)
		}
	})
	if err := l.until(waitStart, "echo", func() error {
		_, err := os.Stat(socket)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	self := processes(func() ([]int, error) { return []int{os.Getpid()}, nil })
	samples, err := inTurn(l, options{rounds: 2, time: 50 * time.Millisecond}, []contestant{
		{"table", lookupsAt(read, table, smallTable, 3, self)},
		{"echo", echoes(socket, smallTable, 3, self)},
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, list := range samples {
		for _, s := range list {
			if s.Rate <= 0 || s.P50 <= 0 || s.P50 > s.P99 || s.P99 > s.P999 || s.P999 > s.Max || s.Memory <= 0 {
				t.Errorf("%s: %+v", name, s)
			}
		}
	}
	wrong, _ := serveComputed(t, l, otherFormat)
	if _, err := lookupsAt(wrong, table, smallTable, 1, self)(t.Context(), time.Second); err == nil || !strings.Contains(err.Error(), "the reply is") {
		t.Errorf("a wrong reply: %v", err)
	}
	if err := lookupOnce(read, 7); err != nil {
		t.Errorf("one lookup: %v", err)
	}
	if err := lookupOnce(wrong, 7); err == nil {
		t.Error("one lookup with a wrong reply succeeds")
	}
}

// TestUpdate_Refused ensures that an update answered RETRY is told from one that is done, and that a client that
// bears it goes on.
func TestUpdate_Refused(t *testing.T) {
	_, write := serveComputed(t, testLab(t), valueFormat)
	conn, err := dialProxymap(write)
	if err != nil {
		t.Fatal(err)
	}
	c := newUpdate(conn, table, 10, 0)
	defer c.close()
	if err := c.call(random(0)); !errors.Is(err, errRetry) {
		t.Errorf("the update ends with %v, want %v", err, errRetry)
	}
	refused := 0
	if err := (tolerant{c, &refused}).call(random(0)); err != nil || refused != 1 {
		t.Errorf("the update ends with %v, %d refused, want 1", err, refused)
	}
}

// slowOnce is a caller whose first call takes some time.
type slowOnce struct {
	by   time.Duration
	made int
	each func(made int)
}

func (s *slowOnce) call(*rand.Rand) error {
	if s.made++; s.made == 1 {
		time.Sleep(s.by) // what is measured here is this time
	}
	s.each(s.made)
	return nil
}

func (s *slowOnce) close() {}

// TestPhases_LateCounts ensures that requests which a slow one has held up count with the time that they waited, and
// that each request counts in the phase that it has seen.
func TestPhases_LateCounts(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	p := new(phases)
	c := &slowOnce{by: 100 * time.Millisecond, each: func(made int) {
		switch made {
		case 5:
			p.set(disturbed) // while the fifth is under way
		case 7:
			p.set(between)
		case 9:
			cancel()
		}
	}}
	if err := p.run(ctx, []caller{c}, 10*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if got := [...]uint64{p.of(quiet).total, p.of(between).total, p.of(disturbed).total}; got != [...]uint64{4, 2, 3} {
		t.Errorf("counted in phases: %v, want [4 2 3]", got)
	}
	// The fourth should have begun after 30 ms, and could not before 100.
	if got := p.of(quiet).quantile(0); got < 60*time.Millisecond {
		t.Errorf("the fastest of the first four took %v: the wait behind the first does not count", got)
	}
}

// TestTraffic_Since ensures that what a process sends on TCP is counted: by socket, of others nothing.
func TestTraffic_Since(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	conn, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	before, err := sentBy(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write(make([]byte, 12345)); err != nil {
		t.Fatal(err)
	}
	after, err := sentBy(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if got := after.since(before); got != 12345 {
		t.Errorf("%d bytes were sent, want 12345", got)
	}
}

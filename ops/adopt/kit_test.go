package adopt

import (
	"context"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postraft/dict"
	"postraft/dict/pattern"
	"postraft/ops"
)

// site makes settings of lines "name = value", those of master.cf as "name/type/parameter = value". A line that begins
// with "default " is not set in main.cf; one that begins with "service " is a line of master.cf.
func site(t *testing.T, lines ...string) *Settings {
	t.Helper()
	var all, set, master, services strings.Builder
	for _, line := range append([]string{
		"default proxymap_service_name = proxymap", "default proxywrite_service_name = proxywrite", "default virtual_transport = virtual",
		"default proxy_read_maps = $virtual_alias_maps", "default proxy_write_maps = $address_verify_map", "config_directory = /etc/postfix",
		"service virtual unix - n n - - virtual", "service proxymap unix - - n - - proxymap", "service proxywrite unix - - n - 1 proxymap",
	}, lines...) {
		name, _, _ := strings.Cut(line, " ")
		switch {
		case name == "default":
			fmt.Fprintln(&all, line[len("default "):])
		case name == "service":
			fmt.Fprintln(&services, line[len("service "):])
		case strings.Contains(name, "/"):
			fmt.Fprintln(&master, line)
		default:
			fmt.Fprintln(&all, line)
			fmt.Fprintln(&set, line)
		}
	}
	raw := parse(all.String(), "", set.String(), master.String(), "", services.String())
	expanded := func(text string) string {
		var b strings.Builder
		for name, value := range assignments(text) {
			if v, ok := expand(value, raw.value); ok {
				value = v
			}
			fmt.Fprintf(&b, "%s = %s\n", name, value)
		}
		return b.String()
	}
	return parse(all.String(), expanded(all.String()), set.String(), master.String(), expanded(master.String()), services.String())
}

// plan is NewPlan, which has to work.
func plan(t *testing.T, o Options, lines ...string) *Plan {
	t.Helper()
	p, err := NewPlan(site(t, lines...), o)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// approveAll approves every table.
func approveAll(context.Context, []string) (read, write func(string) bool, err error) {
	yes := func(string) bool { return true }
	return yes, yes, nil
}

// A fakeAgent keeps tables in memory.
type fakeAgent struct {
	tables map[string]*fakeTable
	spoil  func(table, key string, v ops.Value) ops.Value // changes answers
}

type fakeTable struct {
	typ     string
	entries map[string]string
	text    []byte
}

func (a *fakeAgent) Tables(context.Context) (all []ops.TableInfo, err error) {
	for name, t := range a.tables {
		all = append(all, ops.TableInfo{Name: name, Type: t.typ, Entries: len(t.entries)})
	}
	return all, nil
}

func (a *fakeAgent) CreateTable(_ context.Context, name, typ string, _ dict.Settings) error {
	a.tables[name] = &fakeTable{typ: typ}
	return nil
}

func (a *fakeAgent) Import(_ context.Context, name string, opts ops.ImportOptions, entries iter.Seq2[[]byte, []byte]) (r ops.ImportResult, err error) {
	next := &fakeTable{typ: opts.Type, entries: map[string]string{}}
	old := a.tables[name]
	if old == nil {
		old = next
	}
	for k, v := range entries {
		next.entries[string(k)] = string(v)
		next.text = append(append(next.text, v...), '\n')
	}
	for k, v := range next.entries {
		switch was, ok := old.entries[k]; {
		case !ok || old == next:
			r.Added++
		case was != v:
			r.Changed++
		default:
			r.Unchanged++
		}
	}
	r.Removed = len(old.entries) - r.Changed - r.Unchanged
	if old == next {
		r.Removed = 0
	}
	if !opts.DryRun {
		a.tables[name] = next
	}
	return r, nil
}

func (a *fakeAgent) Lookup(_ context.Context, name string, keys [][]byte) (values []ops.Value, err error) {
	t := a.tables[name]
	var rules *pattern.Rules
	if dict.IsPattern(t.typ) {
		if rules, _, err = pattern.CompileLenient(t.typ, t.text); err != nil {
			return nil, err
		}
	}
	for _, key := range keys {
		v := ops.Value{}
		if rules != nil {
			if v.Value, v.Found, err = rules.Lookup(key); err != nil {
				return nil, err
			}
		} else if text, ok := t.entries[string(key)]; ok {
			v = ops.Value{Found: true, Value: []byte(text)}
		}
		if a.spoil != nil {
			v = a.spoil(name, string(key), v)
		}
		values = append(values, v)
	}
	return values, nil
}

// A genuine is the Postfix of the system, with a main.cf of its own.
type genuine struct {
	t *testing.T
	Commands
}

func newGenuine(t *testing.T, lines ...string) *genuine {
	t.Helper()
	if _, err := os.Stat(ops.PostfixCommand("postconf")); err != nil {
		t.Skip("NOT RUN: there is no Postfix")
	}
	g := &genuine{t, Commands{ConfigDir: t.TempDir()}}
	g.write("main.cf", strings.Join(append([]string{"compatibility_level = 3.6", "myhostname = mx.test", "mynetworks = 127.0.0.0/8"}, lines...), "\n")+"\n")
	g.write("master.cf", "smtp inet n - n - - smtpd\nproxymap unix - - n - - proxymap\n")
	return g
}

// write makes a file, of an hour ago: Postfix waits for one that is being written to.
func (g *genuine) write(name, text string) string {
	g.t.Helper()
	path := filepath.Join(g.ConfigDir, name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		g.t.Fatal(err)
	}
	past := time.Now().Add(-time.Hour)
	if err := os.Chtimes(path, past, past); err != nil {
		g.t.Fatal(err)
	}
	return path
}

// postmap makes the database of a table.
func (g *genuine) postmap(program, table string) {
	g.t.Helper()
	if _, said, err := g.Run(g.t.Context(), program, nil, table); err != nil {
		g.t.Fatalf("%s %s: %v: %s", program, table, err, said)
	}
}

// A scripted Postfix answers as it is told.
type scripted func(command string, args []string, stdin string) (out, said string, err error)

func (s scripted) Run(_ context.Context, command string, stdin io.Reader, args ...string) ([]byte, string, error) {
	in := []byte{}
	if stdin != nil {
		in, _ = io.ReadAll(stdin)
	}
	out, said, err := s(command, args, string(in))
	return []byte(out), said, err
}

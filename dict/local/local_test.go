package local_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"postraft/dict"
	"postraft/dict/local"
)

// ask returns the answer of a table in words.
func ask(set *local.Set, table, key string) string {
	o := local.Options{UTF8: true}
	t := set.Open(table, o)
	if t == nil {
		return "not known"
	}
	value, found, err := local.Lookup(t, []byte(key), o)
	switch {
	case errors.Is(err, dict.ErrRetry):
		return "retry"
	case errors.Is(err, dict.ErrConfig):
		return "config"
	case err != nil:
		return err.Error()
	case !found:
		return "none"
	}
	return "=" + string(value)
}

// TestSet_Compound ensures that raft tables and their aliases can be used inside other tables, and that what is not
// known here is left to others unless nobody else could answer it.
func TestSet_Compound(t *testing.T) {
	set := local.New(local.Config{Raft: raftTables})
	for _, tt := range []struct{ table, key, want string }{
		{"pipemap:{raft:virtual inline:{b=x}}", "A", "=x"},
		{"pipemap:{raft:virtual raft:relay}", "a", "=OK"},
		{"pipemap:{raft:virtual, raft:relay}", "c", "none"},
		{"unionmap:{raft:virtual,static:y}", "a", "=b,y"},
		{"unionmap:{raft:nosuch,static:y}", "a", "retry"},
		{"unionmap:{static:y,raft:nosuch}", "a", "retry"},
		{"unionmap:{proxy:raft:virtual hash:/alias}", "a", "=b,b"},
		{"pipemap:{unionmap:{raft:virtual fail:x} static:y}", "a", "retry"},
		{"pipemap:{hash:/other static:x}", "a", "not known"},
		{"pipemap:{unionmap:{hash:/other raft:virtual} static:x}", "a", "retry"},
		{"pipemap:{unionmap:{hash:/other} raft:virtual}", "a", "retry"},
		{"pipemap:{}", "a", "retry"},
		{"pipemap:{x}", "a", "retry"},
		{"pipemap:static:x", "a", "retry"},
		{"inline:{a}", "a", "retry"},
		{"inline:", "a", "retry"},
		{"fail:x", "a", "retry"},
		{"hash:/etc/x", "a", "not known"},
		{"raft:virtual", "a", "not known"}, // it is no local table
		{"texthash:relative", "a", "not known"},
		{"unix:nosuch", "a", "not known"},
		{"nonsense", "a", "not known"},
		{strings.Repeat("pipemap:{", 80) + "static:x" + strings.Repeat("}", 80), "a", "retry"},
		{"static:\xff", "a", "config"},
		{"static:x", "\xff", "none"},
	} {
		if got := ask(set, tt.table, tt.key); got != tt.want {
			t.Errorf("%.80s %s: got %s, want %s", tt.table, tt.key, got, tt.want)
		}
	}
}

// TestSet_Kinds ensures that an open says how a table is to be asked, and that tables which cannot be changed are
// not had for that.
func TestSet_Kinds(t *testing.T) {
	set := local.New(local.Config{Raft: raftTables})
	for table, want := range map[string]dict.Flags{
		"static:x": dict.Fixed, "inline:{a=b}": dict.Fixed, "unix:passwd.byname": dict.Fixed, "texthash:/nonexistent": dict.Fixed,
		"randmap:{a}": dict.Pattern, "fail:x": dict.Pattern, "inline:{a": dict.Pattern,
		"pipemap:{randmap:{a} static:b}": dict.Pattern, "pipemap:{raft:virtual randmap:{a}}": dict.Fixed,
	} {
		if got := set.Open(table, local.Options{}).Kind(); got != want {
			t.Errorf("%s: %v, want %v", table, got, want)
		}
	}
	for table, retry := range map[string]bool{"static:x": false, "inline:{a=b}": true, "pipemap:{raft:virtual}": true, "texthash:/etc/passwd": true} {
		_, _, err := set.Open(table, local.Options{Write: true}).Lookup([]byte("a"))
		if errors.Is(err, dict.ErrRetry) != retry {
			t.Errorf("%s opened for changes: %v", table, err)
		}
	}
}

// TestSet_List ensures that tables with entries of their own list them in order.
func TestSet_List(t *testing.T) {
	path := writeOld(t, filepath.Join(t.TempDir(), "t"), "b 2\nA 1\n")
	set := local.New(local.Config{})
	for _, table := range []string{"inline:{b=2 A=1}", "texthash:" + path} {
		var all []string
		var last []byte
		for {
			k, v, found, err := set.Open(table, local.Options{}).Next(last)
			if err != nil || !found {
				break
			}
			all, last = append(all, string(k)+"="+string(v)), k
		}
		if fmt.Sprint(all) != "[a=1 b=2]" {
			t.Errorf("%s: %v", table, all)
		}
	}
	if _, _, _, err := set.Open("static:x", local.Options{}).Next(nil); !errors.Is(err, dict.ErrRetry) {
		t.Errorf("static: %v", err)
	}
}

// TestSet_Random ensures that each value of a randmap comes, and nothing else.
func TestSet_Random(t *testing.T) {
	set := local.New(local.Config{})
	seen := map[string]int{}
	for range 1000 {
		seen[ask(set, "randmap:{a, {b c} d}", "k")]++
	}
	if len(seen) != 3 || seen["=a"] < 200 || seen["={b c}"] < 200 || seen["=d"] < 200 {
		t.Errorf("got %v", seen)
	}
}

// TestSet_Files ensures that a changed file is seen, that one which became unusable is never "not found", and that
// one which is good again answers again.
func TestSet_Files(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "t")
	table := "texthash:" + path
	var log records
	set := local.New(local.Config{Every: 10 * time.Millisecond, Wait: 5 * time.Second, Logger: log.logger()})
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() { set.Run(ctx) })
	answers := func(key, want string) {
		t.Helper()
		deadline := time.Now().Add(10 * time.Second)
		for ask(set, table, key) != want {
			if time.Now().After(deadline) {
				t.Fatalf("%s: %s, want %s\n%s", key, ask(set, table, key), want, log.String())
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
	replace := func(text string) {
		t.Helper()
		if err := os.WriteFile(path+".new", []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	if got := ask(set, table, "a"); got != "retry" {
		t.Errorf("no file: %s", got)
	}
	replace("a 1\n")
	answers("a", "=1")
	replace("a 2\n  continued\nbad\n")
	answers("a", "=2  continued")
	replace("a 3\nA 4\n")
	answers("a", "retry")
	answers("z", "retry")
	replace("a 5\n")
	answers("a", "=5")
	os.Remove(path)
	answers("a", "retry")
	os.Mkdir(path, 0o755)
	if got := ask(set, table, "a"); got != "retry" {
		t.Errorf("a directory: %s", got)
	}
	os.Remove(path)
	replace("b 1\n")
	answers("a", "none")
	for _, want := range []string{"no such file", "duplicate entry", "line of a table file left out", "table file read again"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log does not say %q: %s", want, log.String())
		}
	}
}

// TestSet_NameService ensures that accounts are left to others where they come from more than files.
func TestSet_NameService(t *testing.T) {
	dir := t.TempDir()
	cfg := local.Config{
		Passwd:   writeOld(t, filepath.Join(dir, "passwd"), "u:x:1:2:U:/home/u:/bin/sh\n"),
		Group:    writeOld(t, filepath.Join(dir, "group"), "g:x:3:u,v\n"),
		NSSwitch: writeOld(t, filepath.Join(dir, "nsswitch"), "# x\npasswd: files systemd # y\ngroup:\tfiles sss\n"),
	}
	set := local.New(cfg)
	if got := ask(set, "unix:passwd.byname", "U"); got != "=u:x:1:2:U:/home/u:/bin/sh" {
		t.Errorf("passwd: %s", got)
	}
	if got := ask(set, "unix:group.byname", "g"); got != "not known" {
		t.Errorf("group: %s", got)
	}
	cfg.NSSwitch = filepath.Join(dir, "none")
	if got := ask(local.New(cfg), "unix:group.byname", "g"); got != "=g:x:3:u,v" {
		t.Errorf("group: %s", got)
	}
}

// TestSet_FileType ensures that another kind of table whose content is a file can be put in.
func TestSet_FileType(t *testing.T) {
	path := writeOld(t, filepath.Join(t.TempDir(), "t"), "text")
	set := local.New(local.Config{Files: map[string]local.FileType{"echo": {
		Kind: dict.Pattern,
		Compile: func(text []byte, _ bool) (local.Lookuper, []dict.Problem, error) {
			return echo(text), nil, nil
		},
	}}})
	if got := ask(set, "pipemap:{echo:"+path+" inline:{textk=y}}", "k"); got != "=y" {
		t.Errorf("got %s", got)
	}
}

type echo []byte

func (e echo) Lookup(key []byte) ([]byte, bool, error) {
	return append(append([]byte{}, e...), key...), true, nil
}

// raftTables are two raft tables.
func raftTables(name dict.Name) dict.Reader {
	entries := map[string]map[string]string{"virtual": {"a": "b", "c": "d"}, "relay": {"b": "OK"}, "/alias": {"a": "b"}}[name.Map]
	if name.Type != dict.RaftType && name.String() != "hash:/alias" {
		return nil
	}
	return raftTable{entries}
}

type raftTable struct{ entries map[string]string }

func (t raftTable) Lookup(key []byte) ([]byte, bool, error) {
	if t.entries == nil {
		return nil, false, dict.ErrNoTable
	}
	value, ok := t.entries[string(key)]
	return []byte(value), ok, nil
}
func (t raftTable) Next([]byte) ([]byte, []byte, bool, error) { return nil, nil, false, nil }
func (t raftTable) Kind() dict.Flags                          { return dict.Fixed }

// TestLookup_WithoutUTF8 ensures that keys are folded by one rule whatever smtputf8_enable is: the agent, which folds what Postfix
// has left to it, does not know of the tables inside a table.
func TestLookup_WithoutUTF8(t *testing.T) {
	set := local.New(local.Config{Raft: raftTables})
	for _, utf8 := range []bool{true, false} {
		o := local.Options{UTF8: utf8}
		for key, want := range map[string]string{"Straße@X": "s", "STRASSE@x": "s", "ÜBER": "u", "über": "u"} {
			v, found, err := local.Lookup(set.Open("inline:{Straße@x=s Über=u}", o), []byte(key), o)
			if err != nil || !found || string(v) != want {
				t.Errorf("UTF8 %v: %s is %q, %v, %v", utf8, key, v, found, err)
			}
			if v, found, err = set.Open("inline:{Straße@x=s Über=u}", o).Lookup(dict.Fold([]byte(key))); err != nil || !found || string(v) != want {
				t.Errorf("UTF8 %v, folded by the agent: %s is %q, %v, %v", utf8, key, v, found, err)
			}
		}
	}
}

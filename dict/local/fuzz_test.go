package local_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"postraft/dict"
	"postraft/dict/local"
)

// FuzzName ensures that no name of a table does harm: it opens to a table that answers, or fails with ErrRetry, or
// is left to others.
func FuzzName(f *testing.F) {
	for _, name := range []string{
		"static:{ x }", "inline:{a=b, {c = d e}, \"q q\"=f}", "pipemap:{raft:virtual, unionmap:{static:x inline:{b=c}}}",
		"randmap:{a b}", "unionmap:{{static:x}}", "pipemap:{", "fail:x", "inline:{\\", "texthash:/nonexistent", "proxy:static:x", ":",
	} {
		f.Add(name, "a", true)
	}
	set := local.New(local.Config{Raft: raftTables, Passwd: "/nonexistent", Group: "/nonexistent"})
	f.Fuzz(func(t *testing.T, name, key string, utf8 bool) {
		o := local.Options{UTF8: utf8}
		table := set.Open(name, o)
		if table == nil {
			return
		}
		if kind := table.Kind(); kind != dict.Fixed && kind != dict.Pattern {
			t.Errorf("%q: kind %v", name, kind)
		}
		if value, found, err := local.Lookup(table, []byte(key), o); err != nil && (found || value != nil) {
			t.Errorf("%q: %q beside %v", name, value, err)
		}
		table.Next(nil)
	})
}

// FuzzTextHash ensures that any text makes a table or an error, that each entry of the table is found, and that they
// are in order.
func FuzzTextHash(f *testing.F) {
	for _, text := range []string{"a b\n", "\"q r\" s\n\tmore\n# x\n end\n", "a\\ b c\r\n", "a 1\nA 2\n", "\x00 b\n", " orphan\n\"open x\n"} {
		f.Add([]byte(text), true)
	}
	f.Fuzz(func(t *testing.T, text []byte, utf8 bool) {
		table, _, err := local.CompileTextHash(text, utf8)
		if err != nil {
			return
		}
		list := table.(interface {
			Next([]byte) ([]byte, []byte, bool, error)
		})
		var last []byte
		for {
			key, value, found, err := list.Next(last)
			if err != nil {
				t.Fatal(err)
			}
			if !found {
				return
			}
			if last != nil && bytes.Compare(key, last) <= 0 || len(key) == 0 || len(value) == 0 {
				t.Fatalf("%q=%q after %q", key, value, last)
			}
			if got, found, err := table.Lookup(key); err != nil || !found || !bytes.Equal(got, value) {
				t.Fatalf("%q: %q %v %v, want %q", key, got, found, err, value)
			}
			last = key
		}
	})
}

// FuzzAccounts ensures that any file of accounts makes tables whose values begin with the name that was asked for.
func FuzzAccounts(f *testing.F) {
	for _, text := range []string{"root:x:0:0:root:/root:/bin/sh\n", "g:x:3:u, v,,w\n", "+::::::\n# x\n u:x:1\n", "a:b:4294967296:1::::\n::0:0\n\x00:x:1:1:::\n", "u:x:-1:1\nu:x: 1:1"} {
		f.Add([]byte(text), "root")
	}
	dir := f.TempDir()
	var count atomic.Int64
	f.Fuzz(func(t *testing.T, text []byte, key string) {
		path := filepath.Join(dir, strconv.FormatInt(count.Add(1), 10))
		if err := os.WriteFile(path, text, 0o644); err != nil {
			t.Fatal(err)
		}
		defer os.Remove(path)
		set := local.New(local.Config{Passwd: path, Group: path, NSSwitch: filepath.Join(dir, "none"), Every: time.Nanosecond})
		name, _, _ := bytes.Cut(text, []byte(":"))
		for _, table := range []string{"unix:passwd.byname", "unix:group.byname"} {
			for _, key := range []string{key, string(name)} {
				value, found, err := set.Open(table, local.Options{}).Lookup([]byte(key))
				if err != nil || found && !bytes.HasPrefix(value, []byte(key+":")) {
					t.Errorf("%s %q: %q, %v", table, key, value, err)
				}
			}
		}
	})
}

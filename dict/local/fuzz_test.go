package local_test

import (
	"bytes"
	"testing"

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

package proxy_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"postraft/dict"
	"postraft/proxy"
)

// TestReplay sends what genuine Postfix 3.5, 3.7 and 3.11 clients have sent and expects what the genuine
// server has answered. The names of the tables are changed to raft tables with the same contents.
//
// Two things differ for good reasons, and are masked: which of TRY0NULL and TRY1NULL a database file has
// turned out to use, and MULTI_WRITER, mean nothing for a raft table; and up to 3.10 the flags of an open
// reply hold leftovers of other clients, of which clients take FIXED and PATTERN only.
func TestReplay(t *testing.T) {
	index, err := os.ReadFile("testdata/captures/index.tsv")
	if err != nil {
		t.Fatal(err)
	}
	replayed := 0
	for i, line := range strings.Split(strings.TrimSpace(string(index)), "\n") {
		if i == 0 {
			continue
		}
		f := strings.Split(line, "\t")
		version, name, _ := strings.Cut(f[0], "-")
		t.Run(f[0], func(t *testing.T) { replay(t, version, name, f[0], f[1], strings.Fields(f[2])) })
		replayed++
	}
	if replayed < 110 {
		t.Errorf("%d conversations replayed", replayed)
	}
}

func replay(t *testing.T, version, name, file, service string, turns []string) {
	if name == "raw-other-dialect" {
		t.Log("the genuine server answers BAD to the other dialect; this one serves both")
	}
	read := func(side string) []byte {
		b, err := os.ReadFile(filepath.Join("testdata/captures", file+"."+side+".bin"))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	fromClient, fromServer := read("client"), read("server")
	h := serve(t, proxy.Config{}, func(svc *proxy.Service) {
		svc.SetVersion(version)
		svc.Name, svc.Write = service, service == "proxywrite"
		svc.SMTPUTF8 = !strings.HasPrefix(name, "noutf8")
		svc.Approve(proxy.ParseApproval(approved))
	})
	fill(h.tables)
	if strings.HasPrefix(name, "delete-missing") {
		h.tables.mu.Lock()
		delete(h.tables.m["hash.maps.rw"].entries, "one")
		h.tables.mu.Unlock()
	}
	c := &client{t: t}
	conn := h.dialRaw()
	c.Conn = conn
	last := ""
	for _, turn := range turns {
		n, err := strconv.Atoi(turn[1:])
		if err != nil {
			t.Fatal(err)
		}
		if turn[0] == 'C' {
			last = renamed(fromClient[:n])
			fromClient = fromClient[n:]
			c.send(last)
			continue
		}
		want := string(bytes.ReplaceAll(fromServer[:n], []byte{0}, []byte{'|'}))
		fromServer = fromServer[n:]
		if name == "raw-other-dialect" && last != "" {
			if got := c.list(); !strings.HasPrefix(got, "status|0|") {
				t.Errorf("to %s\ngot  %s", last, got)
			}
			continue
		}
		if got := c.list(); masked(last, got) != masked(last, want) {
			t.Errorf("to   %s\ngot  %s\nwant %s", last, got, want)
		}
	}
}

// approved has every table of the captures but maps/notapproved.
const approved = `proxy:raft:hash.maps.virtual proxy:raft:hash.maps.three proxy:raft:hash.maps.rw proxy:raft:hash.maps.missing,
	proxy:raft:nosuchtype.foo proxy:raft:lmdb.maps.virtual proxy:raft:lmdb.maps.three proxy:raft:texthash.maps.virtual
	proxy:raft:regexp.maps.re proxy:raft:pcre.maps.pc proxy:raft:cidr.maps.ci proxy:raft:static.hello proxy:raft:inline.a1
	proxy:raft:fail.x proxy:raft:hash.maps.latin proxy:raft:hash.maps.verify_cache proxy:raft:hash.maps.psc_cache`

// fill makes the tables of the captures.
func fill(s *tables) {
	virtual := map[string]string{
		"alice@example.com":   "alice@mailbox.example.net",
		"bob@example.com":     "bob@mailbox.example.net, carol@mailbox.example.net",
		"mixed@example.com":   "mixed@mailbox.example.net",
		"strasse@example.com": "strasse@mailbox.example.net",
	}
	three := func() map[string]string { return map[string]string{"one": "1", "two": "2", "three": "3"} }
	s.set("hash.maps.virtual", table{entries: virtual})
	s.set("lmdb.maps.virtual", table{entries: virtual})
	s.set("texthash.maps.virtual", table{entries: virtual})
	s.set("hash.maps.three", table{entries: three()})
	s.set("lmdb.maps.three", table{entries: three()})
	s.set("hash.maps.rw", table{entries: three()})
	s.set("hash.maps.latin", table{entries: map[string]string{"latin": "caf\xe9"}})
	re := map[string]string{"Foo@RE.example.com": "Foo@mailbox.example.net"}
	s.set("regexp.maps.re", table{kind: dict.Pattern, entries: re})
	s.set("pcre.maps.pc", table{kind: dict.Pattern, entries: re})
	s.set("cidr.maps.ci", table{kind: dict.Pattern, entries: map[string]string{"192.0.2.5": "REJECT test net"}})
	s.set("static.hello", table{always: "hello"})
	s.set("inline.a1", table{entries: map[string]string{"a": "1"}})
	// A table that cannot be opened is PATTERN in Postfix.
	for _, name := range []string{"fail.x", "hash.maps.missing", "nosuchtype.foo"} {
		s.set(name, table{kind: dict.Pattern, err: fmt.Errorf("test: %w", dict.ErrRetry)})
	}
	s.set("hash.maps.verify_cache", table{entries: map[string]string{
		"bounced@c.example": "5:0:0:unknown user", "fresh@a.example": "0:0:0:ok", "old@b.example": "0:0:0:ok",
	}})
	s.set("hash.maps.psc_cache", table{entries: map[string]string{}})
}

var renames = strings.NewReplacer(
	"table|inline:{a=1}|", "table|raft:inline.a1|", "table|static:hello|", "table|raft:static.hello|",
	"table|fail:x|", "table|raft:fail.x|", "table|nosuchtype:foo|", "table|raft:nosuchtype.foo|",
	"table|hash:maps/", "table|raft:hash.maps.", "table|lmdb:maps/", "table|raft:lmdb.maps.",
	"table|texthash:maps/", "table|raft:texthash.maps.", "table|regexp:maps/", "table|raft:regexp.maps.",
	"table|pcre:maps/", "table|raft:pcre.maps.", "table|cidr:maps/", "table|raft:cidr.maps.",
)

func renamed(b []byte) string {
	return renames.Replace(string(bytes.ReplaceAll(b, []byte{0}, []byte{'|'})))
}

// masked makes a reply comparable: it takes out the bits that may differ, and the time stamps of the day.
func masked(request, reply string) string {
	parts := strings.Split(reply, "|")
	for i := 0; i+1 < len(parts); i++ {
		if parts[i] != "flags" {
			continue
		}
		v, err := strconv.ParseUint(parts[i+1], 10, 32)
		if err != nil {
			continue
		}
		f := dict.Flags(v) &^ (dict.Try0Null | dict.Try1Null | dict.MultiWriter)
		switch {
		case strings.HasPrefix(request, "request|open|") && strings.Contains(request, "|flags|"):
			f &= dict.Fixed | dict.Pattern
		case strings.HasPrefix(request, "request|open|"):
			f &^= dict.DupWarn | dict.Surrogate // 3.11 marks what cannot be opened by either
			f &^= dict.UTF8Active & unknownType(request)
		}
		parts[i+1] = fmt.Sprint(uint32(f))
	}
	for i := 0; i+3 < len(parts); i++ {
		if parts[i] == "value" && strings.Contains(request, "_cache|") && strings.Contains(request, "|sequence|") {
			parts[i+1] = "stamped"
		}
	}
	return strings.Join(parts, "|")
}

// unknownType is all bits for a table of a type that Postfix does not know: 3.11 does not claim to do the
// UTF-8 work for it, and a raft table has no such type.
func unknownType(request string) dict.Flags {
	if strings.Contains(request, "nosuchtype") {
		return ^dict.Flags(0)
	}
	return 0
}

package proxy_test

import (
	"testing"

	"postraft/dict"
	"postraft/dict/local"
	"postraft/proxy"
)

// someLocals are the local tables of package local.
type someLocals struct{ set *local.Set }

func (l someLocals) Open(name string, write, utf8 bool) dict.Reader {
	return l.set.Open(name, local.Options{Write: write, UTF8: utf8})
}

// TestServer_Locals ensures that approved local tables are answered here, that those which cannot be had get RETRY, and
// that others are the stock service's, or denied.
func TestServer_Locals(t *testing.T) {
	tables := newTables()
	tables.set("t", table{entries: map[string]string{"a": "b"}})
	locals := someLocals{local.New(local.Config{Raft: func(name dict.Name) dict.Reader {
		if name.Type != dict.RaftType {
			return nil
		}
		return tables.Table(name.Map)
	}})}
	h := serve(t, proxy.Config{Tables: tables, Locals: locals}, func(s *proxy.Service) {
		s.Approve(proxy.ParseApproval("proxy:pipemap:{raft:t,inline:{b=c}} proxy:static:x proxy:inline:{Q=1} proxy:inline:{bad} proxy:randmap:{r} proxy:mysql:/x"))
		s.Write = false
	})
	c := h.dial()
	for _, tt := range []struct{ request, reply string }{
		{"open|table|pipemap:{raft:t,inline:{b=c}}|flags|0", "status|0|flags|16"},
		{"lookup|table|pipemap:{raft:t,inline:{b=c}}|flags|16384|key|A", "status|0|value|c"},
		{"lookup|table|pipemap:{raft:t,inline:{b=c}}|flags|0|key|b", "status|1|value|"},
		{"open|table|randmap:{r}|flags|0", "status|0|flags|32"},
		{"lookup|table|randmap:{r}|flags|0|key|A", "status|0|value|r"},
		{"lookup|table|inline:{Q=1}|flags|0|key|q", "status|0|value|1"},
		{"sequence|table|inline:{Q=1}|flags|0|function|0", "status|0|key|q|value|1"},
		{"sequence|table|inline:{Q=1}|flags|0|function|1", "status|1|key||value|"},
		{"sequence|table|static:x|flags|0|function|0", "status|2|key||value|"},
		{"open|table|inline:{bad}|flags|0", "status|0|flags|32"},
		{"lookup|table|inline:{bad}|flags|0|key|A", "status|2|value|"},
		{"lookup|table|inline:{other=1}|flags|0|key|A", "status|4|value|"},
		{"lookup|table|mysql:/x|flags|0|key|A", "status|4|value|"},
		{"lookup|table|static:x|flags|2097152|key|A", "status|2|value|"}, // values that name files
		{"open|table|static:x|instance_flags|540736", "status|0|flags|1589328"},
		{"lookup|table|static:x|instance_flags|540736|flags|1589328|key|A", "status|0|flags|1589328|value|x"},
		{"lookup|table|static:x|instance_flags|540736|flags|1589328|key|\xff", "status|1|flags|1589328|value|"},
	} {
		c.send("request|" + tt.request + "||")
		c.want(tt.reply + "||")
	}
	w := serve(t, proxy.Config{Tables: tables, Locals: locals}, func(s *proxy.Service) {
		s.Approve(proxy.ParseApproval("proxy:static:x proxy:inline:{Q=1}"))
	}).dial()
	for _, tt := range []struct{ request, reply string }{
		{"open|table|static:x|flags|0", "status|0|flags|16"},
		{"update|table|static:x|flags|0|key|a|value|b", "status|2"},
		{"delete|table|static:x|flags|0|key|a", "status|2"},
		{"open|table|inline:{Q=1}|flags|0", "status|0|flags|32"},
		{"lookup|table|inline:{Q=1}|flags|0|key|q", "status|2|value|"},
	} {
		w.send("request|" + tt.request + "||")
		w.want(tt.reply + "||")
	}
}

package proxy_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"postraft/dict"
	"postraft/dict/local"
	"postraft/proxy"
)

// someLocals are the local tables of package local.
type someLocals struct{ set *local.Set }

func (l someLocals) Open(name string, o proxy.LocalOptions) dict.Reader {
	return l.set.Open(name, local.Options{Write: o.Write, UTF8: o.UTF8, Other: o.Stock})
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

// TestServer_UnservedLocal ensures that a local table in which there is something that is not served here is the stock
// service's where there is one, and RETRY where not.
func TestServer_UnservedLocal(t *testing.T) {
	unserved := map[string]local.FileType{"pcre": {Kind: dict.Pattern, Compile: func([]byte, bool) (local.Lookuper, []dict.Problem, error) {
		return nil, nil, dict.ErrUnserved
	}}}
	locals := someLocals{local.New(local.Config{Files: unserved})}
	const name = "pcre:{{/a/ b}}"
	for _, stock := range []fakeStock{nil, {"request|lookup|table|" + name + "|flags|0|key|a||": "status|0|value|b||"}} {
		c := serve(t, proxy.Config{Locals: locals}, func(s *proxy.Service) {
			s.Approve(proxy.ParseApproval("proxy:" + name))
			s.Write = false
			if stock != nil {
				s.Passthrough = stock
			}
		}).dial()
		c.send("request|lookup|table|" + name + "|flags|0|key|a||")
		if stock == nil {
			c.want("status|2|value|||")
		} else {
			c.want("status|0|value|b||")
		}
	}
}

// A fakeStock is a stock service that answers requests as it is told.
type fakeStock map[string]string

func (s fakeStock) Forward(_ context.Context, dst, request []byte) ([]byte, error) {
	reply, ok := s[strings.ReplaceAll(string(request), "\x00", "|")]
	if !ok {
		return dst, fmt.Errorf("request %q", request)
	}
	return append(dst, strings.ReplaceAll(reply, "|", "\x00")...), nil
}

// TestServer_StockMembers ensures that tables of the stock service can be used beside raft tables inside others, in
// each dialect, and that what it does not answer is never "not found".
func TestServer_StockMembers(t *testing.T) {
	tables := newTables()
	tables.set("t", table{entries: map[string]string{"a": "b", "bad": "bad", "deny": "deny", "gone": "gone", "none": "none"}})
	locals := someLocals{local.New(local.Config{Raft: func(name dict.Name) dict.Reader {
		if name.Type != dict.RaftType {
			return nil
		}
		return tables.Table(name.Map)
	}})}
	const union, pipe = "unionmap:{raft:t, lmdb:/x}", "pipemap:{raft:t, proxy:mysql:/y}"
	var log syncBuffer
	h := serve(t, proxy.Config{Tables: tables, Locals: locals, Logger: slog.New(slog.NewTextHandler(&log, nil))}, func(s *proxy.Service) {
		s.Approve(proxy.ParseApproval("proxy:" + union + " proxy:" + pipe + " proxy:unionmap:{lmdb:/x}"))
		s.Write = false
		s.Passthrough = fakeStock{
			"request|lookup|table|lmdb:/x|flags|16384|key|a||":                                "status|0|value|c||",
			"request|lookup|table|lmdb:/x|flags|16384|key|q||":                                "status|0|value|d||",
			"request|lookup|table|lmdb:/x|flags|16384|key|none||":                             "status|1|value|||",
			"request|lookup|table|lmdb:/x|flags|16384|key|deny||":                             "status|4|value|||",
			"request|lookup|table|lmdb:/x|flags|16384|key|bad||":                              "status|7|value|||",
			"request|lookup|table|mysql:/y|instance_flags|540736|flags|1589312|key|b||":       "status|0|flags|1589312|value|e||",
			"request|lookup|table|unionmap:{lmdb:/x}|flags|16384|key|a||":                     "status|0|value|whole||",
			"request|lookup|table|mysql:/y|instance_flags|540736|flags|1589312|key|none||":    "status|1|flags|1589312|value|||",
			"request|lookup|table|mysql:/y|instance_flags|540736|flags|1589312|key|gone||":    "status|2|flags|1589312|value|||",
			"request|lookup|table|mysql:/y|instance_flags|540736|flags|1589312|key|bad||":     "status|0|value|b||",
			"request|lookup|table|mysql:/y|instance_flags|540736|flags|1589312|key|unheard||": "",
		}
	})
	c := h.dial()
	for _, tt := range []struct{ request, reply string }{
		{"open|table|" + union + "|flags|16384", "status|0|flags|16400"},
		{"lookup|table|" + union + "|flags|16400|key|A", "status|0|value|b,c"},
		{"lookup|table|" + union + "|flags|16400|key|q", "status|0|value|d"},
		{"lookup|table|" + union + "|flags|16400|key|none", "status|0|value|none"},
		{"lookup|table|" + union + "|flags|16400|key|deny", "status|2|value|"},
		{"lookup|table|" + union + "|flags|16400|key|bad", "status|2|value|"},
		{"lookup|table|" + union + "|flags|16400|key|gone", "status|2|value|"},
		{"lookup|table|unionmap:{lmdb:/x}|flags|16384|key|a", "status|0|value|whole"},
		{"open|table|" + pipe + "|instance_flags|540736", "status|0|flags|1589328"},
		{"lookup|table|" + pipe + "|instance_flags|540736|flags|1589328|key|a", "status|0|flags|1589328|value|e"},
		{"lookup|table|" + pipe + "|instance_flags|540736|flags|1589328|key|none", "status|1|flags|1589328|value|"},
		{"lookup|table|" + pipe + "|instance_flags|540736|flags|1589328|key|gone", "status|2|flags|1589328|value|"},
		{"lookup|table|" + pipe + "|instance_flags|540736|flags|1589328|key|bad", "status|2|flags|1589328|value|"},
	} {
		c.send("request|" + tt.request + "||")
		c.want(tt.reply + "||")
	}
	if want := "list proxy:lmdb:/x in main.cf:proxy_read_maps"; !strings.Contains(log.String(), want) {
		t.Errorf("the log does not say %q: %s", want, log.String())
	}
}

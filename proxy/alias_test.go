package proxy_test

import (
	"testing"

	"postraft/proxy"
)

// TestServer_Alias ensures that a request for an alias is one for its raft table, in lookups and changes, that
// approval goes by the name that is asked for, and that connections see other aliases with their next request.
func TestServer_Alias(t *testing.T) {
	h := serve(t, proxy.Config{}, func(s *proxy.Service) {
		s.Approve(proxy.ParseApproval("proxy:hash:/etc/virtual proxy:raft:t proxy:hash:/etc/new"))
	})
	h.tables.set("t", table{entries: map[string]string{"a": "1"}})
	h.server.Alias(proxy.Aliases{"hash:/etc/virtual": "t", "hash:/etc/other": "t", "hash:/etc/new": "new"})
	c := h.dial()
	for _, tt := range []struct{ request, reply string }{
		{"open|table|hash:/etc/virtual|flags|0", "status|0|flags|16"},
		{"lookup|table|hash:/etc/virtual|flags|16384|key|A", "status|0|value|1"},
		{"lookup|table|hash:/etc/virtual|flags|0|key|b", "status|1|value|"},
		{"update|table|hash:/etc/virtual|flags|0|key|b|value|2", "status|0"},
		{"lookup|table|raft:t|flags|0|key|b", "status|0|value|2"},
		{"sequence|table|hash:/etc/virtual|flags|0|function|0", "status|0|key|a|value|1"},
		{"sequence|table|hash:/etc/virtual|flags|0|function|1", "status|0|key|b|value|2"},
		{"delete|table|hash:/etc/virtual|flags|0|key|b", "status|0"},
		{"lookup|table|hash:/etc/other|flags|0|key|a", "status|4|value|"},
		{"open|table|hash:/etc/new|flags|0", "status|0|flags|16"}, // it is made
		{"update|table|hash:/etc/new|flags|0|key|n|value|1", "status|0"},
		{"lookup|table|hash:/etc/new|flags|0|key|n", "status|0|value|1"},
	} {
		c.send("request|" + tt.request + "||")
		c.want(tt.reply + "||")
	}
	h.server.Alias(nil)
	c.send("request|lookup|table|hash:/etc/virtual|flags|0|key|a||")
	c.want("status|4|value|||") // there is no way to the local table
	h.svc.Approve(proxy.ApproveAllRaft())
	h.server.Alias(proxy.Aliases{"hash:/etc/virtual": "t"})
	c.send("request|lookup|table|hash:/etc/virtual|flags|0|key|a||")
	c.want("status|0|value|1||")
}

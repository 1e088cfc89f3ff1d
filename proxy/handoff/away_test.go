package handoff

import (
	"log/slog"
	"testing"

	"postraft/proxy"
)

// TestAwayLocals ensures that without an agent the stock service is asked only for what cannot be a raft table.
func TestAwayLocals(t *testing.T) {
	unknown, known, alone := &AwayLocals{Passthrough: true}, &AwayLocals{Passthrough: true}, &AwayLocals{}
	known.Alias([]string{"hash:/a"})
	for _, tt := range []struct {
		table          string
		unknown, known bool // the stock service is asked
	}{
		{"unix:passwd.byname", true, true},
		{"mysql:/x", true, true},
		{"hash:/a", false, false},
		{"hash:/b", false, true},
		{"pipemap:{hash:/a static:x}", false, false},
		{"pipemap:{lmdb:/b static:x}", false, true},
		{"pipemap:{raft:t static:x}", false, false},
		{"static:x", true, true},
	} {
		if got := unknown.Open(tt.table, proxy.LocalOptions{UTF8: true}) == nil; got != tt.unknown {
			t.Errorf("%s before any agent: %v", tt.table, got)
		}
		if got := known.Open(tt.table, proxy.LocalOptions{UTF8: true}) == nil; got != tt.known {
			t.Errorf("%s: %v", tt.table, got)
		}
		if alone.Open(tt.table, proxy.LocalOptions{UTF8: true}) == nil {
			t.Errorf("%s without a stock service: it is denied", tt.table)
		}
	}
}

// TestFrontEnd_NeedsAgent ensures that lookups and writes of raft tables, and of tables that the agent alone knows, are worth a wait
// for it, and nothing else is.
func TestFrontEnd_NeedsAgent(t *testing.T) {
	f := NewFrontEnd(FrontEndConfig{Agents: func(table string) bool { return table == "hash:/alias" }, Logger: slog.New(slog.DiscardHandler)})
	for request, want := range map[string]bool{
		lookup("k"): true,
		"request\x00lookup\x00table\x00proxy:raft:t\x00flags\x000\x00":   true,
		"request\x00lookup\x00table\x00hash:/alias\x00flags\x000\x00":    true,
		"request\x00lookup\x00table\x00hash:/other\x00flags\x000\x00":    false,
		"request\x00open\x00table\x00raft:t\x00flags\x000\x00":           false,
		"request\x00lookup\x00table\x00ra":                               true, // who knows
		"request\x00delete\x00table\x00raft:t\x00flags\x000\x00key\x00a": true,
	} {
		if got := f.needsAgent([]byte(request)); got != want {
			t.Errorf("%q: %v", request, got)
		}
	}
}

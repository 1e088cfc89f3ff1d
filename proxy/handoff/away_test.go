package handoff

import (
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

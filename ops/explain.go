package ops

import (
	"context"
	"net/http"
)

// Explained says how a lookup came to its answer.
type Explained struct {
	Table   string `json:"table"`
	Type    string `json:"type"`
	Key     []byte `json:"key"`   // as it was asked for
	Asked   []byte `json:"asked"` // as it was looked up: folded, in a table of fixed keys
	Found   bool   `json:"found"`
	Value   []byte `json:"value"`
	Line    int    `json:"line,omitempty"` // of the rule that matched
	Rule    string `json:"rule,omitempty"`
	Version uint64 `json:"version"` // of the table
	Index   uint64 `json:"index"`   // of the newest change that the node's tables show
	Node    string `json:"node"`
	Leader  string `json:"leader"` // empty when none is known
	AgeMS   int64  `json:"age_ms"` // since the leader was heard of; 0 on the leader
}

// explain answers a get with how it came to it.
func (h *handlers) explain(w http.ResponseWriter, r *http.Request) error {
	name, err := tableName(r)
	if err != nil {
		return err
	}
	exact, err := flag(r, "exact")
	if err != nil {
		return err
	}
	var req entryRequest
	if err := readJSON(w, r, &req); err != nil {
		return err
	}
	e, err := h.agent.Explain(r.Context(), name, req.Key, exact)
	if err != nil {
		return noTableIsNotFound(err)
	}
	return sendJSON(w, e)
}

// Explain looks a key up, folded as Postfix does unless exact, and says how the answer came about.
func (c *Client) Explain(ctx context.Context, name string, key []byte, exact bool) (e Explained, err error) {
	q := table(name)
	if exact {
		q.Set("exact", "true")
	}
	return e, c.do(ctx, request{method: "POST", path: "/v1/table/explain", query: q, json: entryRequest{Key: key}, into: &e})
}

package ops

import (
	"context"
	"net/http"
)

// lookupRequest asks for many keys at once.
type lookupRequest struct {
	Keys [][]byte `json:"keys"`
}

// What one lookupRequest of a Client carries at most.
const (
	lookupKeys  = 2000
	lookupBytes = 256 << 10 // beside one more key
)

// Lookup returns the values of keys, in their order, from the node's own memory. Keys are taken byte for byte.
func (c *Client) Lookup(ctx context.Context, name string, keys [][]byte) ([]Value, error) {
	values := make([]Value, 0, len(keys))
	for len(keys) > 0 {
		n := 0
		for size := 0; n < len(keys) && n < lookupKeys && size < lookupBytes; n++ {
			size += len(keys[n])
		}
		var some []Value
		err := c.do(ctx, request{method: "POST", path: "/v1/table/lookup", query: table(name), json: lookupRequest{keys[:n]}, into: &some})
		if err != nil {
			return nil, err
		}
		if len(some) != n {
			return nil, Errorf(Internal, "%d keys were asked for, %d were answered", n, len(some))
		}
		values, keys = append(values, some...), keys[n:]
	}
	return values, nil
}

func (h *handlers) lookup(w http.ResponseWriter, r *http.Request) error {
	name, err := tableName(r)
	if err != nil {
		return err
	}
	var req lookupRequest
	if err := readJSON(w, r, &req); err != nil {
		return err
	}
	values := make([]Value, len(req.Keys))
	for i, key := range req.Keys {
		if err := r.Context().Err(); err != nil {
			return context.Cause(r.Context())
		}
		if values[i].Value, values[i].Found, err = h.agent.Get(r.Context(), name, key, false); err != nil {
			return err
		}
	}
	return sendJSON(w, values)
}

package ops

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"

	"postraft/dict"
)

// TestClient_Lookup ensures that many keys, and large ones, are answered in their order, from the node's own memory,
// and that one key that cannot be answered fails them all.
func TestClient_Lookup(t *testing.T) {
	a := newFake()
	c := serve(t, a, nil)
	ctx := context.Background()
	var keys [][]byte
	for i := range 2*lookupKeys + 1 {
		keys = append(keys, fmt.Appendf(nil, "none%d", i))
	}
	long := bytes.Repeat([]byte("k\xff"), dict.MaxKeyLen/2)
	for range 3 * lookupBytes / len(long) {
		keys = append(keys, long)
	}
	a.entries[string(long)] = "long"
	keys[5], keys[lookupKeys] = []byte("a"), []byte("b")
	values, err := c.Lookup(ctx, "t", keys)
	if err != nil || len(values) != len(keys) {
		t.Fatalf("%d values, %v", len(values), err)
	}
	for i, v := range values {
		want := map[string]string{"a": "1", "b": "2", string(long): "long"}[string(keys[i])]
		if v.Found != (want != "") || string(v.Value) != want {
			t.Errorf("%.20s: %v, want %q", keys[i], v, want)
		}
	}
	if a.calls[0] != "get false" {
		t.Errorf("call %s", a.calls[0])
	}
	a.fail["get false"] = fmt.Errorf("not now: %w", dict.ErrRetry)
	var e *Error
	if _, err := c.Lookup(ctx, "t", keys); !errors.As(err, &e) || e.Kind != Retry {
		t.Errorf("a key that cannot be answered: %v", err)
	}
}

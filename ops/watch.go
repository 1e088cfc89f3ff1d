package ops

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// An Event is one change of one entry of a table.
type Event struct {
	Index uint64    `json:"index"` // of the log entry
	Time  time.Time `json:"time,omitzero"`
	Node  string    `json:"node,omitempty"`  // on which the change was made; empty where that is not known
	Way   string    `json:"way,omitempty"`   // by what means: a Way; empty where that is not known
	Whole bool      `json:"whole,omitempty"` // with a load of the whole table, or its end
	Key   []byte    `json:"key"`
	Old   []byte    `json:"old,omitempty"`
	New   []byte    `json:"new,omitempty"`

	HadOld bool `json:"had_old,omitempty"` // there was an entry, perhaps of no value
	HasNew bool `json:"has_new,omitempty"`
}

// A History is what a node remembers of one key.
type History struct {
	Events []Event `json:"events"`
	Begin  uint64  `json:"begin"` // it remembers all behind this index
}

// watch sends one JSON document a line: an Event, or {} while nothing happens. The last may be an Error.
func (h *handlers) watch(w http.ResponseWriter, r *http.Request) error {
	name, err := tableName(r)
	if err != nil {
		return err
	}
	var from *uint64
	if text := r.URL.Query().Get("from"); text != "" {
		index, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			return Errorf(Usage, "from=%q: want a number", text)
		}
		from = &index
	}
	began := false
	out := json.NewEncoder(streamOut(w))
	flush := http.NewResponseController(w)
	send := func(v any) error {
		began = true
		if err := out.Encode(v); err != nil {
			return err
		}
		return flush.Flush()
	}
	ctx, cancel := endless(r, h.ending)
	defer cancel()
	err = h.agent.Watch(ctx, name, from, func(e Event) error { return send(e) }, func() error { return send(struct{}{}) })
	if !began {
		return noTableIsNotFound(err)
	}
	send(Classify(err)) // who watches may have gone
	return nil
}

func (h *handlers) history(w http.ResponseWriter, r *http.Request) error {
	name, err := tableName(r)
	if err != nil {
		return err
	}
	key, err := base64.URLEncoding.DecodeString(r.URL.Query().Get("key"))
	if err != nil {
		return Errorf(Usage, "key: %v", err)
	}
	list, err := h.agent.History(r.Context(), name, key)
	if err != nil {
		return noTableIsNotFound(err)
	}
	return sendJSON(w, list)
}

func (h *handlers) restoreVersion(w http.ResponseWriter, r *http.Request) error {
	name, err := tableName(r)
	if err != nil {
		return err
	}
	text := r.URL.Query().Get("version")
	version, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return Errorf(Usage, "version=%q: want a number", text)
	}
	result, err := h.agent.RestoreVersion(r.Context(), name, version)
	if err != nil {
		return err
	}
	result.Table, result.Index = name, h.agent.Index()
	return sendJSON(w, result)
}

// Watch calls emit for each change of a table behind the index from, or behind now when that is nil, until ctx
// ends, emit fails or the agent ends.
func (c *Client) Watch(ctx context.Context, table string, from *uint64, emit func(Event) error) error {
	q := url.Values{"name": {table}}
	if from != nil {
		q.Set("from", strconv.FormatUint(*from, 10))
	}
	return c.do(ctx, request{method: "GET", path: "/v1/table/watch", query: q, stream: func(r io.Reader) error {
		in := json.NewDecoder(r)
		for {
			var line struct {
				Event
				Error
			}
			switch err := in.Decode(&line); {
			case err != nil:
				return cut(err)
			case line.Kind != "":
				return &line.Error
			case line.Index == 0:
				continue // nothing happens
			}
			if err := emit(line.Event); err != nil {
				return err
			}
		}
	}})
}

// History returns what the node remembers of one key.
func (c *Client) History(ctx context.Context, table string, key []byte) (list History, err error) {
	q := url.Values{"name": {table}, "key": {base64.URLEncoding.EncodeToString(key)}}
	return list, c.do(ctx, request{method: "GET", path: "/v1/table/history", query: q, into: &list})
}

// RestoreVersion makes a table what it was at an index.
func (c *Client) RestoreVersion(ctx context.Context, table string, version uint64) (result ImportResult, err error) {
	q := url.Values{"name": {table}, "version": {strconv.FormatUint(version, 10)}}
	err = c.do(ctx, request{method: "POST", path: "/v1/table/restore", query: q, into: &result, changes: true})
	c.changed(result.Index)
	return result, err
}

package ops

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
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

// A watchLine is one JSON document of a watch: an Event; the place up to which all have come, at the start and while
// nothing happens; or at the end an Error.
type watchLine struct {
	Event
	Error
	At uint64 `json:"at"`
}

// watch sends one JSON document a line, as watchLine reads them.
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
	err = h.agent.Watch(ctx, name, from, func(e Event) error { return send(e) }, func(at uint64) error {
		return send(struct {
			At uint64 `json:"at"`
		}{at})
	})
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

// Watch calls emit for each change of a table behind the index from, or behind now when that is nil, until ctx ends,
// emit fails or the agent has been away for as long as the client waits; the first is no error. When the agent breaks
// off or stops, lost is called, and the watch goes on where it was once an agent is back. What ends it for good says
// where that was.
func (c *Client) Watch(ctx context.Context, table string, from *uint64, emit func(Event) error, lost func(error)) error {
	p := watchPlace{from: from}
	for {
		begun := p
		err := c.watchOnce(ctx, table, &p, emit)
		var e *Error
		if ctx.Err() != nil && p.met {
			return nil
		}
		if ctx.Err() != nil || !p.met || !errors.As(err, &e) || e.Kind != Retry && e.Kind != NoAgent {
			return err
		}
		now := time.Now()
		if p != begun { // something came since the last time that it was lost
			p.lost = now
			lost(err)
		}
		if now.Sub(p.lost) >= c.timeout {
			return Errorf(Retry, "%s", e.Text).Advise("go on with: postraft watch %s --from %d", table, *p.from)
		}
		select {
		case <-time.After(againEvery):
		case <-ctx.Done():
		}
	}
}

// againEvery is how often an agent is asked that is away, or does not know yet.
const againEvery = 250 * time.Millisecond

// A watchPlace is how far a watch has come.
type watchPlace struct {
	met  bool      // the agent has told where the watch begins
	from *uint64   // all changes up to this index have come
	next uint64    // then some of this index have,
	seen int       // so many
	lost time.Time // when the agent was lost, if it has not been back
}

// come notes that all changes up to an index have come, or that the agent is back and begins there.
func (p *watchPlace) come(at uint64) {
	if at == 0 {
		return // it is of a version that does not tell
	}
	p.met, p.lost = true, time.Time{}
	if p.from == nil || at > *p.from {
		p.from, p.next, p.seen = &at, 0, 0
	}
}

// watchOnce watches until the connection ends.
func (c *Client) watchOnce(ctx context.Context, table string, p *watchPlace, emit func(Event) error) error {
	q := url.Values{"name": {table}}
	if p.from != nil {
		q.Set("from", strconv.FormatUint(*p.from, 10))
	}
	skip, skipped := p.seen, p.next
	var own error // of emit
	err := c.do(ctx, request{method: "GET", path: "/v1/table/watch", query: q, stream: func(r io.Reader) error {
		in := json.NewDecoder(r)
		for {
			var line watchLine
			switch err := in.Decode(&line); {
			case err == io.EOF || err == io.ErrUnexpectedEOF:
				return Errorf(Retry, "the agent broke off")
			case err != nil:
				return Errorf(Retry, "the agent broke off: %v", err)
			case line.Kind != "":
				return &line.Error
			case line.Index == 0:
				p.come(line.At)
				continue
			case line.Index == skipped && skip > 0:
				skip--
				continue
			}
			if own = emit(line.Event); own != nil {
				return own
			}
			if line.Index != p.next {
				before := line.Index - 1
				*p = watchPlace{met: true, from: &before, next: line.Index}
			}
			p.seen++
		}
	}})
	if own != nil {
		return own
	}
	return err
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

package ops

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strconv"
	"time"

	"postraft/dict"
)

// maxJSON bounds a JSON request: a value of the largest size fits in base64.
const maxJSON = 2*dict.MaxValueLen + 2*dict.MaxKeyLen + 4096

// handlers answer the requests of the API.
type handlers struct {
	agent  Agent
	ending context.Context // of the server: requests without an end of their own end with it
}

func readJSON(w http.ResponseWriter, r *http.Request, into any) error {
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxJSON))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return Errorf(Usage, "read request: %v", err)
	}
	return nil
}

// tableName returns the table that a request is about.
func tableName(r *http.Request) (string, error) {
	name := r.URL.Query().Get("name")
	return name, dict.CheckTableName(name)
}

func flag(r *http.Request, name string) (bool, error) {
	text := r.URL.Query().Get(name)
	if text == "" {
		return false, nil
	}
	b, err := strconv.ParseBool(text)
	if err != nil {
		return false, Errorf(Usage, "%s=%q: want true or false", name, text)
	}
	return b, nil
}

func (h *handlers) unknown(_ http.ResponseWriter, r *http.Request) error {
	return Errorf(Usage, "%s %s is not part of version %s of the API", r.Method, r.URL.Path, apiVersion)
}

func (h *handlers) status(w http.ResponseWriter, _ *http.Request) error {
	return sendJSON(w, h.agent.Status())
}

func (h *handlers) members(w http.ResponseWriter, r *http.Request) error {
	members, err := h.agent.Members(r.Context())
	if err != nil {
		return err
	}
	return sendJSON(w, members)
}

func (h *handlers) reach(w http.ResponseWriter, r *http.Request) error {
	text := r.URL.Query().Get("index")
	index, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return Errorf(Usage, "index=%q: want a number", text)
	}
	all, err := flag(r, "all")
	if err != nil {
		return err
	}
	return sendJSON(w, h.agent.Reach(r.Context(), index, all))
}

// changed answers a change that has been made.
func (h *handlers) changed(w http.ResponseWriter) error { return sendJSON(w, Changed{h.agent.Index()}) }

func (h *handlers) join(w http.ResponseWriter, r *http.Request) error {
	var req joinRequest
	if err := readJSON(w, r, &req); err != nil {
		return err
	}
	if len(req.Addresses) == 0 {
		return Errorf(Usage, "join: no address")
	}
	if err := h.agent.Join(r.Context(), req.Addresses); err != nil {
		return err
	}
	return sendJSON(w, struct{}{})
}

func (h *handlers) leave(w http.ResponseWriter, r *http.Request) error {
	if err := h.agent.Leave(r.Context()); err != nil {
		return err
	}
	return sendJSON(w, struct{}{})
}

func (h *handlers) remove(w http.ResponseWriter, r *http.Request) error {
	var req nameRequest
	if err := readJSON(w, r, &req); err != nil {
		return err
	}
	if req.Name == "" {
		return Errorf(Usage, "remove: no name")
	}
	if err := h.agent.Remove(r.Context(), req.Name); err != nil {
		return err
	}
	return sendJSON(w, struct{}{})
}

func (h *handlers) transferLeader(w http.ResponseWriter, r *http.Request) error {
	var req nameRequest
	if err := readJSON(w, r, &req); err != nil {
		return err
	}
	if err := h.agent.TransferLeader(r.Context(), req.Name); err != nil {
		return err
	}
	return sendJSON(w, struct{}{})
}

func (h *handlers) tables(w http.ResponseWriter, r *http.Request) error {
	tables, err := h.agent.Tables(r.Context())
	if err != nil {
		return err
	}
	return sendJSON(w, tables)
}

func (h *handlers) table(w http.ResponseWriter, r *http.Request) error {
	name, err := tableName(r)
	if err != nil {
		return err
	}
	tables, err := h.agent.Tables(r.Context())
	if err != nil {
		return err
	}
	for _, t := range tables {
		if t.Name == name {
			return sendJSON(w, t)
		}
	}
	return Errorf(NotFound, "there is no table %s", name).Advise("list the tables with: postraft table list")
}

func (h *handlers) createTable(w http.ResponseWriter, r *http.Request) error {
	name, err := tableName(r)
	if err != nil {
		return err
	}
	typ := r.URL.Query().Get("type")
	if typ == "" {
		typ = dict.TypeHash
	}
	if err := h.agent.CreateTable(r.Context(), name, typ, dict.Settings{}); err != nil {
		return err
	}
	return h.changed(w)
}

func (h *handlers) dropTable(w http.ResponseWriter, r *http.Request) error {
	name, err := tableName(r)
	if err != nil {
		return err
	}
	if err := h.agent.DropTable(r.Context(), name); err != nil {
		return noTableIsNotFound(err)
	}
	return h.changed(w)
}

// noTableIsNotFound is for requests about tables: there a missing one is the answer, and not in the way of it.
func noTableIsNotFound(err error) error {
	if errors.Is(err, dict.ErrNoTable) {
		e := Classify(err)
		e.Kind = NotFound
		return e
	}
	return err
}

func (h *handlers) get(w http.ResponseWriter, r *http.Request) error {
	name, err := tableName(r)
	if err != nil {
		return err
	}
	var req entryRequest
	if err := readJSON(w, r, &req); err != nil {
		return err
	}
	value, found, err := h.agent.Get(r.Context(), name, req.Key, req.Consistent)
	if err != nil {
		return err
	}
	return sendJSON(w, Value{found, value})
}

func (h *handlers) put(w http.ResponseWriter, r *http.Request) error {
	name, err := tableName(r)
	if err != nil {
		return err
	}
	var req entryRequest
	if err := readJSON(w, r, &req); err != nil {
		return err
	}
	if err := dict.CheckEntry(req.Key, req.Value); err != nil {
		return err
	}
	if err := h.agent.Put(r.Context(), name, req.Key, req.Value); err != nil {
		return err
	}
	return h.changed(w)
}

func (h *handlers) delete(w http.ResponseWriter, r *http.Request) error {
	name, err := tableName(r)
	if err != nil {
		return err
	}
	var req entryRequest
	if err := readJSON(w, r, &req); err != nil {
		return err
	}
	found, err := h.agent.Delete(r.Context(), name, req.Key)
	if err != nil {
		return err
	}
	return sendJSON(w, Deleted{found, h.agent.Index()})
}

func (h *handlers) entries(w http.ResponseWriter, r *http.Request) error {
	name, err := tableName(r)
	if err != nil {
		return err
	}
	prefix, err := base64.URLEncoding.DecodeString(r.URL.Query().Get("prefix"))
	if err != nil {
		return Errorf(Usage, "prefix: %v", err)
	}
	entries, err := h.agent.Entries(r.Context(), name, prefix)
	if err != nil {
		return noTableIsNotFound(err)
	}
	out := newStreamWriter(streamOut(w))
	for key, value := range entries {
		if out.entry(key, value) != nil {
			break // the client has gone
		}
	}
	out.end(nil)
	return nil
}

// upload reads the entries of a request's body. A body that breaks off ends the context before the entries
// stop.
func upload(w http.ResponseWriter, r *http.Request) (context.Context, func(yield func(key, value []byte) bool)) {
	ctx, cancel := context.WithCancelCause(r.Context())
	in := newStreamReader(streamIn(w, r))
	return ctx, func(yield func(key, value []byte) bool) {
		errEnough := errors.New("enough")
		err := in.entries(func(key, value []byte) error {
			if err := dict.CheckEntry(key, value); err != nil {
				return err
			}
			if err := ctx.Err(); err != nil {
				return err
			}
			if !yield(key, value) {
				return errEnough
			}
			return nil
		})
		if err != nil && err != errEnough {
			cancel(err)
		}
	}
}

func (h *handlers) importTable(w http.ResponseWriter, r *http.Request) error {
	name, err := tableName(r)
	if err != nil {
		return err
	}
	opts := ImportOptions{Type: r.URL.Query().Get("type")}
	if opts.Merge, err = flag(r, "merge"); err != nil {
		return err
	}
	if opts.DryRun, err = flag(r, "dry_run"); err != nil {
		return err
	}
	if text := r.URL.Query().Get("max_change"); text != "" {
		if opts.MaxChange, err = strconv.ParseFloat(text, 64); err != nil || !(opts.MaxChange > 0) {
			return Errorf(Usage, "max_change=%q: want a percentage", text)
		}
	}
	opts.Digest, opts.Way = r.URL.Query().Get("digest"), r.URL.Query().Get("way")
	if opts.Way != "" && opts.Way != WayImport && opts.Way != WayWatchFile {
		return Errorf(Usage, "way=%q: want %s or %s", opts.Way, WayImport, WayWatchFile)
	}
	ctx, entries := upload(w, r)
	result, err := h.agent.Import(ctx, name, opts, entries)
	if err != nil {
		return err
	}
	result.Table, result.DryRun = name, opts.DryRun
	if !opts.DryRun {
		result.Index = h.agent.Index()
	}
	return sendJSON(w, result)
}

func (h *handlers) diff(w http.ResponseWriter, r *http.Request) error {
	name, err := tableName(r)
	if err != nil {
		return err
	}
	ctx, entries := upload(w, r)
	changes, err := h.agent.Diff(ctx, name, entries)
	if err != nil {
		return err
	}
	out := newStreamWriter(streamOut(w))
	for c := range changes {
		if out.change(c) != nil {
			break // the client has gone
		}
	}
	out.end(nil)
	return nil
}

func (h *handlers) saveSnapshot(w http.ResponseWriter, r *http.Request) error {
	out := &countingWriter{w: streamOut(w)}
	err := h.agent.SaveSnapshot(r.Context(), out)
	if err != nil && out.n > 0 {
		panic(http.ErrAbortHandler) // the client sees that the stream broke off
	}
	return err
}

func (h *handlers) restoreSnapshot(w http.ResponseWriter, r *http.Request) error {
	names := r.URL.Query()["table"]
	if err := checkRestored(names); err != nil {
		return err
	}
	restored, err := h.agent.RestoreSnapshot(r.Context(), streamIn(w, r), names)
	if err != nil {
		return err
	}
	return sendJSON(w, Restored{restored, h.agent.Index()})
}

// checkRestored checks the names of the tables that are to be restored.
func checkRestored(names []string) error {
	for i, name := range names {
		if err := dict.CheckTableName(name); err != nil {
			return err
		}
		if slices.Contains(names[:i], name) {
			return Errorf(Usage, "the table %s is named twice", name).Advise("name it once")
		}
	}
	return nil
}

type countingWriter struct {
	w io.Writer
	n int64
}

func (c *countingWriter) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.n += int64(n)
	return n, err
}

// stallGuard is a body that fails when it stands still.
type stallGuard struct {
	rc   *http.ResponseController
	body io.Reader
	w    io.Writer
}

func streamIn(w http.ResponseWriter, r *http.Request) io.Reader {
	return &stallGuard{rc: http.NewResponseController(w), body: r.Body}
}

func streamOut(w http.ResponseWriter) io.Writer {
	w.Header().Set("Content-Type", "application/octet-stream")
	return &stallGuard{rc: http.NewResponseController(w), w: w}
}

// Read implements io.Reader. At the end of the body the deadline goes: net/http watches the connection
// from then on to see the client leave.
func (s *stallGuard) Read(b []byte) (int, error) {
	s.rc.SetReadDeadline(time.Now().Add(stallTimeout))
	n, err := s.body.Read(b)
	if err != nil {
		s.rc.SetReadDeadline(time.Time{})
	}
	return n, err
}

// Write implements io.Writer.
func (s *stallGuard) Write(b []byte) (int, error) {
	s.rc.SetWriteDeadline(time.Now().Add(stallTimeout))
	return s.w.Write(b)
}

package ops

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"
)

// grace is how much longer than the agent a client waits, so that it hears the agent's own account.
const grace = 2 * time.Second

// A Client asks the agent on a unix socket. Its methods return an *Error for everything that goes wrong and
// may be called from several goroutines.
type Client struct {
	path    string
	timeout time.Duration
	http    *http.Client
	index   atomic.Uint64
}

// NewClient returns a client of the agent whose admin.sock is at path. timeout is what the agent is given for
// each request; for a stream the client waits as long for each part.
func NewClient(path string, timeout time.Duration) *Client {
	dialer := net.Dialer{Timeout: min(timeout, 5*time.Second)}
	return &Client{path: path, timeout: timeout, http: &http.Client{Transport: &http.Transport{
		DisableKeepAlives:  true,
		DisableCompression: true,
		// The body of a request that expects to be let go on waits for that; do bounds the wait.
		ExpectContinueTimeout: maxTimeout,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", path)
		},
	}}}
}

// Index returns the index of the newest change that this client was told of: tables that show its entry show the
// change. It is 0 before there was one.
func (c *Client) Index() uint64 { return c.index.Load() }

// changed keeps the index of a change.
func (c *Client) changed(index uint64) {
	for old := c.index.Load(); index > old && !c.index.CompareAndSwap(old, index); old = c.index.Load() {
	}
}

// WithTimeout returns a client of the same agent with another timeout.
func (c *Client) WithTimeout(timeout time.Duration) *Client { return NewClient(c.path, timeout) }

// A request is one request and what becomes of its reply.
type request struct {
	method, path string
	query        url.Values
	json         any       // body, or
	body         io.Reader // body, as it is
	into         any       // where the JSON of the reply goes, or
	stream       func(io.Reader) error
	changes      bool // the request changes something: when the reply is lost, nobody knows
	write        bool // the agent's Retry says that the tables are as they were
	expect       bool // the agent may answer without the body: it is sent when the agent wants it
}

func (c *Client) do(ctx context.Context, q request) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watch := time.AfterFunc(c.timeout+grace, func() { cancel(context.DeadlineExceeded) })
	defer watch.Stop()
	body := q.body
	if q.json != nil {
		b, err := json.Marshal(q.json)
		if err != nil {
			return Errorf(Internal, "%v", err)
		}
		body = bytes.NewReader(b)
	}
	target := url.URL{Scheme: "http", Host: "agent", Path: q.path, RawQuery: q.query.Encode()}
	req, err := http.NewRequestWithContext(ctx, q.method, target.String(), body)
	if err != nil {
		return Errorf(Internal, "%v", err)
	}
	req.Header.Set(timeoutHeader, c.timeout.String())
	if q.expect {
		req.Header.Set("Expect", "100-continue")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return c.lost(ctx, err, q.changes)
	}
	defer resp.Body.Close()
	if v := resp.Header.Get(apiHeader); v != apiVersion {
		return Errorf(NoAgent, "%s speaks version %q of the API, this program version %s", c.path, v, apiVersion).
			Advise("use the postraft command that belongs to the running agent")
	}
	if resp.StatusCode != http.StatusOK {
		e := readError(resp)
		if e.Kind == Retry && q.write {
			e.Text += "; nothing was changed"
		}
		return e
	}
	switch {
	case q.stream != nil:
		err = q.stream(&stallReader{resp.Body, watch, c.timeout})
	case q.into != nil:
		err = json.NewDecoder(resp.Body).Decode(q.into)
	}
	var e *Error
	if err != nil && !errors.As(err, &e) {
		return c.lost(ctx, err, q.changes)
	}
	return err
}

// readError returns the error in a reply.
func readError(resp *http.Response) *Error {
	e := &Error{}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxErrorFrame)).Decode(e); err != nil || e.Kind == "" {
		return Errorf(Internal, "the agent answered %s", resp.Status)
	}
	return e
}

// lost says what a connection that failed means.
func (c *Client) lost(ctx context.Context, err error, changes bool) error {
	var op *net.OpError
	dial := errors.As(err, &op) && op.Op == "dial"
	switch {
	case dial && errors.Is(err, fs.ErrPermission):
		return Errorf(Denied, "%s: permission denied", c.path).Advise("run it as root or as the user of the agent")
	case dial && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED)):
		return Errorf(NoAgent, "no agent at %s", c.path).Advise("start it with: systemctl start postraft, or choose another with --run-dir")
	case dial:
		return Errorf(NoAgent, "no agent at %s: %v", c.path, op.Err).Advise("choose another with --run-dir")
	}
	why := "the agent broke off"
	var own *url.Error
	switch {
	case errors.Is(context.Cause(ctx), context.DeadlineExceeded):
		why = fmt.Sprintf("no answer from the agent within %v", c.timeout)
	case context.Cause(ctx) != nil:
		why = "interrupted"
	case errors.As(err, &own) && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF):
		why = fmt.Sprintf("the agent broke off: %v", own.Err)
	}
	if changes {
		return Errorf(UnknownOutcome, "%s", why)
	}
	return Errorf(Retry, "%s", why).Advise(seeStatus)
}

// stallReader gives every read of a stream the whole time.
type stallReader struct {
	r       io.Reader
	watch   *time.Timer
	timeout time.Duration
}

func (s *stallReader) Read(b []byte) (int, error) {
	s.watch.Reset(s.timeout + grace)
	return s.r.Read(b)
}

// localWriter marks the errors of the caller's own writer, so that they are not taken for the agent's.
type localWriter struct{ w io.Writer }

func (l localWriter) Write(b []byte) (int, error) {
	n, err := l.w.Write(b)
	if err != nil {
		return n, Errorf(BadData, "%v", err)
	}
	return n, nil
}

// Status asks the node for what it knows of itself.
func (c *Client) Status(ctx context.Context) (s Status, err error) {
	return s, c.do(ctx, request{method: "GET", path: "/v1/status", into: &s})
}

// Members lists the members of the cluster.
func (c *Client) Members(ctx context.Context) (members []Member, err error) {
	return members, c.do(ctx, request{method: "GET", path: "/v1/members", into: &members})
}

// Reach waits until the node, or with all every member that is alive, shows the entry of an index in its tables,
// and returns how far each is when they do or the time is over.
func (c *Client) Reach(ctx context.Context, index uint64, all bool) (list []Reached, err error) {
	q := url.Values{"index": {strconv.FormatUint(index, 10)}, "all": {strconv.FormatBool(all)}}
	return list, c.do(ctx, request{method: "GET", path: "/v1/reach", query: q, into: &list})
}

// Join makes the node join the cluster of the members at these gossip addresses.
func (c *Client) Join(ctx context.Context, addresses []string) error {
	return c.do(ctx, request{method: "POST", path: "/v1/join", json: joinRequest{addresses}, changes: true})
}

// Leave ends the node's membership; its agent stops.
func (c *Client) Leave(ctx context.Context) error {
	return c.do(ctx, request{method: "POST", path: "/v1/leave", changes: true})
}

// Remove ends the membership of a node that will not come back.
func (c *Client) Remove(ctx context.Context, name string) error {
	return c.do(ctx, request{method: "POST", path: "/v1/remove", json: nameRequest{name}, changes: true})
}

// TransferLeader hands leadership to a voter, to any other one when name is empty.
func (c *Client) TransferLeader(ctx context.Context, name string) error {
	return c.do(ctx, request{method: "POST", path: "/v1/transfer-leader", json: nameRequest{name}, changes: true})
}

// Tables describes all tables.
func (c *Client) Tables(ctx context.Context) (tables []TableInfo, err error) {
	return tables, c.do(ctx, request{method: "GET", path: "/v1/tables", into: &tables})
}

// Table describes a table.
func (c *Client) Table(ctx context.Context, name string) (t TableInfo, err error) {
	return t, c.do(ctx, request{method: "GET", path: "/v1/table", query: table(name), into: &t})
}

func table(name string) url.Values { return url.Values{"name": {name}} }

// DropTable removes a table.
func (c *Client) DropTable(ctx context.Context, name string) error {
	return c.change(ctx, request{method: "DELETE", path: "/v1/table", query: table(name)})
}

// Get returns the value of a key.
func (c *Client) Get(ctx context.Context, name string, key []byte, consistent bool) (v Value, err error) {
	return v, c.do(ctx, request{method: "POST", path: "/v1/table/get", query: table(name),
		json: entryRequest{Key: key, Consistent: consistent}, into: &v})
}

// Put writes an entry.
func (c *Client) Put(ctx context.Context, name string, key, value []byte) error {
	return c.change(ctx, request{method: "POST", path: "/v1/table/put", query: table(name), json: entryRequest{Key: key, Value: value}})
}

// change makes a request that is answered with Changed.
func (c *Client) change(ctx context.Context, q request) error {
	var done Changed
	q.into, q.changes, q.write = &done, true, true
	err := c.do(ctx, q)
	c.changed(done.Index)
	return err
}

// Delete removes an entry; found says whether there was one.
func (c *Client) Delete(ctx context.Context, name string, key []byte) (found bool, err error) {
	var d Deleted
	err = c.do(ctx, request{method: "POST", path: "/v1/table/delete", query: table(name),
		json: entryRequest{Key: key}, into: &d, changes: true, write: true})
	c.changed(d.Index)
	return d.Found, err
}

// Entries calls emit for each entry whose key begins with prefix, in the order of the keys. The slices are
// valid during the call. An error after some entries means that there may be more.
func (c *Client) Entries(ctx context.Context, name string, prefix []byte, emit func(key, value []byte) error) error {
	q := table(name)
	q.Set("prefix", base64.URLEncoding.EncodeToString(prefix))
	return c.do(ctx, request{method: "GET", path: "/v1/table/entries", query: q, stream: func(r io.Reader) error {
		return newStreamReader(r).entries(emit)
	}})
}

// Import makes a table equal to entries, which ascend strictly by key. With a Digest they are not sent to an agent
// whose table has it.
func (c *Client) Import(ctx context.Context, name string, opts ImportOptions, entries iter.Seq2[[]byte, []byte]) (result ImportResult, err error) {
	q := table(name)
	q.Set("type", opts.Type)
	q.Set("merge", strconv.FormatBool(opts.Merge))
	q.Set("dry_run", strconv.FormatBool(opts.DryRun))
	if opts.MaxChange > 0 {
		q.Set("max_change", strconv.FormatFloat(opts.MaxChange, 'g', -1, 64))
	}
	if opts.Way != "" {
		q.Set("way", opts.Way)
	}
	if opts.Digest != "" {
		q.Set("digest", opts.Digest)
	}
	err = c.send(ctx, entries, request{method: "POST", path: "/v1/table/import", query: q, into: &result,
		changes: !opts.DryRun, write: !opts.DryRun, expect: opts.Digest != ""})
	c.changed(result.Index)
	return result, err
}

// Diff calls emit for each change that an import of entries would make.
func (c *Client) Diff(ctx context.Context, name string, entries iter.Seq2[[]byte, []byte], emit func(Change) error) error {
	return c.send(ctx, entries, request{method: "POST", path: "/v1/table/diff", query: table(name), stream: func(r io.Reader) error {
		return newStreamReader(r).changes(emit)
	}})
}

// send makes a request with entries for its body.
func (c *Client) send(ctx context.Context, entries iter.Seq2[[]byte, []byte], q request) error {
	body, feed := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		out := newStreamWriter(feed)
		for key, value := range entries {
			if out.entry(key, value) != nil {
				break // the request has ended
			}
		}
		feed.CloseWithError(out.end(nil))
	}()
	q.body = body
	err := c.do(ctx, q)
	body.Close()
	<-done
	return err
}

// SaveSnapshot writes a snapshot of all tables to w. After an error what was written is of no use.
func (c *Client) SaveSnapshot(ctx context.Context, w io.Writer) error {
	return c.do(ctx, request{method: "GET", path: "/v1/snapshot", stream: func(r io.Reader) error {
		_, err := io.Copy(localWriter{w}, r)
		return err
	}})
}

// RestoreSnapshot puts the tables of a snapshot in place, all or those named, and returns their names.
func (c *Client) RestoreSnapshot(ctx context.Context, r io.Reader, names []string) ([]string, error) {
	if err := checkRestored(names); err != nil { // before all of the file is sent
		return nil, err
	}
	var restored Restored
	err := c.do(ctx, request{method: "POST", path: "/v1/snapshot", query: url.Values{"table": names},
		body: io.NopCloser(r), into: &restored, changes: true, write: true})
	c.changed(restored.Index)
	return restored.Tables, err
}

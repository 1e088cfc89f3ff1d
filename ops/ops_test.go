package ops

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"postraft/dict"
)

// fakeAgent keeps one table in a map. A method whose name is in fail returns that error.
type fakeAgent struct {
	mu      sync.Mutex
	entries map[string]string
	fail    map[string]error
	block   chan struct{} // Put waits for it, when set
	cause   error         // why the context of the last import had ended, when it had
	calls   []string
}

func (a *fakeAgent) call(name string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.calls = append(a.calls, name)
	return a.fail[name]
}

func (a *fakeAgent) Status() Status {
	return Status{Name: "n1", State: "leader", Voters: []string{"n1"}, Tables: []TableInfo{}}
}
func (a *fakeAgent) Members(context.Context) ([]Member, error) {
	return []Member{{Name: "n1", Role: "voter", Leader: true, Alive: "alive"}}, a.call("members")
}
func (a *fakeAgent) Reach(_ context.Context, index uint64, all bool) []Reached {
	return []Reached{{Name: "n1", AppliedIndex: index, Reached: all}}
}
func (a *fakeAgent) Index() uint64 { return 42 }
func (a *fakeAgent) Join(_ context.Context, addresses []string) error {
	return a.call("join " + strings.Join(addresses, ","))
}
func (a *fakeAgent) Leave(context.Context) error { return a.call("leave") }
func (a *fakeAgent) Remove(_ context.Context, name string) error {
	return a.call("remove " + name)
}
func (a *fakeAgent) TransferLeader(_ context.Context, name string) error {
	return a.call("transfer " + name)
}
func (a *fakeAgent) Keyring(context.Context) ([]KeyringMember, error) {
	return []KeyringMember{{Name: "n1", Uses: "f1", Accepts: []string{"f1", "f2"}}}, a.call("keyring")
}
func (a *fakeAgent) ReloadKeyring(context.Context) ([]KeyringMember, error) {
	return nil, a.call("keyring reload")
}
func (a *fakeAgent) UseKey(_ context.Context, key string, force bool) ([]KeyringMember, error) {
	return nil, a.call(fmt.Sprint("keyring use ", key, " ", force))
}
func (a *fakeAgent) RemoveKey(_ context.Context, key string, force bool) ([]KeyringMember, error) {
	return nil, a.call(fmt.Sprint("keyring remove ", key, " ", force))
}
func (a *fakeAgent) Tables(context.Context) ([]TableInfo, error) {
	return []TableInfo{{Name: "..", Type: "hash", Entries: len(a.entries)}}, a.call("tables")
}
func (a *fakeAgent) CreateTable(_ context.Context, name, typ string, s dict.Settings) error {
	return a.call(fmt.Sprintf("create %s %s %d %v", name, typ, s.MaxEntries, s.ExpireAfter))
}
func (a *fakeAgent) SetTable(_ context.Context, name string, c dict.SettingsChange) error {
	return a.call(fmt.Sprintf("set %s %+v %v", name, dict.Settings{MaxEntries: 7, MaxStaleness: 7}.With(c), c.WriteDeadline == nil))
}
func (a *fakeAgent) DropTable(_ context.Context, name string) error { return a.call("drop " + name) }
func (a *fakeAgent) Get(_ context.Context, _ string, key []byte, consistent bool) ([]byte, bool, error) {
	v, ok := a.entries[string(key)]
	return []byte(v), ok, a.call(fmt.Sprint("get ", consistent))
}
func (a *fakeAgent) Put(ctx context.Context, _ string, key, value []byte) error {
	if a.block != nil {
		select {
		case <-a.block:
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", dict.ErrUnknownOutcome, context.Cause(ctx))
		}
	}
	a.entries[string(key)] = string(value)
	return a.call("put")
}
func (a *fakeAgent) Delete(_ context.Context, _ string, key []byte) (bool, error) {
	_, ok := a.entries[string(key)]
	delete(a.entries, string(key))
	return ok, a.call("delete")
}
func (a *fakeAgent) Entries(_ context.Context, _ string, prefix []byte) (iter.Seq2[[]byte, []byte], error) {
	return func(yield func(k, v []byte) bool) {
		for _, k := range slices.Sorted(maps.Keys(a.entries)) {
			if strings.HasPrefix(k, string(prefix)) && !yield([]byte(k), []byte(a.entries[k])) {
				return
			}
		}
	}, a.call("entries")
}
func (a *fakeAgent) Import(ctx context.Context, _ string, opts ImportOptions, entries iter.Seq2[[]byte, []byte]) (ImportResult, error) {
	next := map[string]string{}
	for k, v := range entries {
		next[string(k)] = string(v)
	}
	a.mu.Lock()
	a.cause = context.Cause(ctx)
	a.mu.Unlock()
	if ctx.Err() != nil {
		return ImportResult{}, context.Cause(ctx)
	}
	if !opts.DryRun {
		a.entries = next
	}
	return ImportResult{Added: len(next)}, a.call(fmt.Sprintf("import %+v", opts))
}
func (a *fakeAgent) Diff(ctx context.Context, _ string, entries iter.Seq2[[]byte, []byte]) (iter.Seq[Change], error) {
	var changes []Change
	for k, v := range entries {
		c := Change{Key: bytes.Clone(k), New: bytes.Clone(v)}
		if old, ok := a.entries[string(k)]; ok {
			c.Old = []byte(old)
		}
		changes = append(changes, c)
	}
	changes = append(changes, Change{Key: []byte("gone"), Old: []byte("")})
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return slices.Values(changes), a.call("diff")
}
func (a *fakeAgent) SaveSnapshot(_ context.Context, w io.Writer) error {
	if err := a.call("save"); err != nil {
		return err
	}
	io.WriteString(w, strings.Repeat("snapshot", 100000))
	return a.call("save late")
}
func (a *fakeAgent) RestoreSnapshot(_ context.Context, r io.Reader, names []string) ([]string, error) {
	b, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	return names, a.call("restore " + string(b))
}

// serve starts a server around agent and returns a client of it.
func serve(t *testing.T, agent Agent, edit func(*ServerConfig)) *Client {
	t.Helper()
	dir, err := os.MkdirTemp("", "ops")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	cfg := ServerConfig{Path: filepath.Join(dir, "admin.sock"), Agent: agent, Logger: slog.New(slog.DiscardHandler)}
	if edit != nil {
		edit(&cfg)
	}
	s, err := Listen(cfg)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve() }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return NewClient(cfg.Path, 10*time.Second)
}

func newFake() *fakeAgent {
	return &fakeAgent{entries: map[string]string{"a": "1", "b": "2", "ba": "3"}, fail: map[string]error{}}
}

func pairs(kv ...string) iter.Seq2[[]byte, []byte] {
	return func(yield func(k, v []byte) bool) {
		for i := 0; i < len(kv); i += 2 {
			if !yield([]byte(kv[i]), []byte(kv[i+1])) {
				return
			}
		}
	}
}

// TestClient_EveryRequest ensures that each request reaches the agent with its arguments and that its answer
// comes back.
func TestClient_EveryRequest(t *testing.T) {
	a := newFake()
	c := serve(t, a, nil)
	ctx := context.Background()
	check := func(what string, got, want any, err error) {
		t.Helper()
		if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: got %v, %v; want %v", what, got, err, want)
		}
	}
	s, err := c.Status(ctx)
	check("status", s.Name+" "+s.State, "n1 leader", err)
	members, err := c.Members(ctx)
	check("members", members, []Member{{Name: "n1", Role: "voter", Leader: true, Alive: "alive"}}, err)
	reached, err := c.Reach(ctx, 1<<63, true)
	check("reach", reached, []Reached{{Name: "n1", AppliedIndex: 1 << 63, Reached: true}}, err)
	check("index before a change", c.Index(), 0, nil)
	check("join", nil, nil, c.Join(ctx, []string{"h1", "h2:99"}))
	check("leave", nil, nil, c.Leave(ctx))
	check("remove", nil, nil, c.Remove(ctx, "n3"))
	check("transfer", nil, nil, c.TransferLeader(ctx, ""))
	tables, err := c.Tables(ctx)
	check("tables", len(tables), 1, err)
	info, err := c.Table(ctx, "..")
	check("a table with a name that looks like a path", info.Entries, 3, err)
	check("create", nil, nil, c.CreateTable(ctx, "..", "hash", dict.Settings{}))
	check("create with settings", nil, nil, c.CreateTable(ctx, "..", "hash", dict.Settings{MaxEntries: 9, ExpireAfter: time.Hour}))
	off, week := time.Duration(0), 7*dict.Day
	check("set", nil, nil, c.SetTable(ctx, "t", dict.SettingsChange{MaxStaleness: &off, ExpireAfter: &week}))
	check("drop", nil, nil, c.DropTable(ctx, "t"))
	v, err := c.Get(ctx, "t", []byte("a"), true)
	check("get", v, Value{true, []byte("1")}, err)
	v, err = c.Get(ctx, "t", []byte("nosuch"), false)
	check("get nothing", v.Found, false, err)
	check("put", nil, nil, c.Put(ctx, "t", []byte("k\xff"), []byte("")))
	check("index after a change", c.Index(), 42, nil)
	found, err := c.Delete(ctx, "t", []byte("k\xff"))
	check("delete", found, true, err)
	found, err = c.Delete(ctx, "t", []byte("k\xff"))
	check("delete again", found, false, err)
	var list []string
	err = c.Entries(ctx, "t", []byte("b"), func(k, v []byte) error { list = append(list, string(k)+string(v)); return nil })
	check("entries", list, "[b2 ba3]", err)
	var changes []string
	err = c.Diff(ctx, "t", pairs("a", "1", "new", ""), func(c Change) error {
		changes = append(changes, fmt.Sprintf("%s %q %q %v %v", c.Key, c.Old, c.New, c.Old == nil, c.New == nil))
		return nil
	})
	check("diff", strings.Join(changes, "|"), `a "1" "1" false false|new "" "" true false|gone "" "" false true`, err)
	result, err := c.Import(ctx, "t", ImportOptions{Type: "hash", Merge: true}, pairs("x", "1", "y", strings.Repeat("v", dict.MaxValueLen)))
	check("import", result, ImportResult{Table: "t", Added: 2, Index: 42}, err)
	var snap bytes.Buffer
	err = c.SaveSnapshot(ctx, &snap)
	check("save", snap.Len(), 800000, err)
	names, err := c.RestoreSnapshot(ctx, strings.NewReader("file"), []string{"t", "u"})
	check("restore", names, "[t u]", err)
	for names, want := range map[string]string{"t u t": "named twice", "a/b": "table name"} { // the Client sends none of them by itself
		err := c.do(ctx, request{method: "POST", path: "/v1/snapshot", query: url.Values{"table": strings.Fields(names)}, body: strings.NewReader("file")})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("restore of %s: %v", names, err)
		}
	}
	want := "members,join h1,h2:99,leave,remove n3,transfer ,tables,tables,create .. hash 0 0s,create .. hash 9 1h0m0s,set t {MaxEntries:7 ExpireAfter:168h0m0s WriteDeadline:0s MaxStaleness:0s} true,drop t,get true,get false,put,delete,delete,entries,diff," +
		"import {Type:hash Merge:true DryRun:false MaxChange:0 Digest: Way:},save,save late,restore file"
	if got := strings.Join(a.calls, ","); got != want {
		t.Errorf("calls\n got %s\nwant %s", got, want)
	}
}

// TestClient_Errors ensures that every sentinel arrives as its kind, with its text and next step.
func TestClient_Errors(t *testing.T) {
	a := newFake()
	c := serve(t, a, nil)
	for _, tt := range []struct {
		err  error
		kind Kind
	}{
		{fmt.Errorf("write: %w", dict.ErrRetry), Retry},
		{fmt.Errorf("write: %w", dict.ErrUnknownOutcome), UnknownOutcome},
		{fmt.Errorf("write: %w", dict.ErrNoTable), NoTable},
		{fmt.Errorf("write: %w", dict.ErrReadOnly), Config},
		{fmt.Errorf("write: %w", dict.ErrBadSource), BadData},
		{fmt.Errorf("write: %w", context.DeadlineExceeded), Retry},
		{errors.New("write: boom"), Internal},
		{Errorf(Refused, "write: no").Advise("do this"), Refused},
		{Errorf(Exists, "write: it is there"), Exists},
		{Errorf(Denied, "write: no"), Denied},
		{Errorf(NotFound, "write: none"), NotFound},
	} {
		a.mu.Lock()
		a.fail["put"] = tt.err
		a.mu.Unlock()
		err := c.Put(context.Background(), "t", []byte("k"), []byte("v"))
		var e *Error
		if !errors.As(err, &e) || e.Kind != tt.kind || !strings.Contains(e.Text, "write: ") || strings.Contains(e.Text, "nothing was changed") != (tt.kind == Retry) {
			t.Errorf("%v came as %#v, want kind %s", tt.err, err, tt.kind)
		}
	}
	a.fail["drop t"] = dict.ErrNoTable
	var e *Error
	if err := c.DropTable(context.Background(), "t"); !errors.As(err, &e) || e.Kind != NotFound {
		t.Errorf("drop of a missing table: %v, want not found", err)
	}
	if err := c.Put(context.Background(), "bad/name", nil, nil); !errors.As(err, &e) || e.Kind != BadData {
		t.Errorf("bad table name: %v", err)
	}
	if err := c.Put(context.Background(), "t", []byte("a\x00b"), nil); !errors.As(err, &e) || e.Kind != BadData {
		t.Errorf("NUL in a key: %v", err)
	}
}

// TestClient_NoAgent ensures that an agent that is not there, or not ours to ask, is told apart.
func TestClient_NoAgent(t *testing.T) {
	dir := t.TempDir()
	var e *Error
	_, err := NewClient(filepath.Join(dir, "none"), time.Second).Status(context.Background())
	if !errors.As(err, &e) || e.Kind != NoAgent || e.Next == "" {
		t.Errorf("no socket: %#v", err)
	}
	path := filepath.Join(dir, "dead")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	ln.(*net.UnixListener).SetUnlinkOnClose(false)
	ln.Close()
	if _, err := NewClient(path, time.Second).Status(context.Background()); !errors.As(err, &e) || e.Kind != NoAgent {
		t.Errorf("dead socket: %#v", err)
	}
	s, err := Listen(ServerConfig{Path: path, Agent: newFake(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatalf("listen in place of a dead agent: %v", err)
	}
	done := make(chan error)
	go func() { done <- s.Serve() }()
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode of the socket: %v %v, want 0600", info.Mode(), err)
	}
	if _, err := Listen(ServerConfig{Path: path}); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("second agent on one socket: %v", err)
	}
	s.Shutdown(context.Background())
	<-done
	if _, err := os.Lstat(path); err == nil {
		t.Error("the socket is still there after the end")
	}
}

// TestServer_Credentials ensures that the kernel's word about the other end decides.
func TestServer_Credentials(t *testing.T) {
	asked := make(chan int, 1)
	c := serve(t, newFake(), func(cfg *ServerConfig) {
		cfg.Allowed = func(uid int) bool { asked <- uid; return false }
	})
	var e *Error
	if _, err := c.Status(context.Background()); !errors.As(err, &e) || e.Kind != Denied {
		t.Errorf("got %v, want denied", err)
	}
	select {
	case uid := <-asked:
		if uid != os.Geteuid() {
			t.Errorf("the kernel named user %d, we are %d", uid, os.Geteuid())
		}
	default:
		t.Error("nobody was asked about the user")
	}
}

// TestClient_Timeout ensures that a write without an end in time is reported by the agent as one of unknown
// outcome, and that an agent that says nothing at all does not hold the client.
func TestClient_Timeout(t *testing.T) {
	a := newFake()
	a.block = make(chan struct{})
	c := serve(t, a, nil).WithTimeout(50 * time.Millisecond)
	var e *Error
	if err := c.Put(context.Background(), "t", []byte("k"), []byte("v")); !errors.As(err, &e) || e.Kind != UnknownOutcome || !strings.Contains(e.Text, "gave up after 50ms") {
		t.Errorf("slow agent: %#v", err)
	}
	path := filepath.Join(t.TempDir(), "mute")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	mute := NewClient(path, 10*time.Millisecond)
	if err := mute.Put(context.Background(), "t", []byte("k"), []byte("v")); !errors.As(err, &e) || e.Kind != UnknownOutcome || !strings.Contains(e.Text, "no answer") {
		t.Errorf("mute agent, write: %#v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := mute.Status(ctx); !errors.As(err, &e) || e.Kind != Retry || e.Text != "interrupted" {
		t.Errorf("interrupted: %#v", err)
	}
}

// TestServer_CutImport ensures that an upload that breaks off, at whatever point, never becomes an import.
func TestServer_CutImport(t *testing.T) {
	a := newFake()
	c := serve(t, a, nil)
	var whole bytes.Buffer
	out := newStreamWriter(&whole)
	for i := range 50 {
		out.entry(fmt.Appendf(nil, "key%02d", i), []byte("value"))
	}
	out.end(nil)
	post := func(body io.Reader) error {
		return c.do(context.Background(), request{method: "POST", path: "/v1/table/import", query: table("t"), body: body})
	}
	for n := 0; n < whole.Len(); n += 7 {
		// A body that ends early and properly for HTTP: only the missing end of the stream tells.
		var e *Error
		if err := post(bytes.NewReader(whole.Bytes()[:n])); !errors.As(err, &e) || e.Kind != Retry {
			t.Fatalf("cut after %d bytes: %v", n, err)
		}
	}
	// A connection that breaks.
	conn, err := net.Dial("unix", c.path)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(conn, "POST /v1/table/import?name=t HTTP/1.1\r\nHost: agent\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ne\x01kA\r\n")
	conn.Close()
	if a.entries["a"] != "1" || len(a.entries) != 3 {
		t.Errorf("a cut import changed the table: %v", a.entries)
	}
	if err := post(bytes.NewReader(whole.Bytes())); err != nil || len(a.entries) != 50 {
		t.Errorf("whole import: %v, %d entries", err, len(a.entries))
	}
}

// TestClient_CutDownload ensures that a stream of the agent that breaks off is an error.
func TestClient_CutDownload(t *testing.T) {
	a := newFake()
	a.fail["save late"] = errors.New("disk on fire")
	c := serve(t, a, nil)
	var e *Error
	if err := c.SaveSnapshot(context.Background(), io.Discard); !errors.As(err, &e) || e.Kind != Retry {
		t.Errorf("cut snapshot: %v", err)
	}
	a.fail["save"] = fmt.Errorf("save: %w", dict.ErrRetry)
	if err := c.SaveSnapshot(context.Background(), io.Discard); !errors.As(err, &e) || e.Kind != Retry || !strings.Contains(e.Text, "save") {
		t.Errorf("snapshot that did not begin: %v", err)
	}
	full := serve(t, newFake(), nil)
	if err := full.SaveSnapshot(context.Background(), failingWriter{}); !errors.As(err, &e) || !strings.Contains(e.Text, "no space") {
		t.Errorf("full disk: %v", err)
	}
}

type failingWriter struct{}

func (failingWriter) Write([]byte) (int, error) { return 0, errors.New("no space") }

// TestClient_OtherVersion ensures that an agent with another version of the API is named as such.
func TestClient_OtherVersion(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set(apiHeader, "2")
		w.Write([]byte("{}"))
	})}
	done := make(chan struct{})
	go func() { defer close(done); srv.Serve(ln) }()
	defer func() { srv.Close(); <-done }()
	var e *Error
	if _, err := NewClient(path, time.Second).Status(context.Background()); !errors.As(err, &e) || !strings.Contains(e.Text, `version "2"`) {
		t.Errorf("got %v", err)
	}
}

// TestServer_UnknownRequest ensures that what a newer client asks is refused by name.
func TestServer_UnknownRequest(t *testing.T) {
	c := serve(t, newFake(), nil)
	var e *Error
	if err := c.do(context.Background(), request{method: "GET", path: "/v1/frobnicate"}); !errors.As(err, &e) || e.Kind != Usage || !strings.Contains(e.Text, "/v1/frobnicate") {
		t.Errorf("got %v", err)
	}
	if err := c.do(context.Background(), request{method: "POST", path: "/v1/join", json: map[string]int{"nosuch": 1}}); !errors.As(err, &e) || e.Kind != Usage {
		t.Errorf("unknown field: %v", err)
	}
}

// knowing is an agent whose tables have the digest "known".
type knowing struct{ *fakeAgent }

func (a knowing) Import(ctx context.Context, table string, opts ImportOptions, entries iter.Seq2[[]byte, []byte]) (ImportResult, error) {
	if opts.Digest == "known" {
		return ImportResult{Unchanged: 1}, nil
	}
	result := ImportResult{}
	for range entries {
		result.Added++
	}
	return result, nil
}

// TestClient_ImportKnown ensures that entries are sent only to an agent that wants them.
func TestClient_ImportKnown(t *testing.T) {
	c := serve(t, knowing{newFake()}, nil)
	const count = 50_000
	for digest, want := range map[string]ImportResult{
		"known": {Unchanged: 1}, "other": {Added: count}, "": {Added: count},
	} {
		read := 0
		got, err := c.Import(t.Context(), "t", ImportOptions{Digest: digest}, func(yield func(k, v []byte) bool) {
			for i := range count {
				if read++; !yield(fmt.Appendf(nil, "user%06d@example.com", i), []byte("mailbox")) {
					return
				}
			}
		})
		if got.Added != want.Added || got.Unchanged != want.Unchanged || err != nil {
			t.Errorf("digest %q: %+v %v", digest, got, err)
		}
		if digest == "known" && read > count/10 { // a buffer full of them waits
			t.Errorf("%d entries were made ready for an agent that has them", read)
		}
	}
}

func (a *fakeAgent) Watch(ctx context.Context, _ string, from *uint64, emit func(Event) error, idle func(uint64) error) error {
	if from != nil && *from < 5 {
		return Errorf(NotFound, "forgotten")
	}
	if err := errors.Join(emit(Event{Index: 7, Key: []byte("k"), New: []byte("v"), HasNew: true}), idle(7), emit(Event{Index: 8, Key: []byte("k"), HadOld: true, Old: []byte("v")})); err != nil {
		return err
	}
	<-ctx.Done()
	return context.Cause(ctx)
}

func (a *fakeAgent) Explain(_ context.Context, table string, key []byte, _ bool) (Explained, error) {
	return Explained{Table: table, Key: key, Asked: key, Found: true, Line: 3, Node: "n1"}, nil
}

func (a *fakeAgent) History(context.Context, string, []byte) (History, error) {
	return History{Events: []Event{{Index: 7, Key: []byte("k"), New: []byte("v"), HasNew: true}}, Begin: 3}, nil
}

func (a *fakeAgent) RestoreVersion(_ context.Context, _ string, version uint64) (ImportResult, error) {
	return ImportResult{Changed: int(version)}, nil
}

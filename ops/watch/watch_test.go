package watch_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"postraft/ops"
	"postraft/ops/watch"
)

// fake is an agent that says what it is told to.
type fake struct {
	status  ops.Status
	vitals  watch.Vitals
	members []ops.Member
	err     error
	asked   atomic.Int32
}

func (f *fake) Status() ops.Status   { return f.status }
func (f *fake) Vitals() watch.Vitals { return f.vitals }
func (f *fake) Members(context.Context) ([]ops.Member, error) {
	f.asked.Add(1)
	return f.members, f.err
}

// well is an agent with something of everything, and nothing wrong.
func well() *fake {
	return &fake{
		status: ops.Status{
			Name: "n1", State: "follower", Role: "voter", Leader: "n2", Term: 3, AppliedIndex: 10, CommitIndex: 10, LastLogIndex: 11, TablesIndex: 10,
			Ready: true, Voters: []string{"n1", "n2", "n3"}, VotersWanted: 3, Alive: []string{"n1", "n2"}, Failed: []string{"n3"}, LastContactMS: 1500,
			Tables: []ops.TableInfo{{Name: "virtual", Type: "hash", Entries: 4, Bytes: 144, Version: 9}}, Address: "192.0.2.1:7950", Gossip: "192.0.2.1:7951",
		},
		vitals: watch.Vitals{
			Events: map[string]uint64{"election": 2}, Certificate: time.Unix(1e9, 0),
			Snapshots: &watch.Snapshots{Saved: 3, Failed: 1, Every: time.Hour, Current: time.Unix(1e9, 0)},
			Services: []watch.Service{{Name: "proxymap", Open: 2, Connections: 7, Tables: []watch.Table{
				{Name: "virtual", Lookups: watch.Results{OK: 5, NoKey: 6, Retry: 7, Config: 8}, Denied: 9},
			}}},
			Lookup: watch.Latency{Buckets: map[float64]uint64{0.001: 20, 0.1: 26}, Count: 26, Sum: time.Second},
		},
		members: []ops.Member{{Name: "n1", Role: "voter", Alive: "alive", AppliedIndex: 10}, {Name: "n3", Role: "voter", Alive: "failed"}},
	}
}

func start(t *testing.T, a watch.Agent) *watch.Server {
	t.Helper()
	s, err := watch.Listen(watch.Config{Address: "127.0.0.1:0", Version: "1.2.3", Logger: slog.New(slog.NewTextHandler(t.Output(), nil)), HeaderTimeout: 500 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Serve() }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		http.DefaultClient.CloseIdleConnections()
		if err := errors.Join(s.Shutdown(ctx), <-ended); err != nil {
			t.Error(err)
		}
	})
	if a != nil {
		s.Watch(a)
	}
	return s
}

func get(t *testing.T, s *watch.Server, path string) (int, string) {
	t.Helper()
	resp, err := http.Get("http://" + s.Address() + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// TestMetrics_Values ensures that what the agent says is in the metrics, under names that follow the conventions.
func TestMetrics_Values(t *testing.T) {
	s := start(t, well())
	code, body := get(t, s, "/metrics")
	if code != 200 {
		t.Fatalf("%d %s", code, body)
	}
	for _, want := range []string{
		`postraft_build_info{goversion="go`, `postraft_ready 1`, `postraft_staleness_seconds 1.5`, `postraft_raft_state{state="follower"} 1`, `postraft_raft_state{state="leader"} 0`,
		`postraft_raft_term 3`, `postraft_raft_voters 3`, `postraft_members{state="alive"} 2`, `postraft_members{state="failed"} 1`,
		`postraft_table_entries{table="virtual"} 4`, `postraft_lookups_total{result="hit",service="proxymap",table="virtual"} 5`,
		`postraft_lookups_total{result="miss",service="proxymap",table="virtual"} 6`, `postraft_lookups_total{result="retry",service="proxymap",table="virtual"} 7`,
		`postraft_denials_total{service="proxymap",table="virtual"} 9`, `postraft_proxymap_connections{service="proxymap"} 2`,
		`postraft_lookup_duration_seconds_bucket{le="0.1"} 26`, `postraft_lookup_duration_seconds_sum 1`, `postraft_events_total{event="election"} 2`,
		`postraft_snapshots_total{result="failed"} 1`, `postraft_snapshot_interval_seconds 3600`, `postraft_certificate_expiry_timestamp_seconds 1e+09`,
		`go_goroutines `, `process_open_fds `,
	} {
		if !strings.Contains(body, "\n"+want) {
			t.Errorf("there is no %s", want)
		}
	}
	problems, err := promlint.New(strings.NewReader(body)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, "postraft_") {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
}

// TestServer_WithoutNode ensures that all paths answer while there is no node, and say why.
func TestServer_WithoutNode(t *testing.T) {
	s := start(t, nil)
	for range 2 {
		if code, body := get(t, s, "/readyz"); code != 503 || !strings.Contains(body, "the agent") {
			t.Errorf("readyz: %d %s", code, body)
		}
		if code, body := get(t, s, "/livez"); code != 200 || body != "alive\n" {
			t.Errorf("livez: %d %s", code, body)
		}
		if code, body := get(t, s, "/metrics"); code != 200 || strings.Contains(body, "postraft_ready") || !strings.Contains(body, "postraft_build_info") {
			t.Errorf("metrics: %d %s", code, body)
		}
		if code, body := get(t, s, "/"); code != 200 || !strings.Contains(body, "the agent") {
			t.Errorf("page: %d %s", code, body)
		}
		s.Watch(well())
		if code, body := get(t, s, "/readyz"); code != 200 || body != "ready\n" {
			t.Errorf("readyz: %d %s", code, body)
		}
		s.Unwatch("the agent stops")
	}
}

// TestReadyz_Reasons ensures that each reason is there, one a line.
func TestReadyz_Reasons(t *testing.T) {
	a := well()
	a.status.Ready, a.status.NotReady, a.status.Leader, a.status.Behind, a.vitals.DiskFailing = false, "node has not heard of a leader for longer than max-staleness", "", 12345, true
	a.status.LastContactMS = 90000
	s := start(t, a)
	code, body := get(t, s, "/readyz")
	want := `lookups are not answered: node has not heard of a leader for longer than max-staleness
no leader, for 1m30s: lookups go on, changes wait
behind by 12345 entries
disk failing: this node cannot write
`
	if code != 503 || body != want {
		t.Errorf("%d\n%s", code, body)
	}
}

// TestPage_ForAPerson ensures that the page has the warnings before the rest, escapes what it is told, and asks the
// members rarely however many look.
func TestPage_ForAPerson(t *testing.T) {
	a := well()
	a.status.Warnings = []string{"tables of <script>alert(1)</script> differ"}
	s := start(t, a)
	code, body := get(t, s, "/")
	if code != 200 {
		t.Fatalf("%d %s", code, body)
	}
	at := 0
	for _, want := range []string{`http-equiv="refresh"`, "<h1>n1</h1>", "tables of &lt;script&gt;", "<h2>This node</h2>", "follower, voter, term 3", "n2, heard of 1.5s ago", "<h2>Members</h2>", `class="failed">failed`, "<h2>Tables</h2>", "virtual", "144", "proxymap", "1.2.3"} {
		i := strings.Index(body[at:], want)
		if i < 0 {
			t.Fatalf("there is no %s behind what comes before it:\n%s", want, body)
		}
		at += i
	}
	if strings.Contains(body, "<script") {
		t.Error("there is a script")
	}
	for range 20 {
		get(t, s, "/")
	}
	if n := a.asked.Load(); n > 3 {
		t.Errorf("the members were asked %d times", n)
	}
	a = well()
	a.err = errors.New("nobody knows")
	s.Watch(a)
	if _, body := get(t, s, "/"); !strings.Contains(body, "nobody knows") {
		t.Errorf("without members: %s", body)
	}
}

// TestServer_OnlyReads ensures that nothing but GET and HEAD is answered, and nothing but the four paths.
func TestServer_OnlyReads(t *testing.T) {
	s := start(t, well())
	for _, method := range []string{"POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH"} {
		req, err := http.NewRequest(method, "http://"+s.Address()+"/metrics", strings.NewReader("x=1"))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != 405 || resp.Header.Get("Allow") != "GET, HEAD" {
			t.Errorf("%s: %s", method, resp.Status)
		}
	}
	for _, path := range []string{"/", "/metrics", "/livez", "/readyz"} {
		resp, err := http.Head("http://" + s.Address() + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != 200 || !strings.Contains(resp.Header.Get("Content-Security-Policy"), "default-src 'none'") {
			t.Errorf("HEAD %s: %s %v", path, resp.Status, resp.Header)
		}
	}
	for _, path := range []string{"/debug/pprof/", "/metrics/", "/../etc/passwd", "/v1/status", "//"} {
		if code, _ := get(t, s, path); code != 404 {
			t.Errorf("%s: %d", path, code)
		}
	}
}

// TestServer_HostileClients ensures that a header without end is refused, and that more clients than there is room
// for, who say nothing, are let go so that others are answered.
func TestServer_HostileClients(t *testing.T) {
	s := start(t, well())
	conn, err := net.Dial("tcp", s.Address())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	go io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\nX: "+strings.Repeat("x", 1<<20))
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("large header: %v %v", resp, err)
	}
	for range 300 {
		mute, err := net.Dial("tcp", s.Address())
		if err != nil {
			t.Fatal(err)
		}
		defer mute.Close()
	}
	client := http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err = client.Get("http://" + s.Address() + "/livez")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 200 {
		t.Errorf("behind mute clients: %s", resp.Status)
	}
}

// TestListen_Taken ensures that an address that is in use is an error that names it, and that Shutdown frees it,
// also where Serve was never called.
func TestListen_Taken(t *testing.T) {
	cfg := watch.Config{Address: "127.0.0.1:0", Logger: slog.New(slog.DiscardHandler)}
	first, err := watch.Listen(cfg)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Address = first.Address()
	if _, err := watch.Listen(cfg); err == nil || !strings.Contains(err.Error(), cfg.Address) {
		t.Errorf("taken: %v", err)
	}
	if err := first.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
	second, err := watch.Listen(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := second.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
}

func ExampleServer() {
	s, err := watch.Listen(watch.Config{Address: "127.0.0.1:0", Version: "1.2.3", Logger: slog.New(slog.NewTextHandler(os.Stderr, nil))})
	if err != nil {
		fmt.Println(err)
		return
	}
	done := make(chan error)
	go func() { done <- s.Serve() }()
	resp, err := http.Get("http://" + s.Address() + "/readyz")
	if err != nil {
		fmt.Println(err)
		return
	}
	io.Copy(os.Stdout, resp.Body)
	resp.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	s.Shutdown(context.Background())
	<-done
	// Output: the agent starts: its tables are being read from disk
}

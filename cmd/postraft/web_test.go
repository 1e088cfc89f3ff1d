package main

import (
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"postraft/cluster/clustertest"
	"postraft/cluster/trust"
)

// fetch returns the body of a page that must be there.
func fetch(t *testing.T, url string) string {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s %v %s", url, resp.Status, err, b)
	}
	return string(b)
}

// TestHTTP_OfAnAgent ensures that an agent shows its metrics where it is told to, refuses to start where the address
// that was chosen is taken, and goes on without where nobody has chosen it.
func TestHTTP_OfAnAgent(t *testing.T) {
	address := clustertest.FreePort(t)
	socket := filepath.Join(shortDir(t), "proxywrite")
	n := startAgent(t, "--http", address, "--proxywrite-socket", socket, "--approve-all-raft", "--mail-version", "3.7")
	n.ok("table", "create", "t")
	n.ok("put", "t", "user@example.com", "value@example.com")
	p := dialProxymap(t, socket)
	p.lookup("raft:t", "user@example.com")
	p.lookup("raft:t", "nobody@example.com")
	p.lookup("raft:invented", "k")
	body := fetch(t, "http://"+address+"/metrics")
	for _, want := range []string{
		`postraft_ready 1`, `postraft_raft_state{state="leader"} 1`, `postraft_table_entries{table="t"} 1`, `postraft_lookups_total{result="hit",service="proxywrite",table="t"} 1`,
		`postraft_lookups_total{result="miss",service="proxywrite",table="t"} 1`, `postraft_lookups_total{result="retry",service="proxywrite",table=""} 1`,
		`postraft_lookup_duration_seconds_count 1`, `postraft_proxymap_connections{service="proxywrite"} 1`, `postraft_events_total{event="election"} 1`, `process_resident_memory_bytes `,
	} {
		if !strings.Contains(body, "\n"+want) {
			t.Errorf("there is no %s", want)
		}
	}
	for _, hidden := range []string{"user@example.com", "value@example.com", "invented"} {
		if page := fetch(t, "http://"+address+"/"); strings.Contains(body, hidden) || strings.Contains(page, hidden) {
			t.Errorf("%s is shown", hidden)
		}
	}
	if got := fetch(t, "http://"+address+"/readyz"); got != "ready\n" {
		t.Errorf("readyz: %s", got)
	}

	dir := shortDir(t)
	if err := os.WriteFile(filepath.Join(dir, "secret"), []byte(trust.NewSecret()), 0o600); err != nil {
		t.Fatal(err)
	}
	cli{t, dir}.fails(exitConfig, []string{"postraft: agent: listen for HTTP: ", address, "--http ''"}, "agent", "--config", os.DevNull, "--name", "n1", "--data-dir", filepath.Join(dir, "data"),
		"--run-dir", filepath.Join(dir, "run"), "--secret-file", filepath.Join(dir, "secret"), "--bind", clustertest.FreePort(t), "--gossip", clustertest.FreePort(t), "--http", address)
	s := newSettings()
	if taken, err := net.Listen("tcp", s.http); err == nil { // otherwise it is taken already
		defer taken.Close()
	}
	var log output
	logger, done, err := newLogger(s, &slog.LevelVar{}, &log)
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	if w, err := openWeb(s, logger); w != nil || err != nil || !strings.Contains(log.String(), "no metrics and no page") {
		t.Errorf("taken, by nobody's choice: %v %v %s", w, err, log.String())
	}
}

package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"postraft/cluster/clustertest"
	"postraft/cluster/trust"
	"postraft/cluster/trust/trusttest"
)

var (
	metricName = regexp.MustCompile(`postraft_[a-z_]+`)
	parts      = regexp.MustCompile(`_(bucket|sum|count)$`)
	equalLabel = regexp.MustCompile(`[a-z]+=~?"([a-z_|]+)"`)
)

// TestMetrics_Described ensures that every metric of an agent that has all of them is in the manual and no other one is,
// and that the alerts and the dashboard ask for metrics and labels that exist.
func TestMetrics_Described(t *testing.T) {
	exposed, body := everyMetric(t)
	man := distFile(t, "man/postraft-metrics.7")
	described := map[string]bool{}
	for line := range strings.Lines(man) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), ".B "); ok && strings.HasPrefix(name, "postraft_") {
			described[name] = true
		}
	}
	if a, b := slices.Sorted(maps.Keys(exposed)), slices.Sorted(maps.Keys(described)); !slices.Equal(a, b) {
		t.Errorf("exposed are\n%v\nin postraft-metrics(7) are\n%v", a, b)
	}
	for event := range eventsOf(body) {
		if !strings.Contains(man, "\n.B "+event+"\n") {
			t.Errorf("postraft-metrics(7) does not describe the event %s", event)
		}
	}
	for _, file := range []string{"prometheus/postraft.rules.yml", "grafana/postraft.json"} {
		text := distFile(t, file)
		used := map[string]bool{}
		for _, expr := range expressions(t, file, text) {
			for _, name := range metricName.FindAllString(expr, -1) {
				if name = baseName(name, exposed); !exposed[name] {
					t.Errorf("%s asks for %s, which does not exist", file, name)
				}
				used[name] = true
			}
			for _, m := range equalLabel.FindAllStringSubmatch(strings.ReplaceAll(expr, `job="postraft"`, ""), -1) {
				for value := range strings.SplitSeq(m[1], "|") {
					if !strings.Contains(body, `="`+value+`"`) {
						t.Errorf("%s asks for the label value %q, which does not exist: %s", file, value, expr)
					}
				}
			}
		}
		if len(used) < 10 {
			t.Errorf("%s uses only %d metrics: was it read?", file, len(used))
		}
	}
}

// baseName takes the part of a histogram from its name.
func baseName(name string, exposed map[string]bool) string {
	if base := parts.ReplaceAllString(name, ""); !exposed[name] && exposed[base] {
		return base
	}
	return name
}

func distFile(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "..", "ops", "dist", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// expressions returns what a file asks of Prometheus.
func expressions(t *testing.T, file, text string) (list []string) {
	t.Helper()
	if strings.HasSuffix(file, ".yml") {
		for line := range strings.Lines(text) {
			if expr, ok := strings.CutPrefix(strings.TrimSpace(line), "expr: "); ok {
				list = append(list, expr)
			}
		}
		return list
	}
	var dashboard struct {
		Panels []struct {
			Targets []struct{ Expr string }
		}
		Templating struct {
			List []struct{ Definition string }
		}
	}
	if err := json.Unmarshal([]byte(text), &dashboard); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	for _, p := range dashboard.Panels {
		for _, target := range p.Targets {
			list = append(list, target.Expr)
		}
	}
	for _, v := range dashboard.Templating.List {
		list = append(list, v.Definition)
	}
	return list
}

func eventsOf(body string) map[string]bool {
	events := map[string]bool{}
	for _, m := range regexp.MustCompile(`postraft_events_total\{event="([a-z_]+)"\}`).FindAllStringSubmatch(body, -1) {
		events[m[1]] = true
	}
	return events
}

// everyMetric returns the names and the scrape of an agent that has certificates, snapshots, a table and a client.
func everyMetric(t *testing.T) (names map[string]bool, body string) {
	t.Helper()
	dir := shortDir(t)
	if err := os.WriteFile(filepath.Join(dir, "secret"), []byte(trust.NewSecret()), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "snapshots"), 0o700); err != nil {
		t.Fatal(err)
	}
	files := trusttest.New(t).Issue("n1", nil)
	address, socket := clustertest.FreePort(t), filepath.Join(dir, "proxywrite")
	n := startAgentIn(t, dir, "--bootstrap-expect", "1", "--http", address, "--snapshot-dir", filepath.Join(dir, "snapshots"), "--snapshot-every", "1s",
		"--tls-cert", files.Cert, "--tls-key", files.Key, "--tls-ca", files.CA, "--proxywrite-socket", socket, "--approve-all-raft", "--mail-version", "3.7")
	n.ok("table", "create", "t", "--expire-after", "1d")
	dialProxymap(t, socket).lookup("raft:t", "k")
	clustertest.Eventually(t, "a snapshot was saved", func() error {
		body = fetch(t, "http://"+address+"/metrics")
		if !strings.Contains(body, "\npostraft_snapshot_current_timestamp_seconds ") {
			return fmt.Errorf("it is not told of")
		}
		return nil
	})
	names = map[string]bool{}
	for line := range strings.Lines(body) {
		if words := strings.Fields(line); len(words) > 2 && words[1] == "TYPE" && strings.HasPrefix(words[2], "postraft_") {
			names[words[2]] = true
		}
	}
	http.DefaultClient.CloseIdleConnections()
	return names, body
}

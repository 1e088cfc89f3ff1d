package watch

import (
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"postraft/ops"
)

// A metric is declared once, here, with what it says. Labels are bounded: services and tables as their counters
// are, events and the rest by this program.
type metric struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
}

func gauge(name, help string, labels ...string) metric {
	return metric{prometheus.NewDesc("postraft_"+name, help, labels, nil), prometheus.GaugeValue}
}

func counter(name, help string, labels ...string) metric {
	return metric{prometheus.NewDesc("postraft_"+name, help, labels, nil), prometheus.CounterValue}
}

// declared are the metrics of a node.
type declared struct {
	ready, staleness, warnings, alarms                           metric
	raftState, raftTerm, raftLeaderKnown                         metric
	commitIndex, appliedIndex, lastLogIndex, tablesIndex, behind metric
	voters, votersWanted, members, gossipHealth                  metric
	tableEntries, tableBytes, tableVersion                       metric
	tableExpired, tableEvicted                                   metric
	lookups, updates, deletes, sequences, denials                metric
	lookupSeconds, writeSeconds                                  metric
	connections, connectionsTotal, malformed, local              metric
	events                                                       metric
	diskFailing, diskBusy, diskSlowest                           metric
	certificateExpiry, snapshots, snapshotEvery, snapshotCurrent metric
}

func declare() *declared {
	return &declared{
		ready:     gauge("ready", "1 if lookups are answered, 0 if they get RETRY."),
		staleness: gauge("staleness_seconds", "Time since this node heard of a leader, or since it started if it never did; 0 on the leader."),
		warnings:  gauge("warnings", "Number of warnings that postraft status shows."),
		alarms:    gauge("alarms", "What this node, as the leader, has against members: those whose tables differ."),

		raftState:       gauge("raft_state", "1 for the state of this node: leader, follower or candidate.", "state"),
		raftTerm:        gauge("raft_term", "Term of raft: it grows with each election."),
		raftLeaderKnown: gauge("raft_leader_known", "1 if this node knows a leader."),

		commitIndex:  gauge("raft_commit_index", "Newest entry that this node knows to be committed."),
		appliedIndex: gauge("raft_applied_index", "Newest entry that raft has handed to the tables."),
		lastLogIndex: gauge("raft_last_log_index", "Newest entry in the log of this node."),
		tablesIndex:  gauge("tables_index", "Newest entry that the tables of this node show."),
		behind:       gauge("behind_entries", "Entries that this node knows to be committed and that its tables do not show yet."),

		voters:       gauge("raft_voters", "Voters of the cluster."),
		votersWanted: gauge("raft_voters_wanted", "Voters that the cluster keeps, or as many members as may vote if they are fewer."),
		members:      gauge("members", "Members of the cluster, by whether they answer: alive or failed.", "state"),
		gossipHealth: gauge("gossip_health_score", "How badly the gossip of this node does: 0 is well."),

		tableEntries: gauge("table_entries", "Entries of a table.", "table"),
		tableBytes:   gauge("table_bytes", "Bytes of the keys and values of a table.", "table"),
		tableVersion: gauge("table_version", "Raft index of the last change of a table.", "table"),
		tableExpired: counter("table_expired_entries_total", "Entries that went because of their age. Only of tables with max-entries or expire-after.", "table"),
		tableEvicted: counter("table_evicted_entries_total", "Entries that went to make room. Only of tables with max-entries or expire-after.", "table"),

		lookups:   counter("lookups_total", "Lookups in raft tables, by answer: hit, miss, retry, config.", "service", "table", "result"),
		updates:   counter("updates_total", "Updates of raft tables, by answer: ok, retry, config.", "service", "table", "result"),
		deletes:   counter("deletes_total", "Deletes in raft tables, by answer: ok, miss, retry, config.", "service", "table", "result"),
		sequences: counter("sequences_total", "Steps through raft tables, by answer: ok, end, retry, config.", "service", "table", "result"),
		denials:   counter("denials_total", "Requests denied because the table is not approved for the service, or the service does not write.", "service", "table"),

		lookupSeconds: metric{desc: prometheus.NewDesc("postraft_lookup_duration_seconds", "Time from the arrival of a lookup to its reply, of one lookup in sixteen.", nil, nil)},
		writeSeconds:  metric{desc: prometheus.NewDesc("postraft_write_duration_seconds", "Time from the arrival of an update or delete to its reply.", nil, nil)},

		connections:      gauge("proxymap_connections", "Open connections of Postfix processes.", "service"),
		connectionsTotal: counter("proxymap_connections_total", "Connections of Postfix processes.", "service"),
		malformed:        counter("proxymap_malformed_requests_total", "Requests that cannot be understood.", "service"),
		local:            counter("proxymap_local_requests_total", "Requests for local tables that were passed to the stock proxymap: answered or failed.", "service", "result"),

		events: counter("events_total", "What the guards of this node have seen and done.", "event"),

		diskFailing: gauge("disk_failing", "1 while this node cannot write to its data directory."),
		diskBusy:    gauge("disk_write_seconds", "How long the oldest write under way has taken so far."),
		diskSlowest: gauge("disk_slowest_write_seconds", "The slowest write of the last ten seconds."),

		certificateExpiry: gauge("certificate_expiry_timestamp_seconds", "When the operator's certificate of this node, or one above it, ends. Only with such a certificate."),
		snapshots:         counter("snapshots_total", "Automatic snapshots: saved or failed. Only with snapshot_dir.", "result"),
		snapshotEvery:     gauge("snapshot_interval_seconds", "How often an automatic snapshot is due. Only with snapshot_dir."),
		snapshotCurrent:   gauge("snapshot_current_timestamp_seconds", "When this node, as the leader, last knew its newest automatic snapshot to hold all changes. Only with snapshot_dir, once it has."),
	}
}

// newRegistry returns a registry of all metrics. agent returns what is watched, nil while there is nothing.
func newRegistry(version string, agent func() Agent) *prometheus.Registry {
	r := prometheus.NewRegistry()
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "postraft_build_info", Help: "1, with the version of the program.",
		ConstLabels: prometheus.Labels{"version": version, "goversion": runtime.Version()},
	})
	build.Set(1)
	r.MustRegister(build, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), &collector{declare(), agent})
	return r
}

// A collector makes the metrics of a node at the time of a scrape.
type collector struct {
	*declared
	agent func() Agent
}

// Describe implements prometheus.Collector. It names nothing, so the registry checks each scrape instead.
func (c *collector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	agent := c.agent()
	if agent == nil {
		return
	}
	out := output{ch}
	c.status(out, agent.Status())
	v := agent.Vitals()
	c.vitals(out, &v)
	for i := range v.Services {
		c.service(out, &v.Services[i])
	}
	out.histogram(c.lookupSeconds, v.Lookup)
	out.histogram(c.writeSeconds, v.Write)
}

func (c *collector) status(out output, s ops.Status) {
	out.yes(c.ready, s.Ready)
	out.value(c.staleness, time.Duration(s.LastContactMS*int64(time.Millisecond)).Seconds())
	out.value(c.warnings, float64(len(s.Warnings)))
	for _, state := range []string{"leader", "follower", "candidate"} {
		out.yes(c.raftState, s.State == state, state)
	}
	out.value(c.raftTerm, float64(s.Term))
	out.yes(c.raftLeaderKnown, s.Leader != "")
	out.value(c.commitIndex, float64(s.CommitIndex))
	out.value(c.appliedIndex, float64(s.AppliedIndex))
	out.value(c.lastLogIndex, float64(s.LastLogIndex))
	out.value(c.tablesIndex, float64(s.TablesIndex))
	out.value(c.behind, float64(s.Behind))
	out.value(c.voters, float64(len(s.Voters)))
	out.value(c.votersWanted, float64(s.VotersWanted))
	out.value(c.members, float64(len(s.Alive)), "alive")
	out.value(c.members, float64(len(s.Failed)), "failed")
	for _, t := range s.Tables {
		out.value(c.tableEntries, float64(t.Entries), t.Name)
		out.value(c.tableBytes, float64(t.Bytes), t.Name)
		out.value(c.tableVersion, float64(t.Version), t.Name)
		if t.Settings.Settings().Bounded() {
			out.value(c.tableExpired, float64(t.Expired), t.Name)
			out.value(c.tableEvicted, float64(t.Evicted), t.Name)
		}
	}
}

func (c *collector) vitals(out output, v *Vitals) {
	for event, n := range v.Events {
		out.value(c.events, float64(n), event)
	}
	out.value(c.alarms, float64(v.Alarms))
	out.value(c.gossipHealth, float64(v.GossipHealth))
	out.yes(c.diskFailing, v.DiskFailing)
	out.value(c.diskBusy, v.DiskBusy.Seconds())
	out.value(c.diskSlowest, v.DiskSlowest.Seconds())
	if !v.Certificate.IsZero() {
		out.value(c.certificateExpiry, float64(v.Certificate.Unix()))
	}
	if s := v.Snapshots; s != nil {
		out.value(c.snapshots, float64(s.Saved), "saved")
		out.value(c.snapshots, float64(s.Failed), "failed")
		out.value(c.snapshotEvery, s.Every.Seconds())
		if !s.Current.IsZero() {
			out.value(c.snapshotCurrent, float64(s.Current.Unix()))
		}
	}
}

func (c *collector) service(out output, s *Service) {
	out.value(c.connections, float64(s.Open), s.Name)
	out.value(c.connectionsTotal, float64(s.Connections), s.Name)
	out.value(c.malformed, float64(s.Malformed), s.Name)
	out.value(c.local, float64(s.Passed), s.Name, "answered")
	out.value(c.local, float64(s.NotPassed), s.Name, "failed")
	for i := range s.Tables {
		t := &s.Tables[i]
		out.results(c.lookups, t.Lookups, "hit", "miss", s.Name, t.Name)
		out.results(c.updates, t.Updates, "ok", "", s.Name, t.Name)
		out.results(c.deletes, t.Deletes, "ok", "miss", s.Name, t.Name)
		out.results(c.sequences, t.Sequences, "ok", "end", s.Name, t.Name)
		out.value(c.denials, float64(t.Denied), s.Name, t.Name)
	}
}

// An output takes the metrics of one scrape.
type output struct{ ch chan<- prometheus.Metric }

func (o output) value(m metric, v float64, labels ...string) {
	o.ch <- prometheus.MustNewConstMetric(m.desc, m.kind, v, labels...)
}

func (o output) yes(m metric, yes bool, labels ...string) {
	v := 0.0
	if yes {
		v = 1
	}
	o.value(m, v, labels...)
}

// results writes a counter for each answer. noKey is empty where there is no such answer.
func (o output) results(m metric, r Results, ok, noKey, service, table string) {
	o.value(m, float64(r.OK), service, table, ok)
	if noKey != "" {
		o.value(m, float64(r.NoKey), service, table, noKey)
	}
	o.value(m, float64(r.Retry), service, table, "retry")
	o.value(m, float64(r.Config), service, table, "config")
}

func (o output) histogram(m metric, l Latency) {
	o.ch <- prometheus.MustNewConstHistogram(m.desc, l.Count, l.Sum.Seconds(), l.Buckets)
}

package main

import (
	"context"
	"log/slog"
	"time"

	"postraft/cluster"
	"postraft/ops"
	"postraft/ops/watch"
	"postraft/proxy"
)

// A web is the HTTP server of the agent's process, which outlives the node. A nil one is off.
type web struct {
	server *watch.Server
	done   chan struct{}
}

// openWeb starts the server, if there is to be one. Mail does not stop for it: where nobody has asked for the
// address, that it is taken is told and no more.
func openWeb(s *settings, log *slog.Logger) (*web, error) {
	if s.http == "" {
		return nil, nil
	}
	server, err := watch.Listen(watch.Config{Address: s.http, Version: version, Logger: log})
	if err != nil {
		if s.origin["http"] == "" {
			log.Warn("no metrics and no page: choose another address with --http, or none with --http ''", "err", err)
			return nil, nil
		}
		return nil, configError("%v", err).Advise("choose another address with --http, or none with --http ''")
	}
	w := &web{server, make(chan struct{})}
	go func() { // close waits for it
		defer close(w.done)
		if err := server.Serve(); err != nil {
			log.Error("no metrics and no page any more", "err", err)
		}
	}()
	return w, nil
}

func (w *web) show(a watch.Agent) {
	if w != nil {
		w.server.Watch(a)
	}
}

func (w *web) hide() {
	if w != nil {
		w.server.Unwatch("the agent has ended its node, and stops or begins anew")
	}
}

func (w *web) close() {
	if w == nil {
		return
	}
	bounded(200*time.Millisecond, func(ctx context.Context) { w.server.Shutdown(ctx) }) // who is still asking is cut off
	<-w.done
}

// watched is a node as those who watch it want it.
type watched struct {
	node  *cluster.Node
	proxy *proxy.Server
	auto  *ops.AutoSnapshots // nil: off

	operated operated
}

var _ watch.Agent = watched{}

func (w watched) Status() ops.Status { return w.operated.Status() }

func (w watched) Members(ctx context.Context) ([]ops.Member, error) {
	return w.operated.Members(ctx)
}

func (w watched) Vitals() watch.Vitals {
	s, counts := w.node.Status(), w.proxy.Counts()
	v := watch.Vitals{
		Events: w.node.Events(), Alarms: s.Alarms, GossipHealth: s.GossipHealth,
		DiskFailing: s.Disk != nil, DiskBusy: s.DiskBusy, DiskSlowest: s.DiskSlowest, Certificate: s.Certificate,
		Lookup: latency(counts.Lookup), Write: latency(counts.Write),
	}
	if w.auto != nil {
		saved, failed := w.auto.Counts()
		v.Snapshots = &watch.Snapshots{Saved: saved, Failed: failed, Every: w.auto.Every, Current: w.auto.Current()}
	}
	for _, c := range counts.Services {
		service := watch.Service{
			Name: c.Service, Open: c.Open, Connections: c.Connections, Malformed: c.Malformed, Passed: c.Passed, NotPassed: c.NotPassed,
		}
		for _, t := range c.Tables {
			service.Tables = append(service.Tables, watch.Table{
				Name: t.Table, Denied: t.Denied, Lookups: watch.Results(t.Lookups), Updates: watch.Results(t.Updates),
				Deletes: watch.Results(t.Deletes), Sequences: watch.Results(t.Sequences),
			})
		}
		v.Services = append(v.Services, service)
	}
	return v
}

// latency adds up the buckets.
func latency(l proxy.Latency) watch.Latency {
	out := watch.Latency{Buckets: make(map[float64]uint64, len(proxy.LatencyBounds)), Sum: l.Sum}
	for i, bound := range proxy.LatencyBounds {
		out.Count += l.Counts[i]
		out.Buckets[bound.Seconds()] = out.Count
	}
	out.Count += l.Counts[len(proxy.LatencyBounds)]
	return out
}

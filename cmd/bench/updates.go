package main

import (
	"context"
	"fmt"
	"time"
)

// updates compares replicated updates: through the proxywrite sockets of three agents, and puts at three etcd servers.
// Clients are spread over the three evenly. Both answer once a quorum has the change on disk.
func updates(l *lab, o options) (*section, error) {
	agents, err := l.cluster("a", 3)
	if err != nil {
		return nil, err
	}
	if _, err := agents[0].postraft("table", "create", "virtual"); err != nil {
		return nil, err
	}
	agentProcesses := all(agents)
	etcd, etcdProcesses, err := l.etcd()
	if err != nil {
		return nil, err
	}
	s := &section{
		Title: "Replicated updates",
		Head:  []string{"clients", "server", "updates/s", "p50", "p99", "p99.9", "CPU/update, all three", "to etcd"},
	}
	s.say("Updates of random ones of %s keys, a third of the clients at each of three servers on this machine's one disk. An answer means that a quorum has the change on disk. etcd runs with its defaults; its clients are as lean as ours (HTTP/2 frames by hand, a connection each).", thousands(smallTable))
	byRate := plot{Title: "Replicated updates per second, by clients", Unit: "updates/s", Series: []series{{Name: "postraft"}, {Name: "etcd"}}}
	runs := 0
	for i, clients := range []int{1, 16, 64, 256} {
		l.say("%d clients", clients)
		samples, err := inTurn(l, o, []contestant{
			{"postraft", func(ctx context.Context, d time.Duration) (sample, error) {
				runs++
				callers, err := open(clients, func(i int) (caller, error) {
					conn, err := dialProxymap(agents[i%3].socket("proxywrite"))
					if err != nil {
						return nil, err
					}
					return newUpdate(conn, table, smallTable, (runs*256+i)*10_000), nil
				})
				if err != nil {
					return sample{}, err
				}
				return load(ctx, callers, d, agentProcesses)
			}},
			{"etcd", func(ctx context.Context, d time.Duration) (sample, error) {
				callers, err := open(clients, func(i int) (caller, error) { return dialEtcd(etcd[i%3], smallTable) })
				if err != nil {
					return sample{}, err
				}
				return load(ctx, callers, d, etcdProcesses)
			}},
		})
		if err != nil {
			return nil, err
		}
		s.keep(fmt.Sprint(clients), samples)
		byRate.Groups = append(byRate.Groups, fmt.Sprint(clients))
		for j, name := range []string{"postraft", "etcd"} {
			list := samples[name]
			s.row(fmt.Sprint(clients), name, rate(list).count(), durations(list, p50).duration(), durations(list, p99).duration(), durations(list, p999).duration(),
				short(durations(list, cpu).Median), ratio(list, samples["etcd"], rates).factor())
			byRate.Series[j].Points = append(byRate.Series[j].Points, rate(list))
		}
		s.atLeast(fmt.Sprintf("rate to etcd, %d clients", clients), ratio(samples["postraft"], samples["etcd"], rates).Median, []float64{1.5, 2.5, 4, 8}[i])
	}
	s.Plots = []picture{byRate}
	return s, nil
}

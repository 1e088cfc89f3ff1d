// Command bench measures postraft as a site meets it, in processes and over sockets, beside its peers: the stock
// proxymap(8) with an lmdb table, an echo in Go, which is the practical limit of any such server, etcd, and postmap(1).
// What is compared is measured in turn, several times, in the same run; figures are medians, and each comes with the
// lowest and the highest seen, which is the noise. Lookups need root (a private Postfix instance); what is not installed is
// left out, and the report says so.
//
//	make bench                                    all but the long scenarios, and the Go benchmarks of the parts
//	make bench BENCH='--only lookups --rounds 3'  some of them, in short
//	make bench BENCH=--all                        the long ones too: hours
//	make bench BENCH=--list                       what there is
//
// The scenarios, those that only run by name or with --all marked by *:
//
//	lookups                      in 100,000 entries, at 1, 8 and 64 connections: the agent's socket, master(8)'s
//	                             front end, the stock proxymap, the echo
//	sizes, sizes10m*             in tables of a million and ten million entries, beside those of 100,000
//	updates                      at 1 to 256 clients spread over three agents, beside three etcd servers
//	import, import10m*           into three agents, beside postmap; of ten million lines beside one million
//	memory, memory10m*           of an agent: quiet, and most during imports, snapshots and a restart
//	restart, restart10m*         of a follower until it is ready and looks up rightly, from its log and from a snapshot
//	failover                     how long writes pause when the leader is killed, 20 times
//	disturbed, snapshots*        p99.9 of lookups while an import replaces their table, or raft takes a snapshot
//	followers                    what 3 to 50 nonvoters cost the leader: processor time and bytes, quiet and per write
//	loaded*                      elections in ten minutes in which all processors are busy
//
// --rounds, --time and --loaded say how much is measured; --entries makes the large tables smaller, to try a scenario out.
// The report in --out is bench.md, with plots beside it, and bench.json with all that was measured. It ends with a table of
// what was aimed at and what was seen. The scenario's files are in TMPDIR, which should be on the kind of disk that the agents
// will have.
//
// Clients are part of the machine's load: each is one goroutine of this program, which sends one request and waits
// for the reply. It checks every reply. The same clients drive all servers, so their cost is the same for all, and where
// the machine has few processors it hides a part of the differences.
package main

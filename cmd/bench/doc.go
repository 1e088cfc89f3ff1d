// Command bench measures postraft as a site meets it, in processes and over sockets, beside its peers: the stock
// proxymap(8) with an lmdb table, an echo in Go, which is the practical limit of any such server, etcd, and postmap(1).
// What is compared is measured in turn, several times, in the same run; figures are medians, and each comes with the
// lowest and the highest seen, which is the noise. It needs root (a private Postfix instance) and leaves out, saying so,
// what is not installed.
//
//	go run ./cmd/bench --out bin/bench            all but the long measurements
//	go run ./cmd/bench --only lookups,updates     some of them
//	go run ./cmd/bench --only lookups --rounds 9 --time 5s
//
// The report is bench.md, with plots beside it, and bench.json for programs.
//
// Clients are part of the machine's load: each is one goroutine of this program, which sends one request and waits
// for the reply. It checks every reply. The same clients drive all servers, so their cost is the same for all, and where
// the machine has few processors it hides a part of the differences.
package main

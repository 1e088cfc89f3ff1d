// Package proxy speaks the proxymap(8) protocol of Postfix to Postfix's processes: open, lookup, update,
// delete and sequence on approved tables.
//
// # Wire format
//
// Both directions carry attribute lists, {name NUL value NUL} NUL, without any other framing: a list ends
// with a NUL where a name should begin. A connection begins with the server's announcement, from Postfix
// 3.6 on; then each request is answered by one reply, in turn. Requests that arrive together are answered
// in order.
//
// There are three dialects. Up to Postfix 3.5 the server does not announce itself; the owner of a Service
// has to know. Up to 3.10 a request carries "flags"; from 3.11 on it carries "instance_flags" and, unless it
// is an open, "flags", and so does every reply: that is seen request by request.
//
// # Answers
//
//	OK      done
//	NOKEY   surely not there
//	RETRY   cannot be known now: the client defers its mail
//	BAD     the request is malformed
//	DENY    the table is not approved, or the service only reads
//	CONFIG  will not go away by itself
//
// An open of an approved table is OK at once, whatever the state of the cluster, for a Postfix client takes
// only OK, BAD and DENY there; after that, BAD and DENY end the asking process, so no state that can pass is
// ever answered by them. Wherever the answer is not known, it is RETRY and never NOKEY.
//
// # One connection, several servers
//
// Each request names its table and flags in full, so between two of them a connection can go from one server
// to the next. ServeHandover begins where another server left off, and says where it has left off itself.
//
// # Who serves a connection
//
// Each connection has a goroutine, and the processors have a loop each, which waits for the requests of all connections
// and answers lookups in raft tables of fixed keys by itself: one read and one write for each, and a system call to wait
// that all who are ready share. Updates of raft tables that the connection has opened it starts, and answers those
// that are over together. For anything else that may take time (a delete, rules, a local table, a log line) the loop gives
// the connection to its goroutine, and gets it back.
//
// # Limits
//
// A list has at most MaxList bytes. Once the first byte of a request is there, the rest has RequestTimeout to
// arrive, and a reply has as long to be taken; else the connection is closed. An idle connection may stay for
// ever.
package proxy

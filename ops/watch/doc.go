// Package watch shows an agent to those who watch it, over HTTP on one address: metrics to Prometheus, health to
// whoever decides by it, and a page to a person. It only reads, and it shows no key, no value and no secret.
//
//	/metrics  all metrics, in the format of Prometheus; postraft-metrics(7) lists them
//	/livez    200 while the process works
//	/readyz   200 when the node does all that a node does, or 503 with the reasons, one a line
//	/         the node, its members and its tables, warnings first
//
// Everything may be asked by GET and HEAD and by nothing else. Who asks is not looked at: bind the address to
// loopback or to a network of the operator's. Clients that are slow, many or large are cut off: the limits are at
// the top of server.go. No answer waits for another node but the page, and that for a second at most.
//
// A Server works from before the node is started until after it has ended, so that somebody who asks while the
// tables are read from disk is told that.
package watch

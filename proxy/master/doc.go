// Package master is the life of a process that Postfix's master(8) starts: what it is given, what it owes
// master in return, and how it ends. It knows nothing of the service that the process offers.
//
// # What master gives
//
//	argv        the generic daemon options (ParseArgs), then the operator's words from master.cf
//	environment MAIL_CONFIG, MAIL_LOGTAG, POSTLOG_SERVICE, POSTLOG_HOSTNAME, GENERATION (octal)
//	fd 0 1 2    /dev/null: nothing written there is ever seen
//	fd 3 4      a pipe for mail flow control, not needed: Inherit closes it
//	fd 5        the status socket: reports go out (Status), end of file means "finish and exit"
//	fd 6 ...    the listening sockets, shared with master, which go on without this process (Listener)
//
// The working directory is queue_directory and the user is root, whatever the columns of master.cf say:
// the process itself obeys -u and -c (Confine).
//
// # What the process owes
//
// It accepts what waits, or exits with a status that is not 0: exiting with 0 in front of a waiting
// connection makes master start the next process at once, as fast as processes come and go. It reports one
// TAKEN, AVAIL pair after its first piece of work; without it master calls any later failure a bad start
// and throttles the service for a minute. On end of file on fd 5 it stops accepting, finishes and exits
// with 0. SIGTERM is left to its default, which ends the process at once: master waits in a busy loop
// for a process whose service has gone from master.cf.
//
// # Diagnostics
//
// Log is a slog.Handler that writes as Postfix's own daemons do, to syslog or to postlogd(8). A record that
// cannot be delivered is lost.
package master

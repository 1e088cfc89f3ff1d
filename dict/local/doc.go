// Package local answers tables that are no raft tables without Postfix's own proxymap(8): static, inline,
// texthash, unix, randmap, fail, and unionmap and pipemap of these and of raft tables, all with the semantics of
// Postfix 3.7 (src/util/dict_*.c there).
//
// A table that cannot be had, because its name is malformed or its file unreadable, opens nevertheless, and each
// access is a dict.ErrRetry that says why: mail waits, and nobody is told "not found".
//
// # Files
//
// A Set looks at each file of its tables once a second, in a goroutine of its own, and reads it again when it has
// changed. A file that is being written to is read when it has been left alone for a second; until then the
// former content answers, or, where there is none, lookups wait for it a while. A file that is gone or became
// unusable answers ErrRetry. Lookups never touch the disk.
//
// # Other kinds
//
// A kind of table whose content is one file of text is a FileType: Compile makes of the text what answers lookups,
// and all that is said above holds for it. The rule tables cidr, regexp and pcre are of this form, also with
// rules in their names; who makes a Set names them in its Config.
//
// # Limits
//
// unix:passwd.byname and unix:group.byname are read from /etc/passwd and /etc/group, and only where
// /etc/nsswitch.conf names no other source than files and systemd. They, paths that are not absolute, and kinds of
// tables that are not known here are left to whoever else answers them: Open returns nil. So is a table that holds one of
// these, unless it also holds a raft table, which nobody else knows: then Options.Other has to return the first.
package local

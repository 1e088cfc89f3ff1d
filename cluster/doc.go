// Package cluster makes one node of a postraft cluster: it runs raft and memberlist around one state
// machine, forms and joins clusters, and carries writes to the leader.
//
// # Reads
//
// Table returns a handle whose lookups read the node's own memory. They go on without a leader. Until a
// node whose disk is new has caught up with the leader once, and for keys that the unsettled end of its
// log touches, the answer is dict.ErrRetry and never "not found".
//
// LookupConsistent and ReadIndex ask the leader, which answers once a majority of the voters has followed it after it was
// asked (verifyLeader): what nonvoters say counts for nothing, nor does what was on its way before.
//
// # Writes
//
// Writes that wait on a node are gathered into one command, which goes to the leader: by a call on the
// leader itself, by one request over TLS elsewhere. The leader gathers the commands of all nodes into one
// log entry. Each node has one command under way at a time, under an identity by which the state machine
// knows it again, so that it can be proposed to the next leader when the first is lost, and still happens
// once. The node answers when its own state machine has applied the entry; the leader tells it which entry
// that is, so it need not wait for the next heartbeat to learn that the entry is committed.
//
// # Followers
//
// Raft tells each follower 26 times a second what it knows already. The leader's end of the transport answers most of these
// messages itself, as long as the follower has answered lately; entries and a new commit index go at once (contacts). A
// nonvoter hears of its leader six times a second while nothing is written, a voter 14 times. While much is written, a
// nonvoter is sent what has gathered, 33 times a second at most, unless it waits for a write or a consistent read of its own.
//
// # Caches
//
// Tables may have limits of their own (dict.Settings). What is one entry too many goes with the write that makes it so;
// the leader tells tables how much time has passed, and what was not written for long goes with that (expire).
//
// # Members
//
// Gossip proposes members and their addresses. The leader asks each over mutual TLS who it is before it
// makes it a nonvoter, and makes it a voter once it has caught up, while there are fewer voters than asked
// for. A member that gossip calls dead keeps its vote. Raft server ids are made once for a data directory,
// so a host with a new disk is a new server, and replaces the dead one of its name.
//
// When the leader's process ends, the voters notice by their connections and call an election at once, one after the
// other; a host that is down or cut off is found out by its silence.
//
// # Trust
//
// Who a node is, is proved on the TCP port, by package trust; gossip only finds nodes, and what it says is
// believed of nobody. All that comes before the proof is bounded: connections, memory, time and log lines (lobby,
// gossipPort, repeats). A node that has proved itself is trusted with everything that members do: raft knows no
// other kind. Secrets and certificates may change while the node runs (Reload, UseKey, RemoveKey): new
// connections follow at once, and live ones end when what they rest on is taken away.
package cluster

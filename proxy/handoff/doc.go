// Package handoff carries accepted connections from the front end, which Postfix's master(8) starts, to the
// agent, which holds the tables. The descriptor itself moves: from then on Postfix and the agent talk
// directly, and a lookup costs no extra hop. When the agent goes, the connection moves on to the next one.
//
// # The link
//
// A link is one SOCK_SEQPACKET connection to the agent's socket. Each packet is one JSON message, with at
// most one descriptor beside it. The front end begins:
//
//	front end   list     a part of the approval list, as often as it takes
//	front end   hello    the versions that it speaks, what the service is (name, pid, dialect), a page
//	agent       welcome  the version to speak, the aliases; or refuse, with the reason, and the end of the link
//
// then, in any order:
//
//	front end   conn     a connection: number, descriptor, place in the page, state
//	agent       done     that connection has ended
//	agent       back     that connection is between two requests, and no longer the agent's: number, state
//	front end   ping     answered by pong at once
//	agent       dial     asks for a connection to the stock proxymap service: number
//	front end   dialed   number and descriptor, or the reason why there is none
//	agent       log      a record for Postfix's log: level and text
//	agent       aliases  other tables than welcome said are aliases of raft tables
//	agent       bye      no new connections, please: the agent is stopping
//
// The state of a connection is whether the client has had the server's announcement, and the bytes that were
// received and not answered, of which there are few or none.
//
// Messages of an unknown kind are ignored and descriptors beside them closed. The agent takes a link from
// root, from its own user and from the users it is told of, whatever the mode of the socket.
//
// # Who may read
//
// Each proxymap request stands alone, so a connection between two requests can go to any server. A
// connection in the middle of one cannot: bytes that a dead agent has read are gone, and a client whose
// request was swallowed would wait for its answer for an hour. The kernel does not tell the two apart, and
// neither can messages: the agent may die between what it does and what it says of it. Hence the page, memory
// that front end and agent share, with a mark for each connection. Before the agent reads, it moves the mark
// from idle to busy by a compare-and-swap, and back when all that it has read is answered. The front end
// takes a connection back by moving its mark from idle to taken: from then on the agent can no more read from
// it, whether it is dead, or only stopped and waking up later. What is busy at that moment is shut down, and
// the client, which sees its end at once, asks again after a second. No system call comes of it.
//
// # What happens when
//
// The front end keeps a second descriptor of each connection that it handed over. An agent that is told to
// stop says bye, answers the requests at hand and gives each connection back. When the agent dies, is stopped
// by a signal or leaves pings unanswered for some seconds, the front end takes back what it can. Either way it
// hands the connections to the next agent as soon as that is there.
//
// Until then the connections rest at the front end, and requests wait in their sockets. The first request on a
// connection that needs the agent waits Hold (1.5 s) for it, counted from when the agent went if it may have
// come then; it and later ones are then answered by the front end itself, with RETRY. When the agent has been
// away for long, nothing waits, and opens never do. Local tables are the stock service's meanwhile, those excepted that
// may be aliases of raft tables: they wait likewise, and get RETRY.
//
// When the front end goes (postfix reload, stop), the agent finishes the requests at hand and closes the
// connections that came over that link, as the stock proxymap(8) does: the next connection brings a new front
// end with the approval lists of that moment. Connections that rest at the front end go with it.
//
// # Versions
//
// A front end lives until Postfix is reloaded, so it may be older or newer than the agent. They speak the
// newest version that both know. In version 1 there is no page, no back and no state: when the agent goes,
// all its connections are shut down, and those that the front end serves end when the agent comes. So it is
// where shared memory cannot be had, too.
package handoff

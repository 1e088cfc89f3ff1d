// Package handoff carries accepted connections from the front end, which Postfix's master(8) starts, to the
// agent, which holds the tables. The descriptor itself moves: from then on Postfix and the agent talk
// directly, and a lookup costs no extra hop.
//
// # The link
//
// A link is one SOCK_SEQPACKET connection to the agent's socket. Each packet is one JSON message, with at
// most one descriptor beside it. The front end begins:
//
//	front end   list     a part of the approval list, as often as it takes
//	front end   hello    protocol version, and what the service is: name, pid, dialect
//	agent       welcome  or refuse, with the reason, and the end of the link
//
// then, in any order:
//
//	front end   conn     an accepted connection: number and descriptor
//	agent       done     that connection has ended
//	front end   ping     answered by pong at once
//	agent       dial     asks for a connection to the stock proxymap service: number
//	front end   dialed   number and descriptor, or the reason why there is none
//	agent       log      a record for Postfix's log: level and text
//	agent       bye      no new connections, please: the agent is stopping
//
// Messages of an unknown kind are ignored and descriptors beside them closed. The agent takes a link from
// root, from its own user and from the users it is told of, whatever the mode of the socket.
//
// # What happens when
//
// The front end keeps a second descriptor of each connection that it handed over, for one purpose: when the
// agent dies, is stopped by a signal or leaves pings unanswered for some seconds, the front end shuts these
// connections down. A Postfix client with a request on its way then waits one second and asks again; the front
// end itself answers, with RETRY, until the agent is back. Clients without a request on their way notice nothing.
//
// When the front end goes (postfix reload, stop), the agent finishes the requests at hand and closes the
// connections that came over that link, as the stock proxymap(8) does: the next connection brings a new front end
// with the approval lists of that moment.
package handoff

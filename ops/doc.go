// Package ops is the operator's side of an agent: the administration API, its server on a unix socket, and
// its client.
//
// # API
//
// HTTP/1.1 on the agent's admin.sock, paths below /v1/. Every reply carries the header Postraft-Api with the
// version of the API. Requests and replies are JSON, keys and values of tables in base64 there; entries of
// whole tables travel as entry streams, snapshots as they are. The header Postraft-Timeout of a request says
// how long the agent may try.
//
//	GET    /v1/status                        Status
//	GET    /v1/members                       []Member
//	GET    /v1/reach?index=I&all=true        []Reached, when all have, or at the end of the time
//	POST   /v1/join                          joinRequest
//	POST   /v1/leave
//	POST   /v1/remove                        nameRequest
//	POST   /v1/transfer-leader               nameRequest; no name: any voter
//	GET    /v1/keyring                       []KeyringMember
//	POST   /v1/keyring/reload                -> []KeyringMember
//	POST   /v1/keyring/use                   keyRequest -> []KeyringMember
//	POST   /v1/keyring/remove                keyRequest -> []KeyringMember
//	GET    /v1/tables                        []TableInfo
//	GET    /v1/table?name=T                  TableInfo
//	POST   /v1/table?name=T&type=hash        makes an empty table -> Changed
//	DELETE /v1/table?name=T                  drops it -> Changed
//	GET    /v1/table/watch?name=T&from=I     changes behind an index, one JSON Event a line; {"at":I} when all up to I came
//	POST   /v1/table/explain?name=T          entryRequest -> Explained; &exact=true
//	GET    /v1/table/history?name=T&key=K    History of a key, in base64
//	POST   /v1/table/restore?name=T&version=I makes the table what it was -> ImportResult
//	POST   /v1/table/get?name=T              entryRequest -> Value
//	POST   /v1/table/lookup?name=T           lookupRequest -> []Value
//	POST   /v1/table/put?name=T              entryRequest -> Changed
//	POST   /v1/table/delete?name=T           entryRequest -> Deleted
//	GET    /v1/table/entries?name=T&prefix=P entry stream; P in URL-safe base64
//	POST   /v1/table/import?name=T           entry stream -> ImportResult; &type=hash&merge=true&dry_run=true;
//	                                         &max_change=20, &way=watch-file, and &digest=D: with Expect: 100-continue
//	                                         the stream is not wanted where the table has this digest
//	POST   /v1/table/diff?name=T             entry stream -> change stream
//	GET    /v1/snapshot                      snapshot file
//	POST   /v1/snapshot?table=NAME...        snapshot file -> Restored
//
// An error is the JSON of an Error, with an HTTP status that says little more than that. Names are
// never part of a path: a table may be called "..".
//
// # Entry streams
//
// A frame is a kind byte and then, for each part, its length as an unsigned varint and its bytes:
//
//	e key value      an entry
//	+ key new        change: added
//	~ key old new    change: another value
//	- key old        change: removed
//	. count          the end; count is the number of frames before it, in decimal
//	! error          the end because of an Error, in JSON
//
// A stream without its end is an error for whoever reads it, so half a table is never taken for a whole one.
//
// # Who may ask
//
// Root and the user that the agent runs as: the socket has mode 0600, and the agent asks the kernel who is at
// the other end of each connection.
package ops

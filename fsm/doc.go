// Package fsm is the replicated state machine: raft tables, the log commands that change them, and the
// snapshots of them. Given the same log it is the same on every node, so nothing here reads a clock, a
// random number or the order of a map.
//
// Readers take the State, one immutable value behind one atomic pointer, and see whole log entries only.
// Applying an entry needs its bytes and nothing of raft, so that a restarting node can replay its own
// log before raft runs.
//
// A log entry is a version byte and then a protocol buffer message, written and read by hand. Numbers are
// never used again for something else:
//
//	message Entry   { repeated Command command = 1; }
//	message Command {
//	  bytes  session = 1;  // 16 bytes: one life of one node
//	  uint64 seq     = 2;  // counts the commands of the session, from 1
//	  string node    = 14; // on which the change was made; before the body
//	  uint32 way     = 15; // a Way, of all ops that have none of their own; only with node
//	  oneof body {
//	    Write       write  = 3;
//	    Create      create = 4;
//	    Drop        drop   = 5;
//	    StageBegin  begin  = 6;
//	    StageChunk  chunk  = 7;
//	    StageCommit commit = 8;
//	    StageAbort  abort  = 9;
//	    Lead        lead   = 10;
//	    DeleteIf    delete_if = 11;
//	    Set         set    = 12;
//	    Expire      expire = 13;
//	  }
//	}
//	message Op          { uint32 kind = 1; string table = 2; bytes key = 3; bytes value = 4; uint32 way = 5; }  // kind 0 update, 1 delete
//	message Write       { repeated Op op = 1; string if_table = 2; uint64 if_version = 3; }
//	message Create      { string name = 1; string type = 2; bool must_not_exist = 3; Settings settings = 4; }
//	message Drop        { string name = 1; }
//	message StageBegin  { bytes id = 1; string table = 2; string type = 3; Settings settings = 4; }
//	message StageChunk  { bytes id = 1; uint64 number = 2; repeated bytes block = 3; }
//	message StageCommit { repeated bytes id = 1; bool merge = 2; bool only = 3; StageDelta delta = 4; }
//	message StageDelta  { bytes gone = 1; uint64 if_version = 2; }
//	message StageAbort  { bytes id = 1; }
//	message Lead        { string node = 1; }
//	message DeleteIf    { string table = 1; bytes key = 2; bytes value = 3; }
//	message Set         { string table = 1; Settings change = 2; }
//	message Expire      { string table = 1; uint64 from = 2; uint64 to = 3; }
//	message Settings    { optional uint64 max_entries = 1; optional uint64 expire_after = 2;
//	                      optional uint64 write_deadline = 3; optional uint64 max_staleness = 4; }
//
// All times are durations in nanoseconds.
//
// A command that a node cannot read, be it damaged or newer than the node, ends the applying on that node
// for good: skipping it would make this node differ from the others.
package fsm

// Package dict says what a Postfix lookup table is: its flags and its maptype:mapname, how keys are
// folded, how the source text of postmap(1) is read and written, and the interfaces by which tables are
// read and changed. It knows nothing of raft, sockets or disks.
//
// A table gives one of three answers: found, surely not found, and cannot know. The last is an error
// that is ErrRetry or ErrConfig for errors.Is; it never looks like "not found", because a mail system
// bounces mail on "not found".
//
// # Source text
//
// ReadSource and SourceWriter speak the input language of postmap(1): logical lines of key, white space,
// value; comments; continuation lines; quotes that stay part of the key. What that language cannot carry
// (a key with bare white space, a value with a newline, a key that folding would change) is written as a
// comment that ReadSource understands and postmap skips:
//
//	#postraft:entry "key" "value"
//
// Both strings are quoted as Go quotes them and stand for exactly these bytes, without folding.
package dict

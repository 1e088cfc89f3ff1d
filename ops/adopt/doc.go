// Package adopt finds the way of a Postfix instance onto raft tables, and proves it.
//
// Read asks postconf(1) what main.cf and master.cf say. NewPlan finds in it every table that Postfix uses, and says
// of each whether it can become a raft table and why not otherwise. Load reads what the tables hold: the text that a
// database was built from where that is so, or else the database itself, through postmap -s. Look compares that with
// the raft tables that are there, Import makes them, and Verify asks Postfix's own table and the raft table for every
// key, for keys in other case and for keys that are in neither. Steps says what the operator has to change, and how
// to change it back: nothing here changes the configuration of Postfix.
//
// What cannot be known for sure is left as it is and said so: a value that this package does not expand as
// postconf(1) does, a database that does not open, rules of which Postfix and postraft do not warn of the same lines.
package adopt

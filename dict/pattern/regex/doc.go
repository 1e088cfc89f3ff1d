// Package regex matches the two kinds of regular expressions that Postfix tables are written in, on bytes:
// POSIX ones as glibc's regcomp(3) reads them in the C locale, and those of PCRE2 without UTF mode.
//
// Both parsers make the same tree, the tree becomes a program, and a Matcher runs programs by backtracking.
// The order in which alternatives are tried is Perl's. A POSIX match is as long as one can be from its start,
// and of the ways to reach that end glibc too takes the first in this order.
//
// # Bounds
//
// Every Matcher has a budget of time that all programs it runs for one key share. A program without back
// references, look-around, atomic groups, recursion and repeated parts that may be empty is run again with
// a table of what was tried, as soon as it backtracks much: its cost then grows with the product of program
// and key. The others end with ErrLimit when the budget is spent.
//
// # What is left out of PCRE2
//
// Refused at compile time: the verbs that steer backtracking (COMMIT, PRUNE, SKIP, THEN, ACCEPT), non-atomic
// look-around, callouts, UTF and UCP mode and other newline conventions, (?(VERSION...), script runs.
package regex

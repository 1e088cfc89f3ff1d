// Package pattern compiles and answers the tables of Postfix whose keys are patterns: cidr, regexp and pcre,
// from the rule text of cidr_table(5), regexp_table(5) and pcre_table(5), as Postfix 3.7 does.
//
// Rules are tried in the order of the text and the first one that matches gives the answer. Compile refuses
// a text in which Postfix would skip a rule or warn about one; CompileLenient skips and warns as Postfix does. Both
// refuse a rule that Postfix obeys and package regex does not serve.
//
// Compiled rules are immutable and may be used from any goroutine. A lookup in a cidr table is a binary search
// in the ranges of addresses that the rules part the address space into. One in a regexp or pcre table first
// finds, in one pass over the key, the rules whose fixed parts all stand in it, and tries those only.
//
// A key that takes more than MaxTime to match is answered with an error that is a dict.ErrRetry: Postfix's
// own engines let it match for minutes, or give up and take the rule as one that does not match.
package pattern

package pattern

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"

	"postraft/dict"
)

// blanks are the bytes that C's isspace accepts in the C locale.
const blanks = " \t\n\v\f\r"

func isBlank(c byte) bool { return c == ' ' || '\t' <= c && c <= '\r' }

func isAlnum(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

// eachRule calls rule for each logical line that is not a comment, without blanks at its end.
func eachRule(text []byte, n *notes, rule func(line int, text string)) error {
	for line, err := range dict.LogicalLines(bytes.NewReader(text)) {
		switch {
		case err != nil:
			return err
		case line.Comment:
		case line.Orphan:
			n.warn(line.Line, "white space at the start of the line, and no line before it to continue")
		default:
			t := line.Text
			if i := bytes.IndexByte(t, 0); i >= 0 {
				n.warn(line.Line, "NUL byte, and what follows it in the line is lost")
				t = t[:i]
			}
			if t = bytes.TrimRight(t, blanks); len(t) > 0 {
				rule(line.Line, string(t))
			}
		}
	}
	return nil
}

// keyword takes word from the front of s if it stands there alone, in any case.
func keyword(s, word string) (rest string, ok bool) {
	if len(s) < len(word) || !strings.EqualFold(s[:len(word)], word) || len(s) > len(word) && isAlnum(s[len(word)]) {
		return s, false
	}
	return s[len(word):], true
}

// negations takes any number of ! and blanks from the front of s.
func negations(s string) (rest string, match bool) {
	match = true
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '!':
			match = !match
		case !isBlank(s[i]):
			return s[i:], match
		}
	}
	return "", match
}

// How many errors and warnings of one text are remembered; the others are counted.
const (
	maxErrors   = 20
	maxWarnings = 1000
)

// notes are what the reading of a text had to say.
type notes struct {
	lenient  bool
	problems []dict.Problem
	count    int
	unserved []dict.Problem
}

// warn notes what Postfix would warn about.
func (n *notes) warn(line int, format string, args ...any) {
	n.count++
	if len(n.problems) < maxWarnings {
		n.problems = append(n.problems, dict.Problem{Line: line, Text: fmt.Sprintf(format, args...)})
	}
}

// refuse notes a rule that Postfix obeys and this package cannot.
func (n *notes) refuse(line int, err error) {
	n.unserved = append(n.unserved, dict.Problem{Line: line, Text: err.Error()})
}

// An unservedError lists rules that are not served. It is a dict.ErrUnserved besides a dict.ErrBadSource.
type unservedError struct{ *dict.SourceError }

func (unservedError) Is(target error) bool { return target == dict.ErrUnserved }
func (e unservedError) Unwrap() error      { return e.SourceError }

// result returns the warnings if they are no errors, or else a *dict.SourceError. With rules that are not served it is
// a dict.ErrUnserved too, unless others are to be mended first.
func (n *notes) result() ([]dict.Problem, error) {
	if len(n.unserved) > 0 && (n.lenient || n.count == 0) {
		return n.problems, unservedError{&dict.SourceError{Problems: n.unserved[:min(maxErrors, len(n.unserved))], Count: len(n.unserved)}}
	}
	n.problems = append(n.problems, n.unserved...)
	n.count += len(n.unserved)
	slices.SortStableFunc(n.problems, func(a, b dict.Problem) int { return cmp.Compare(a.Line, b.Line) })
	if n.count == 0 || n.lenient {
		return n.problems, nil
	}
	return nil, &dict.SourceError{Problems: n.problems[:min(maxErrors, len(n.problems))], Count: n.count}
}

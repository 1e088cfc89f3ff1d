package dict

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// A Problem is a line of source text that breaks a rule.
type Problem struct {
	Line int
	Text string
}

func (p Problem) String() string { return fmt.Sprintf("line %d: %s", p.Line, p.Text) }

// A SourceError lists the bad lines of source text. It is an ErrBadSource.
type SourceError struct {
	Problems []Problem // the first ones, in the order of the text
	Count    int       // of all
}

func (e *SourceError) Error() string {
	var b strings.Builder
	for i, p := range e.Problems {
		if i > 0 {
			b.WriteString("; ")
		}
		b.WriteString(p.String())
	}
	if more := e.Count - len(e.Problems); more > 0 {
		fmt.Fprintf(&b, "; and %d more", more)
	}
	return b.String()
}

func (e *SourceError) Is(target error) bool { return target == ErrBadSource }

// How many errors and warnings of one text are remembered; the others are counted.
const (
	maxErrors   = 20
	maxWarnings = 1000
)

// notes are what the reading of one text had to say.
type notes struct {
	lenient          bool
	errors, warnings problems
}

// breach notes a line that postmap would skip or warn about: a warning with Lenient, an error without.
func (n *notes) breach(line int, format string, args ...any) {
	if n.lenient {
		n.warnings.add(maxWarnings, line, format, args...)
		return
	}
	n.errors.add(maxErrors, line, format, args...)
}

// refuse notes a line that cannot be taken at all.
func (n *notes) refuse(line int, format string, args ...any) {
	n.errors.add(maxErrors, line, format, args...)
}

// join adds the notes of a second pass over the same text.
func (n *notes) join(second notes) {
	n.errors.join(maxErrors, second.errors)
	n.warnings.join(maxWarnings, second.warnings)
}

// result returns the warnings, and a *SourceError if there were errors.
func (n *notes) result() ([]Problem, error) {
	warnings := n.warnings.first
	if more := n.warnings.count - len(warnings); more > 0 {
		last := warnings[len(warnings)-1].Line
		warnings = append(warnings, Problem{last, fmt.Sprintf("%d more warnings for this and later lines", more)})
	}
	if n.errors.count > 0 {
		return warnings, &SourceError{n.errors.first, n.errors.count}
	}
	return warnings, nil
}

// problems are the first of a number of problems, in the order of the text.
type problems struct {
	first []Problem
	count int
}

func (p *problems) add(most, line int, format string, args ...any) {
	p.count++
	if len(p.first) < most {
		p.first = append(p.first, Problem{line, fmt.Sprintf(format, args...)})
	}
}

func (p *problems) join(most int, second problems) {
	p.count += second.count
	p.first = append(p.first, second.first...)
	slices.SortStableFunc(p.first, func(a, b Problem) int { return cmp.Compare(a.Line, b.Line) })
	p.first = p.first[:min(most, len(p.first))]
}

// quoteKey shows a key in an error line, shortened if need be.
func quoteKey(key []byte) string {
	const most = 80
	if len(key) > most {
		return strconv.Quote(string(key[:most])) + "..."
	}
	return strconv.Quote(string(key))
}

package dict

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"iter"
)

// MaxLineLen bounds a logical line of source text, in bytes. The longest that SourceWriter writes is the
// directive of a largest entry in which each byte is quoted as four (\xff).
const MaxLineLen = 4*(MaxKeyLen+MaxValueLen) + 64

// A LogicalLine is one line of Postfix text after continuation lines have been joined to it: a newline
// followed by white space is dropped, the white space stays.
type LogicalLine struct {
	Line int    // number of its first physical line, from 1
	Text []byte // without the final newline; valid until the next line is asked for

	// Comment says that Text is a comment line. Comments are passed on because some carry entries.
	Comment bool

	// Orphan says that the line began with white space and there was no line to continue.
	Orphan bool
}

// LogicalLines reads r by the rules that postconf(5) and postmap(1) share (readlline.c): a line that is
// empty, all white space, or whose first non-blank is '#' counts for nothing, also in the middle of a
// continued line. The sequence ends with the text, or with an error after the last line.
func LogicalLines(r io.Reader) iter.Seq2[LogicalLine, error] {
	return func(yield func(LogicalLine, error) bool) {
		sc := bufio.NewScanner(r)
		sc.Buffer(make([]byte, 64<<10), MaxLineLen)
		sc.Split(scanNewlines)
		var held []byte // the logical line being put together
		first, n := 0, 0
		for sc.Scan() {
			n++
			raw := sc.Bytes()
			trimmed := raw
			for len(trimmed) > 0 && isBlank(trimmed[0]) {
				trimmed = trimmed[1:]
			}
			switch {
			case len(trimmed) == 0:
			case trimmed[0] == '#':
				if !yield(LogicalLine{Line: n, Text: raw, Comment: true}, nil) {
					return
				}
			case len(trimmed) == len(raw): // starts a logical line
				if first > 0 && !yield(LogicalLine{Line: first, Text: held}, nil) {
					return
				}
				held, first = append(held[:0], raw...), n
			case first == 0:
				if !yield(LogicalLine{Line: n, Text: raw, Orphan: true}, nil) {
					return
				}
			case len(held)+len(raw) > MaxLineLen:
				yield(LogicalLine{}, fmt.Errorf("line %d: logical line longer than %d bytes: %w", first, MaxLineLen, ErrBadSource))
				return
			default:
				held = append(held, raw...)
			}
		}
		if first > 0 && !yield(LogicalLine{Line: first, Text: held}, nil) {
			return
		}
		switch err := sc.Err(); {
		case err == bufio.ErrTooLong:
			yield(LogicalLine{}, fmt.Errorf("line %d: longer than %d bytes: %w", n+1, MaxLineLen, ErrBadSource))
		case err != nil:
			yield(LogicalLine{}, fmt.Errorf("read line %d: %w", n+1, err))
		}
	}
}

// blanks are the bytes that C's isspace accepts in the C locale.
const blanks = " \t\n\v\f\r"

func isBlank(c byte) bool { return c == ' ' || '\t' <= c && c <= '\r' }

// scanNewlines is bufio.ScanLines, except that a CR stays: Postfix counts it as white space.
func scanNewlines(data []byte, atEOF bool) (advance int, token []byte, err error) {
	if i := bytes.IndexByte(data, '\n'); i >= 0 {
		return i + 1, data[:i], nil
	}
	if atEOF && len(data) > 0 {
		return len(data), data, nil
	}
	return 0, nil, nil
}

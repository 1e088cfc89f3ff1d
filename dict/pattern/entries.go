package pattern

import (
	"bytes"
	"fmt"
	"iter"

	"postraft/dict"
)

// The text of a pattern table is kept as entries of a raft table: the number of each line is the key, in digits
// that sort as the numbers do, and the line the value.

// maxLines is how many lines a table can have.
const maxLines = 99_999_999

// lineKey is the key of a line, from 1.
func lineKey(n int) []byte { return fmt.Appendf(nil, "%08d", n) }

// Entries yields the lines of a text as entries, in the order of their keys.
func Entries(text []byte) iter.Seq2[[]byte, []byte] {
	return func(yield func(key, value []byte) bool) {
		n := 0
		for line := range bytes.Lines(text) {
			if n++; !yield(lineKey(n), bytes.TrimSuffix(line, []byte("\n"))) {
				return
			}
		}
	}
}

// Text puts the lines of a table together, each with a newline.
func Text(entries iter.Seq2[[]byte, []byte]) []byte {
	var text []byte
	for _, line := range entries {
		text = append(append(text, line...), '\n')
	}
	return text
}

// CheckText returns an ErrBadSource that names the lines unless text holds rules that a raft table of this type can
// hold. With lenient what Postfix skips is a warning.
func CheckText(typ string, text []byte, lenient bool) (warnings []dict.Problem, err error) {
	if lenient {
		_, warnings, err = CompileLenient(typ, text)
	} else {
		_, err = Compile(typ, text)
	}
	if err == nil {
		err = CheckEntries(typ, Entries(text))
	}
	return warnings, err
}

// CheckEntries returns an ErrBadSource unless entries are the lines of a text, one after the other, that a
// raft table of this type can hold.
func CheckEntries(typ string, entries iter.Seq2[[]byte, []byte]) error {
	n := 0
	for key, value := range entries {
		if n++; n > maxLines || !bytes.Equal(key, lineKey(n)) {
			return fmt.Errorf("%w: entry %d of a %s table has the key %q: want the number of the line, %q", dict.ErrBadSource, n, typ, key, lineKey(n))
		}
		if err := dict.CheckEntry(key, value); err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
	}
	_, _, err := CompileLenient(typ, Text(entries))
	return err
}

package local

import (
	"bytes"
	"fmt"
	"strings"

	"postraft/dict"
)

// maxProblems of one text are told.
const maxProblems = 20

// CompileTextHash is the Compile of texthash tables: it reads the text of a texthash table (dict_thash.c). A key that comes twice makes the whole text
// unusable, as it does for Postfix's daemons.
func CompileTextHash(text []byte, utf8 bool) (Lookuper, []dict.Problem, error) {
	var b builder
	var problems []dict.Problem
	skip := func(line int, what string) {
		if len(problems) < maxProblems {
			problems = append(problems, dict.Problem{Line: line, Text: what})
		}
	}
	for line, err := range dict.LogicalLines(bytes.NewReader(text)) {
		switch {
		case err != nil:
			return nil, problems, err
		case line.Comment:
			continue
		case line.Orphan:
			skip(line.Line, "white space at the start of the line, and no line before it to continue")
			continue
		}
		s, _, _ := strings.Cut(string(line.Text), "\x00")
		end, open := keyEnd(s, "")
		value := strings.Trim(s[end:], blanks)
		switch {
		case utf8 && !validUTF8(line.Text):
			skip(line.Line, "not UTF-8")
		case open:
			skip(line.Line, "unbalanced quote in the key")
		case end == 0 || value == "":
			skip(line.Line, "want: key, white space, value")
		default:
			if err := b.add(line.Line, []byte(s[:end]), []byte(value)); err != nil {
				return nil, problems, err
			}
		}
	}
	t, again := b.build()
	if again != nil {
		return nil, problems, fmt.Errorf("line %d: duplicate entry: %q: %w", again.line, b.key(*again), dict.ErrBadSource)
	}
	return t, problems, nil
}

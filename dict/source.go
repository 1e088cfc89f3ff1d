package dict

import (
	"bytes"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"
)

// entryDirective starts a comment that carries one entry exactly.
const entryDirective = "#postraft:entry"

// SourceOptions say how source text is read.
type SourceOptions struct {
	Lenient bool // skip bad lines as postmap does and report them, instead of refusing the text
	NoFold  bool // keep keys as they are written (postmap -f)

	// Workers is how many goroutines LoadSource uses at a time, beside the caller's; none and one are the caller's alone.
	Workers int

	// OnSlab is given the memory that LoadSource will store entries in, in larger pieces then, before they are there. It is
	// called from any goroutine and must leave the memory as it is: it may tell the kernel what is coming.
	OnSlab func(memory []byte)
}

// A SourceEntry is one entry of source text. Key and Value are valid until the next entry.
type SourceEntry struct {
	Line       int
	Key, Value []byte
}

// ReadSource reads postmap source text and calls emit for each entry, in the order of the text; an error
// of emit ends the reading. Bad lines are collected and returned as a *SourceError at the end, after all
// good entries were emitted, so that a caller that wants all or nothing must wait for the return. With
// Lenient they come back as warnings instead, except what a raft table cannot hold (CheckEntry) and a
// damaged directive, which no postmap would skip knowingly. Keys that come twice are the caller's affair
// (LoadSource).
func ReadSource(r io.Reader, opts SourceOptions, emit func(SourceEntry) error) (warnings []Problem, err error) {
	found, err := readSource(r, opts, emit)
	warnings, bad := found.result()
	if err == nil {
		err = bad
	}
	return warnings, err
}

// readSource is ReadSource, with the bad lines in its notes and only in err what ended the reading early.
func readSource(r io.Reader, opts SourceOptions, emit func(SourceEntry) error) (found notes, err error) {
	in := newLineReader(opts)
	for line, err := range LogicalLines(r) {
		if err != nil {
			return in.found, err
		}
		if key, value, ok := in.entry(line); ok {
			if err := emit(SourceEntry{line.Line, key, value}); err != nil {
				return in.found, err
			}
		}
	}
	return in.found, nil
}

// A lineReader reads one logical line after the other.
type lineReader struct {
	opts   SourceOptions
	found  notes // what there was to say of the lines
	folded []byte
}

func newLineReader(opts SourceOptions) *lineReader {
	return &lineReader{opts: opts, found: notes{lenient: opts.Lenient}}
}

// entry returns the entry of a line, valid until the next one, or ok false for a line without a good one.
func (in *lineReader) entry(line LogicalLine) (key, value []byte, ok bool) {
	found, lenient := &in.found, in.opts.Lenient
	switch {
	case line.Comment:
		var err error
		if key, value, ok, err = parseDirective(line.Text); !ok {
			return nil, nil, false
		}
		if err != nil {
			found.refuse(line.Line, "%v", err)
			return nil, nil, false
		}
	case line.Orphan:
		found.breach(line.Line, "white space at the start of the line, and no line before it to continue")
		return nil, nil, false
	default:
		text := line.Text
		if i := bytes.IndexByte(text, 0); i >= 0 {
			found.breach(line.Line, "NUL byte, and what follows it in the line is lost")
			if !lenient {
				return nil, nil, false
			}
			// postmap looks at the whole line when the part before the NUL is not ASCII.
			if text = text[:i]; !isASCII(text) && !utf8.Valid(line.Text) {
				return nil, nil, false
			}
		}
		var why string
		key, value, why = splitEntry(text)
		if why != "" {
			found.breach(line.Line, "%s", why)
			return nil, nil, false
		}
		if key[len(key)-1] == ':' && lenient {
			found.breach(line.Line, "key with a colon at its end; is this an alias file?")
		}
		if !in.opts.NoFold {
			in.folded = AppendFold(in.folded[:0], key)
			key = in.folded
		}
	}
	if err := CheckEntry(key, value); err != nil {
		found.refuse(line.Line, "%v", err)
		return nil, nil, false
	}
	return key, value, true
}

// splitEntry parts a logical line without NUL bytes into key and value; why says what is wrong with the line.
func splitEntry(text []byte) (key, value []byte, why string) {
	if !utf8.Valid(text) {
		return nil, nil, "not UTF-8"
	}
	end, open := keyEnd(text)
	if open {
		return nil, nil, "unbalanced quote in the key"
	}
	key = text[:end]
	value = trimBlanks(text[end:])
	if len(key) == 0 || len(value) == 0 {
		return nil, nil, "want: key, white space, value"
	}
	return key, value, ""
}

func trimBlanks(text []byte) []byte {
	for len(text) > 0 && isBlank(text[0]) {
		text = text[1:]
	}
	for len(text) > 0 && isBlank(text[len(text)-1]) {
		text = text[:len(text)-1]
	}
	return text
}

// keyEnd returns the index of the white space that ends the key at the start of text: the first that is
// neither between quotes nor behind a backslash. open says that a quote was not closed.
func keyEnd(text []byte) (end int, open bool) {
	for end < len(text) {
		switch c := text[end]; {
		case c == '\\' && end+1 < len(text):
			end++
		case c == '"':
			open = !open
		case isBlank(c) && !open:
			return end, open
		}
		end++
	}
	return end, open
}

// isDirective reports whether a comment is to carry an entry.
func isDirective(comment []byte) bool { return bytes.HasPrefix(comment, []byte(entryDirective)) }

// parseDirective reads a comment that carries an entry; ok is false for any other comment.
func parseDirective(comment []byte) (key, value []byte, ok bool, err error) {
	if !isDirective(comment) {
		return nil, nil, false, nil
	}
	k, rest, okKey := cutQuoted(string(comment[len(entryDirective):]))
	v, rest, okValue := cutQuoted(rest)
	if !okKey || !okValue || strings.Trim(rest, blanks) != "" {
		return nil, nil, true, fmt.Errorf("%s wants two quoted strings", entryDirective)
	}
	return []byte(k), []byte(v), true, nil
}

// cutQuoted takes white space and a string in double quotes from the front of s.
func cutQuoted(s string) (value, rest string, ok bool) {
	trimmed := strings.TrimLeft(s, blanks)
	if len(trimmed) == len(s) || !strings.HasPrefix(trimmed, `"`) {
		return "", s, false
	}
	quoted, err := strconv.QuotedPrefix(trimmed)
	if err != nil {
		return "", s, false
	}
	value, err = strconv.Unquote(quoted)
	return value, trimmed[len(quoted):], err == nil
}

// A SourceWriter writes entries as postmap source text that ReadSource reads back exactly. It does not
// buffer and is not safe for use by several goroutines.
type SourceWriter struct {
	w      io.Writer
	buf    []byte
	Exotic int // entries that postmap text cannot carry, written as directives
}

// NewSourceWriter returns a SourceWriter on w.
func NewSourceWriter(w io.Writer) *SourceWriter { return &SourceWriter{w: w} }

// Comment writes a comment line; text must not hold a newline.
func (s *SourceWriter) Comment(text string) error {
	s.buf = append(append(append(s.buf[:0], "# "...), text...), '\n')
	_, err := s.w.Write(s.buf)
	return err
}

// Entry writes one entry.
func (s *SourceWriter) Entry(key, value []byte) error {
	s.buf = append(append(append(s.buf[:0], key...), '\t'), value...)
	if plain(s.buf, key, value) {
		s.buf = append(s.buf, '\n')
	} else {
		s.Exotic++
		s.buf = append(append(s.buf[:0], entryDirective...), ' ')
		s.buf = append(strconv.AppendQuote(s.buf, string(key)), ' ')
		s.buf = append(strconv.AppendQuote(s.buf, string(value)), '\n')
	}
	_, err := s.w.Write(s.buf)
	return err
}

// plain reports whether line, which is "key TAB value", reads back as exactly this entry.
func plain(line, key, value []byte) bool {
	if len(key) == 0 || key[0] == '#' || isBlank(key[0]) || bytes.IndexByte(line, '\n') >= 0 ||
		bytes.IndexByte(line, 0) >= 0 || !bytes.Equal(key, Fold(key)) {
		return false
	}
	k, v, why := splitEntry(line)
	return why == "" && bytes.Equal(k, key) && bytes.Equal(v, value)
}

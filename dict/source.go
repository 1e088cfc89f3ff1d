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
const entryDirective = "#postraft:entry "

// SourceOptions say how source text is read.
type SourceOptions struct {
	Lenient bool // skip bad lines as postmap does and report them, instead of refusing the text
	NoFold  bool // keep keys as they are written (postmap -f)
}

// A SourceEntry is one entry of source text. Key and Value are valid until the next entry.
type SourceEntry struct {
	Line       int
	Key, Value []byte
}

// A Problem is a line of source text that breaks a rule.
type Problem struct {
	Line int
	Text string
}

func (p Problem) String() string { return fmt.Sprintf("line %d: %s", p.Line, p.Text) }

// maxProblems bounds how many bad lines are remembered; the others are counted.
const maxProblems = 20

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

func (e *SourceError) add(line int, format string, args ...any) {
	e.Count++
	if len(e.Problems) < maxProblems {
		e.Problems = append(e.Problems, Problem{line, fmt.Sprintf(format, args...)})
	}
}

// err returns e unless it is empty.
func (e *SourceError) err() error {
	if e.Count == 0 {
		return nil
	}
	return e
}

// ReadSource reads postmap source text and calls emit for each entry, in the order of the text; an error
// of emit ends the reading. Bad lines are collected and returned as a *SourceError at the end, after all
// good entries were emitted, so that a caller that wants all or nothing must wait for the return. With
// Lenient they come back as warnings instead. Keys that come twice are the caller's affair (LoadSource).
func ReadSource(r io.Reader, opts SourceOptions, emit func(SourceEntry) error) (warnings []Problem, err error) {
	var bad SourceError
	note := func(line int, format string, args ...any) {
		if opts.Lenient {
			warnings = append(warnings, Problem{line, fmt.Sprintf(format, args...)})
			return
		}
		bad.add(line, format, args...)
	}
	for line, err := range LogicalLines(r) {
		if err != nil {
			return warnings, err
		}
		var key, value []byte
		switch {
		case line.Comment:
			var ok bool
			key, value, ok, err = parseDirective(line.Text)
			if !ok {
				continue
			}
			if err != nil {
				bad.add(line.Line, "%v", err) // ours, not postmap's: never a mere warning
				continue
			}
		case line.Orphan:
			note(line.Line, "white space at the start of the line, and no line before it to continue")
			continue
		default:
			var why string
			key, value, why = splitEntry(line.Text)
			if why != "" {
				note(line.Line, "%s", why)
				continue
			}
			if key[len(key)-1] == ':' && opts.Lenient {
				note(line.Line, "record is in \"key: value\" format; is this an alias file?")
			}
			if !opts.NoFold {
				key = Fold(key)
			}
		}
		if err := CheckEntry(key, value); err != nil {
			bad.add(line.Line, "%v", err)
			continue
		}
		if err := emit(SourceEntry{line.Line, key, value}); err != nil {
			return warnings, err
		}
	}
	return warnings, bad.err()
}

// splitEntry parts a logical line into key and value; why says what is wrong with the line.
func splitEntry(text []byte) (key, value []byte, why string) {
	if i := bytes.IndexByte(text, 0); i >= 0 {
		return nil, nil, "NUL byte"
	}
	if !utf8.Valid(text) {
		return nil, nil, "not UTF-8"
	}
	end, open := keyEnd(text)
	if open {
		return nil, nil, "unbalanced quote in the key"
	}
	key = text[:end]
	value = bytes.Trim(text[end:], blanks)
	if len(key) == 0 || len(value) == 0 {
		return nil, nil, "want: key, white space, value"
	}
	return key, value, ""
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

// parseDirective reads a comment that carries an entry; ok is false for any other comment.
func parseDirective(comment []byte) (key, value []byte, ok bool, err error) {
	rest, ok := strings.CutPrefix(string(comment), entryDirective)
	if !ok {
		return nil, nil, false, nil
	}
	quoted, err := strconv.QuotedPrefix(rest)
	if err != nil {
		return nil, nil, true, fmt.Errorf("%swants two quoted strings", entryDirective)
	}
	k, errK := strconv.Unquote(quoted)
	v, errV := strconv.Unquote(strings.TrimSpace(rest[len(quoted):]))
	if errK != nil || errV != nil {
		return nil, nil, true, fmt.Errorf("%swants two quoted strings", entryDirective)
	}
	return []byte(k), []byte(v), true, nil
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
	if plain(key, value) {
		s.buf = append(append(s.buf[:0], key...), '\t')
		s.buf = append(append(s.buf, value...), '\n')
	} else {
		s.Exotic++
		s.buf = strconv.AppendQuote(append(s.buf[:0], entryDirective...), string(key))
		s.buf = append(strconv.AppendQuote(append(s.buf, ' '), string(value)), '\n')
	}
	_, err := s.w.Write(s.buf)
	return err
}

// plain reports whether "key TAB value" reads back as exactly this entry.
func plain(key, value []byte) bool {
	if len(key) == 0 || len(value) == 0 || key[0] == '#' || isBlank(key[0]) || !bytes.Equal(key, Fold(key)) ||
		bytes.IndexByte(key, '\n') >= 0 || bytes.IndexByte(value, '\n') >= 0 {
		return false
	}
	line := append(append(append(make([]byte, 0, len(key)+len(value)+1), key...), '\t'), value...)
	k, v, why := splitEntry(line)
	return why == "" && bytes.Equal(k, key) && bytes.Equal(v, value)
}

// quoteKey shows a key in an error line, shortened if need be.
func quoteKey(key []byte) string {
	const most = 80
	if len(key) > most {
		return strconv.Quote(string(key[:most])) + "..."
	}
	return strconv.Quote(string(key))
}

package adopt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"postraft/dict"
	"postraft/dict/pattern"
)

// The sources of a table.
const (
	SourceText     = "text"     // the file that postmap(1) made the database of, or that Postfix reads itself
	SourceDatabase = "database" // listed by postmap -s
)

// A Source is what a table of Postfix holds.
type Source struct {
	Kind     string // SourceText or SourceDatabase
	File     string
	Type     string // of the raft table that can hold it
	Entries  int    // or rules
	Bytes    int64
	Notes    []string // what the operator should know
	Warnings []dict.Problem
	Private  bool // others may not read the file

	all  iter.Seq2[[]byte, []byte] // as a raft table holds them
	text []byte                    // of rules
}

// keys yields all keys of a table with fixed keys, and those that rules suggest.
func (s *Source) keys() iter.Seq[string] {
	if s.text != nil {
		return slices.Values(ruleKeys(s.Type, s.text))
	}
	return func(yield func(string) bool) {
		for key := range s.all {
			if !yield(string(key)) {
				return
			}
		}
	}
}

// load reads what a table holds. The error says why that cannot be known.
func load(ctx context.Context, postfix Postfix, name dict.Name, utf8 bool) (*Source, error) {
	k := kinds[name.Type]
	if !filepath.IsAbs(name.Map) {
		return nil, errors.New("its name is relative, and the directory depends on the program; write it with the whole path")
	}
	var s *Source
	var err error
	if k.rules {
		s, err = loadRules(ctx, postfix, name)
	} else {
		s, err = loadFixed(ctx, postfix, name, k.database, utf8)
	}
	if err != nil {
		return nil, err
	}
	if info, err := os.Stat(s.File); err == nil && info.Mode().Perm()&0o004 == 0 {
		s.Private = true
	}
	return s, nil
}

// loadAliases reads a table whose text has the syntax of aliases(5): only the database tells.
func loadAliases(ctx context.Context, postfix Postfix, name dict.Name, utf8 bool) (*Source, error) {
	listed, err := list(ctx, postfix, name, utf8)
	if err != nil {
		return nil, err
	}
	return newSource(SourceDatabase, name.Map+kinds[name.Type].database, listed, nil), nil
}

// loadFixed reads a table with fixed keys: its text if the database says the same, or else the database.
func loadFixed(ctx context.Context, postfix Postfix, name dict.Name, suffix string, utf8 bool) (*Source, error) {
	text, warnings, textErr := readText(name.Map)
	if suffix == "" { // Postfix reads the text itself
		if textErr != nil {
			return nil, textErr
		}
		return newSource(SourceText, name.Map, text, warnings), nil
	}
	file := name.Map + suffix
	listed, err := list(ctx, postfix, name, utf8)
	switch {
	case errors.Is(err, errNoListing) && textErr == nil:
		return unlisted(ctx, postfix, name, newSource(SourceText, name.Map, text, warnings))
	case err != nil:
		return nil, err
	case errors.Is(textErr, fs.ErrNotExist):
		return newSource(SourceDatabase, file, listed, nil), nil
	case textErr != nil:
		s := newSource(SourceDatabase, file, listed, nil)
		s.Notes = append(s.Notes, fmt.Sprintf("its text is of no use: %v", textErr))
		return s, nil
	}
	if more, less, other := compare(listed.All(), text.All()); more+less+other > 0 {
		s := newSource(SourceDatabase, file, listed, nil)
		s.Notes = append(s.Notes, fmt.Sprintf("%s is not what the database was made of: %d entries more, %d less, %d with another value; Postfix answers from the database, "+
			"and so will the raft table; to take the text, run first: postmap %s", name.Map, more, less, other, name))
		return s, nil
	}
	return newSource(SourceText, name.Map, text, warnings), nil
}

func newSource(kind, file string, entries *dict.Source, warnings []dict.Problem) *Source {
	return &Source{Kind: kind, File: file, Type: dict.TypeHash, Entries: entries.Len(), Bytes: entries.Bytes(), Warnings: warnings, all: entries.All()}
}

// readText reads source text as postmap(1) does, with warnings.
func readText(path string) (*dict.Source, []dict.Problem, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	return dict.LoadSource(f, dict.SourceOptions{Lenient: true})
}

// errNoListing is the error of a type of database that cannot be listed.
var errNoListing = errors.New("databases of this type cannot be listed")

// list returns what is in a database.
func list(ctx context.Context, postfix Postfix, name dict.Name, utf8 bool) (*dict.Source, error) {
	out, said, err := postfix.Run(ctx, "postmap", nil, "-s", name.String())
	if err != nil {
		if strings.Contains(said, "sequence operation is not supported") { // dict_alloc.c
			return nil, errNoListing
		}
		return nil, complaint("postmap", said, err)
	}
	source, err := readListing(out, utf8)
	if err != nil {
		return nil, fmt.Errorf("what postmap -s %s lists cannot be held by a raft table: %w", name, err)
	}
	return source, nil
}

// readListing reads lines of key, TAB, value. Keys stay as they are, except where Postfix compares letters other than
// ASCII with case, which raft tables do not.
func readListing(listing []byte, utf8 bool) (*dict.Source, error) {
	in, out := io.Pipe()
	go func() { // ends with the listing, or when the reader closes the pipe
		w := dict.NewSourceWriter(out)
		var err error
		for line := range bytes.Lines(listing) {
			key, value, ok := bytes.Cut(bytes.TrimSuffix(line, []byte("\n")), []byte("\t"))
			if !ok {
				err = fmt.Errorf("%q: want key, TAB, value: %w", line, dict.ErrBadSource)
				break
			}
			if !utf8 && bytes.IndexFunc(key, func(r rune) bool { return 'A' <= r && r <= 'Z' }) < 0 {
				key = dict.Fold(key)
			}
			if err = w.Entry(key, value); err != nil {
				break
			}
		}
		out.CloseWithError(err)
	}()
	source, _, err := dict.LoadSource(in, dict.SourceOptions{Lenient: true, NoFold: true})
	in.CloseWithError(err)
	return source, err
}

// compare counts the entries that a has and b has not, that b has and a has not, and those with other values. Both
// ascend by key.
func compare(a, b iter.Seq2[[]byte, []byte]) (more, less, other int) {
	next, stop := iter.Pull2(b)
	defer stop()
	key, value, ok := next()
	for k, v := range a {
		for ok && bytes.Compare(key, k) < 0 {
			less++
			key, value, ok = next()
		}
		switch {
		case !ok || !bytes.Equal(key, k):
			more++
			continue
		case !bytes.Equal(value, v):
			other++
		}
		key, value, ok = next()
	}
	for ok {
		less++
		_, _, ok = next()
	}
	return more, less, other
}

// unlisted returns a text if its database, which cannot be listed, answers with it for all of its keys.
func unlisted(ctx context.Context, postfix Postfix, name dict.Name, s *Source) (*Source, error) {
	answers, err := askPostfix(ctx, postfix, name.String(), slices.Collect(s.keys()))
	if err != nil {
		return nil, err
	}
	i, differ := 0, 0
	for _, value := range s.all {
		if !answers[i].Found || answers[i].Value != string(value) {
			differ++
		}
		i++
	}
	if differ > 0 {
		return nil, fmt.Errorf("%s has %d entries that its database has otherwise, and the database cannot be listed; run first: postmap %s", name.Map, differ, name)
	}
	s.Notes = append(s.Notes, "databases of this type cannot be listed: an entry that is not in the text would go unseen")
	return s, nil
}

// loadRules reads a table of rules. Lines that Postfix skips are left out here too; if the two disagree about
// which ones these are, the table cannot be taken.
func loadRules(ctx context.Context, postfix Postfix, name dict.Name) (*Source, error) {
	text, err := os.ReadFile(name.Map)
	if err != nil {
		return nil, err
	}
	rules, warnings, err := pattern.CompileLenient(name.Type, text)
	if errors.Is(err, dict.ErrUnserved) {
		return nil, fmt.Errorf("%s, %w: Postfix takes it and postraft does not: PATTERN TABLES in postraft(1) says what is refused", name.Map, err)
	}
	if err == nil {
		err = pattern.CheckEntries(name.Type, pattern.Entries(text))
	}
	if err != nil {
		return nil, err
	}
	_, said, err := postfix.Run(ctx, "postmap", strings.NewReader("postraft\n"), "-q", "-", name.String())
	if err != nil && strings.Contains(said, "fatal: ") {
		return nil, complaint("postmap", said, err)
	}
	ours := map[int]bool{}
	for _, w := range warnings {
		ours[w.Line] = true
	}
	theirs := warnedLines(said)
	for _, w := range warnings {
		if !theirs[w.Line] {
			return nil, fmt.Errorf("%s, %s: Postfix takes it and postraft does not: PATTERN TABLES in postraft(1) says what is refused", name.Map, w)
		}
	}
	for line := range theirs {
		if !ours[line] {
			return nil, fmt.Errorf("%s, line %d: postraft takes it and Postfix does not: see what it says to postmap -q x %s", name.Map, line, name)
		}
	}
	return &Source{
		Kind: SourceText, File: name.Map, Type: name.Type, Entries: rules.Len(), Bytes: int64(len(text)),
		Warnings: warnings, all: pattern.Entries(text), text: text,
	}, nil
}

var warnedLine = regexp.MustCompile(`, line (\d+): `)

// warnedLines are the lines that Postfix warns of.
func warnedLines(said string) map[int]bool {
	lines := map[int]bool{}
	for line := range strings.Lines(said) {
		if m := warnedLine.FindStringSubmatch(line); m != nil {
			n, _ := strconv.Atoi(m[1])
			lines[n] = true
		}
	}
	return lines
}

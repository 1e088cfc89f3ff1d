package local

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"postraft/dict"
)

// A Lookuper answers lookups. Its methods may be called from any goroutine.
type Lookuper interface {
	// Lookup is as in dict.Reader.
	Lookup(key []byte) (value []byte, found bool, err error)
}

// A FileType is a kind of table whose content is the text of one file.
type FileType struct {
	Kind dict.Flags // dict.Fixed or dict.Pattern

	// Compile makes the table of a text, which it may keep. utf8 is that of Options. Problems are lines that were left out, for the log.
	// With an error there is no table. The Lookuper may be a dict.FlagReader, and the table can be listed if it has
	// a method Next, as dict.Reader does.
	Compile func(text []byte, utf8 bool) (table Lookuper, problems []dict.Problem, err error)
}

// Config says what a Set needs. Zero values take the defaults.
type Config struct {
	// Raft returns the raft table that answers for a table, nil if none does.
	Raft func(name dict.Name) dict.Reader

	Files  map[string]FileType // by type; besides texthash
	Logger *slog.Logger
	Every  time.Duration // between looks at a file; 1 s
	Wait   time.Duration // for a file that is being written to and was never read; 3 s

	// Where things are; for tests.
	Passwd, Group, NSSwitch string
}

// Options say how a table is opened.
type Options struct {
	Write bool // for changes, too: most kinds cannot
	UTF8  bool // smtputf8_enable: keys and values of the tables inside a compound table shall be UTF-8

	// Other returns a table that is not known here, for use inside a compound table that nobody else can answer, because
	// it holds raft tables. It is nil where nobody knows others.
	Other func(name string) dict.Reader

	Flags dict.Flags // of a lookup: dict.NoRegSub
}

type fileKey struct {
	name dict.Name
	utf8 bool
}

// A Set opens local tables. Tables of the same file share its content. Its methods may be called from any
// goroutine.
type Set struct {
	cfg Config

	mu    sync.Mutex // guards files
	files map[fileKey]*file
}

// New returns a Set. It sees changed files while Run runs.
func New(cfg Config) *Set {
	if cfg.Raft == nil {
		cfg.Raft = func(dict.Name) dict.Reader { return nil }
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	set := func(s *string, d string) {
		if *s == "" {
			*s = d
		}
	}
	set(&cfg.Passwd, "/etc/passwd")
	set(&cfg.Group, "/etc/group")
	set(&cfg.NSSwitch, "/etc/nsswitch.conf")
	if cfg.Every == 0 {
		cfg.Every = time.Second
	}
	if cfg.Wait == 0 {
		cfg.Wait = 3 * time.Second
	}
	return &Set{cfg: cfg, files: map[fileKey]*file{}}
}

// Run looks at the files until ctx ends.
func (s *Set) Run(ctx context.Context) {
	tick := time.NewTicker(s.cfg.Every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		s.mu.Lock()
		files := make([]*file, 0, len(s.files))
		for _, f := range s.files {
			files = append(files, f)
		}
		s.mu.Unlock()
		for _, f := range files {
			f.refresh()
		}
	}
}

// maxDepth bounds tables inside tables.
const maxDepth = 50

// Open returns the table maptype:mapname, or nil if it is to be answered by somebody else. It reads a file at
// most, and waits for nothing.
func (s *Set) Open(name string, o Options) dict.Reader { return s.open(name, o, 0) }

func (s *Set) open(name string, o Options, depth int) dict.Reader {
	parsed, err := dict.ParseName(dict.TrimProxy(name))
	if err != nil {
		return nil
	}
	if depth > 0 {
		if t := s.cfg.Raft(parsed); t != nil {
			return t
		}
	}
	typ, known := s.fileType(parsed)
	switch parsed.Type {
	case "static", "inline", "unionmap", "pipemap", "randmap", "fail":
		known = true
	}
	switch {
	case !known:
		return nil
	case parsed.Map == "":
		return unavailable(parsed, "it has no name")
	case depth > maxDepth:
		return unavailable(parsed, "too many tables inside each other")
	case o.Write && parsed.Type != "static" && parsed.Type != "fail":
		return unavailable(parsed, "it cannot be opened for changes")
	}
	switch parsed.Type {
	case "static":
		return openStatic(parsed)
	case "inline":
		return openInline(parsed, o)
	case "randmap":
		return openRandom(parsed)
	case "fail":
		return unavailable(parsed, "it fails always")
	case "unionmap", "pipemap":
		return s.openCompound(parsed, o, depth)
	case "unix":
		return s.file(parsed, s.unixPath(parsed.Map), typ, o.UTF8)
	default:
		if parsed.Map[0] == '{' {
			return openRules(parsed, typ, o)
		}
		return s.file(parsed, parsed.Map, typ, o.UTF8)
	}
}

// fileType returns the kind of a table that is a file; ok is false if it is none, or somebody else's.
func (s *Set) fileType(name dict.Name) (typ FileType, ok bool) {
	switch name.Type {
	case "texthash":
		typ = FileType{dict.Fixed, CompileTextHash}
	case "unix":
		return s.unixType(name.Map)
	default:
		if typ, ok = s.cfg.Files[name.Type]; !ok {
			return typ, false
		}
	}
	inName := name.Type != "texthash" && strings.HasPrefix(name.Map, "{")
	return typ, name.Map == "" || inName || filepath.IsAbs(name.Map)
}

// file returns the table of a file. The first to ask for it has it read.
func (s *Set) file(name dict.Name, path string, typ FileType, utf8 bool) *file {
	key := fileKey{name, utf8}
	s.mu.Lock()
	f, ok := s.files[key]
	if !ok {
		f = &file{name: name.String(), path: path, typ: typ, utf8: utf8, cfg: &s.cfg, first: make(chan struct{})}
		s.files[key] = f
	}
	s.mu.Unlock()
	if !ok {
		f.refresh()
	}
	return f
}

// Lookup asks a table as a Postfix program does, which wants keys of tables with fixed keys folded and, with UTF8,
// knows nothing that is not UTF-8 (src/util/dict_utf8.c).
func Lookup(t dict.Reader, key []byte, o Options) (value []byte, found bool, err error) {
	if o.UTF8 && !validUTF8(key) {
		return nil, false, nil
	}
	if t.Kind()&dict.Fixed != 0 {
		key = dict.Fold(key)
	}
	if f, ok := t.(dict.FlagReader); ok {
		value, found, err = f.LookupFlags(key, o.Flags)
	} else {
		value, found, err = t.Lookup(key)
	}
	if o.UTF8 && found && !validUTF8(value) {
		return nil, false, fmt.Errorf("value is not UTF-8: %w", dict.ErrConfig)
	}
	return value, found, err
}

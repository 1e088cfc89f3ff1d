// Package cmd holds the programs. Its only test keeps the house in order: imports between rooms go one way.
package cmd

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// mayImport lists, for each room, the other rooms and the modules that its shipped code may import.
// The standard library is open to all. cmd wires the rooms together and may import everything.
var mayImport = map[string][]string{
	"dict":    {"golang.org/x/text"},
	"fsm":     {"postraft/dict", "github.com/hashicorp/raft", "google.golang.org/protobuf/encoding/protowire", "github.com/zeebo/xxh3"},
	"cluster": {"postraft/fsm", "postraft/dict", "github.com/hashicorp", "go.etcd.io/bbolt", "google.golang.org/protobuf/encoding/protowire", "golang.org/x"},
	"proxy":   {"postraft/dict", "golang.org/x/sys"},
	"ops":     {"postraft/dict", "golang.org/x/sys", "github.com/prometheus/client_golang"},
}

// TestRooms_ImportOneWay ensures that each room imports only what the table allows, so that proxy and
// ops know tables and never raft, and nothing imports cmd. Tests may reach further than shipped code
// outside the module, never inside it.
func TestRooms_ImportOneWay(t *testing.T) {
	seen := 0
	for room, allowed := range mayImport {
		root := filepath.Join("..", room)
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") {
				return err
			}
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
			if err != nil {
				return err
			}
			seen++
			for _, spec := range file.Imports {
				name, err := strconv.Unquote(spec.Path.Value)
				if err != nil {
					return err
				}
				ours := name == "postraft" || strings.HasPrefix(name, "postraft/")
				isTest := strings.HasSuffix(path, "_test.go")
				if under(name, "postraft/"+room) || under(name, allowed...) || !ours && (isTest || standard(name)) {
					continue
				}
				t.Errorf("%s imports %s, which the room %s may not know", path, name, room)
			}
			return nil
		})
		if err != nil {
			t.Errorf("read room %s: %v", room, err)
		}
	}
	if seen == 0 {
		t.Fatal("no source files found: the test looks in the wrong place")
	}
}

// under reports whether name is one of roots or below one of them.
func under(name string, roots ...string) bool {
	for _, root := range roots {
		if name == root || strings.HasPrefix(name, root+"/") {
			return true
		}
	}
	return false
}

// standard reports whether name is a package of the standard library: its first element has no dot.
func standard(name string) bool {
	first, _, _ := strings.Cut(name, "/")
	return !strings.Contains(first, ".")
}

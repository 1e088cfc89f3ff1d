package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"postraft/dict"
)

// TestManual_NamesEverything ensures that the manual pages name every setting and every command, and no setting
// that is not there.
func TestManual_NamesEverything(t *testing.T) {
	page := func(name string) string {
		b, err := os.ReadFile(filepath.Join("..", "..", "ops", "dist", "man", name))
		if err != nil {
			t.Fatal(err)
		}
		return strings.ReplaceAll(string(b), `\-`, "-")
	}
	cf := page("postraft.cf.5")
	s := newSettings()
	known := map[string]bool{}
	s.flags.VisitAll(func(f *pflag.Flag) {
		name := strings.ReplaceAll(f.Name, "-", "_")
		known[name] = true
		if !commandLineOnly(f.Name) && !strings.Contains(cf, ".BR "+name+" ") && !strings.Contains(cf, `", " `+name+" ") {
			t.Errorf("postraft.cf(5) does not describe %s", name)
		}
	})
	for line := range strings.Lines(cf) {
		if rest, ok := strings.CutPrefix(line, ".BR "); ok && strings.Contains(line, `(`) && !strings.Contains(line, "postraft") {
			if name := strings.Fields(rest)[0]; !known[name] && strings.Contains(name, "_") {
				t.Errorf("postraft.cf(5) describes %s, which is no setting", name)
			}
		}
	}
	commands := page("postraft.1")
	var walk func(c *cobra.Command, path string)
	walk = func(c *cobra.Command, path string) {
		for _, sub := range c.Commands() {
			name := strings.TrimSpace(path + " " + sub.Name())
			if sub.HasSubCommands() {
				walk(sub, name)
			} else if !strings.Contains(commands, name) {
				t.Errorf("postraft(1) does not describe %q", name)
			}
		}
	}
	walk((&app{}).root(), "")
}

// TestExamples_Parse ensures that the example configurations are ones.
func TestExamples_Parse(t *testing.T) {
	dist := filepath.Join("..", "..", "ops", "dist")
	s := newSettings()
	if _, errs := s.readFile(filepath.Join(dist, "postraft.cf.example"), true); errs != nil {
		t.Error(errs)
	}
	for _, name := range []string{"main.cf.example", "master.cf.example"} {
		f, err := os.Open(filepath.Join(dist, "postfix", name))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		lines := 0
		for line, err := range dict.LogicalLines(f) {
			if err != nil || line.Orphan {
				t.Errorf("%s line %d: %v", name, line.Line, err)
			}
			if !line.Comment {
				lines++
			}
		}
		if lines == 0 {
			t.Errorf("%s holds no lines", name)
		}
	}
}

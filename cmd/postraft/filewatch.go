package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"postraft/dict"
	"postraft/fsm/packed"
	"postraft/ops"
)

// watchTimeout bounds one import of a watched file.
const watchTimeout = 10 * time.Minute

// A watchedFile is what a word of the setting says: [TYPE:]TABLE=FILE.
type watchedFile struct{ typ, table, path string }

func parseWatchFile(word string) (w watchedFile, err error) {
	table, path, ok := cut(dict.Unbrace(word), strings.Index)
	if !ok || path == "" {
		return w, fmt.Errorf("%s: want TABLE=FILE, or TYPE:TABLE=FILE", word)
	}
	typ, name, typed := strings.Cut(table, ":")
	if typed {
		table = name
		err = dict.CheckTableType(typ)
	} else {
		typ = ""
	}
	if err = errors.Join(err, dict.CheckTableName(table)); err != nil {
		return w, fmt.Errorf("%s: %w", word, err)
	}
	return watchedFile{typ, table, path}, nil
}

func digestOf(entries iter.Seq2[[]byte, []byte]) string { return packed.DigestOf(entries).String() }

// watchFiles starts what imports the files of the settings, until ctx ends.
func (g *agent) watchFiles(ctx context.Context) {
	limit, _ := percent(g.settings.watchMaxChange, false) // was checked
	var watches []*ops.FileWatch
	for _, word := range g.settings.watchFiles {
		f, err := parseWatchFile(word)
		if err != nil {
			g.log.Error("file not watched", "err", err)
			continue
		}
		w := &ops.FileWatch{Table: f.table, Path: f.path, Import: ops.ImportOptions{Type: f.typ, MaxChange: limit}, To: g.operated(), Digest: digestOf, Logger: g.log}
		watches = append(watches, w)
		g.tasks.Go(func() { w.Run(ctx) })
	}
	g.watches.Store(&watches)
}

// watchWarnings says which files are not imported as they are.
func watchWarnings(watches *[]*ops.FileWatch) (warnings []string) {
	if watches == nil {
		return nil
	}
	for _, w := range *watches {
		if problem := w.Problem(); problem != "" {
			warnings = append(warnings, fmt.Sprintf("watch_file: %s is not imported into table %s: %s", w.Path, w.Table, problem))
		}
	}
	return warnings
}

func (a *app) watchFileCmd() *cobra.Command {
	var opts dict.SourceOptions
	var maxChange, typ string
	var force bool
	cmd := &cobra.Command{
		Use:   "watch-file NAME FILE",
		Short: "Import a file, and again whenever it changes, until it is ended",
		Long: `Imports the file into the table as "table import" does, and again whenever the file has changed, until Ctrl-C. What it
does and what is wrong with the file goes to standard error. It runs in the foreground, to try something out or under a
supervisor of its own; the agent does the same for good with a line "watch_file = NAME=FILE" in postraft.cf.`,
		Args:              want(2, 2),
		ValidArgsFunction: a.tableArg,
		RunE: action(func(ctx context.Context, args []string) error {
			if err := dict.CheckTableName(args[0]); err != nil {
				return err
			}
			if typ != "" {
				if err := dict.CheckTableType(typ); err != nil {
					return err
				}
			}
			limit, err := percent(maxChange, force)
			if err != nil {
				return err
			}
			w := &ops.FileWatch{Table: args[0], Path: args[1], Source: opts, Import: ops.ImportOptions{Type: typ, MaxChange: limit}, To: a.client().WithTimeout(watchTimeout), Digest: digestOf, Logger: slog.New(slog.NewTextHandler(a.err, nil))}
			w.Run(ctx)
			return nil
		}),
	}
	sourceFlags(cmd, &opts)
	limitFlags(cmd, &maxChange, &force)
	cmd.Flags().StringVar(&typ, "type", "", "`kind` of a table that is not there yet: "+kinds)
	return cmd
}

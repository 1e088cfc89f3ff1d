package main

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"postraft/dict"
	"postraft/ops"
)

// watchTimeout bounds one import of a watched file.
const watchTimeout = 10 * time.Minute

// parseWatchFile reads TABLE=FILE.
func parseWatchFile(word string) (table, path string, err error) {
	table, path, ok := strings.Cut(word, "=")
	if !ok || path == "" {
		return "", "", fmt.Errorf("%s: want TABLE=FILE", word)
	}
	if err := dict.CheckTableName(table); err != nil {
		return "", "", fmt.Errorf("%s: %w", word, err)
	}
	return table, path, nil
}

// watchFiles starts what imports the files of the settings, until ctx ends.
func (g *agent) watchFiles(ctx context.Context) {
	limit, _ := percent(g.settings.watchMaxChange, false) // was checked
	for _, word := range g.settings.watchFiles {
		table, path, err := parseWatchFile(word)
		if err != nil {
			g.log.Error("file not watched", "err", err)
			continue
		}
		w := &ops.FileWatch{Table: table, Path: path, Import: ops.ImportOptions{Type: dict.TypeHash, MaxChange: limit}, To: g.operated(), Logger: g.log}
		g.tasks.Go(func() { w.Run(ctx) })
	}
}

func (a *app) watchFileCmd() *cobra.Command {
	var opts dict.SourceOptions
	var maxChange string
	var force bool
	cmd := &cobra.Command{
		Use:   "watch-file NAME FILE",
		Short: "Import a file, and again whenever it changes, until it is ended",
		Long: `Imports the file into the table as "table import" does, and again whenever the file has changed, until Ctrl-C. What it
does and what is wrong with the file goes to standard error. An agent does so by itself with its setting watch_file.`,
		Args:              want(2, 2),
		ValidArgsFunction: a.tableArg,
		RunE: action(func(ctx context.Context, args []string) error {
			if err := dict.CheckTableName(args[0]); err != nil {
				return err
			}
			limit, err := percent(maxChange, force)
			if err != nil {
				return err
			}
			w := &ops.FileWatch{Table: args[0], Path: args[1], Source: opts, Import: ops.ImportOptions{Type: dict.TypeHash, MaxChange: limit}, To: a.client().WithTimeout(watchTimeout), Logger: slog.New(slog.NewTextHandler(a.err, nil))}
			w.Run(ctx)
			return nil
		}),
	}
	sourceFlags(cmd, &opts)
	limitFlags(cmd, &maxChange, &force)
	return cmd
}

package main

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"postraft/dict"
	"postraft/ops"
)

// parseMirror reads TABLE=TYPE:PATH.
func parseMirror(word string) (table string, target dict.Name, err error) {
	table, rest, _ := cut(dict.Unbrace(word), strings.Index)
	target, err = dict.ParseName(rest)
	if err != nil || !filepath.IsAbs(target.Map) || filepath.Clean(target.Map) != target.Map {
		return "", target, fmt.Errorf("%s: want TABLE=TYPE:PATH with an absolute path", word)
	}
	if err := dict.CheckTableName(table); err != nil {
		return "", target, fmt.Errorf("%s: %w", word, err)
	}
	return table, target, ops.CheckMirror(target)
}

func checkMirrors(words []string) error {
	paths := map[string]bool{}
	for _, w := range words {
		_, target, err := parseMirror(w)
		if err != nil {
			return err
		}
		if paths[target.Map] {
			return fmt.Errorf("%s is there twice", target.Map)
		}
		paths[target.Map] = true
	}
	return nil
}

// mirroredSources are the files that are imported and that a mirror would write.
func (s *settings) mirroredSources() (paths []string) {
	for _, word := range s.watchFiles {
		watched, err := parseWatchFile(word)
		if err != nil {
			continue // told where it was read
		}
		if slices.ContainsFunc(s.mirrors, func(word string) bool {
			_, target, err := parseMirror(word)
			return err == nil && target.Map == filepath.Clean(watched.path)
		}) {
			paths = append(paths, watched.path)
		}
	}
	return paths
}

// newMirrors returns the mirrors of the settings, which were checked.
func (g *agent) newMirrors() (mirrors []*ops.Mirror) {
	command := ops.PostfixCommand("postmap")
	for _, word := range g.settings.mirrors {
		table, target, err := parseMirror(word)
		if err != nil {
			g.log.Error("no mirror", "err", err)
			continue
		}
		mirrors = append(mirrors, &ops.Mirror{
			Table: table, Target: target, From: operated{node: g.node}, Logger: g.log, Postmap: command, ConfigDir: g.settings.postfixConfig,
		})
	}
	return mirrors
}

// mirror starts the mirrors, until ctx ends.
func (g *agent) mirror(ctx context.Context) {
	for _, m := range g.mirrors {
		g.tasks.Go(func() { m.Run(ctx) })
	}
}

func (a *app) printMirrors(mirrors []ops.MirrorState) error {
	if len(mirrors) == 0 {
		return nil
	}
	fmt.Fprintln(a.out)
	rows := [][]any{{"MIRROR", "TABLE", "VERSION", "STATE"}}
	for _, m := range mirrors {
		state := "current"
		switch {
		case m.Error != "":
			state = "failed: " + m.Error
		case !m.Current:
			state = "being written"
		}
		rows = append(rows, []any{m.Target, m.Table, m.Version, state})
	}
	return columns(a.out, rows)
}

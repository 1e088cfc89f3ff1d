package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"postraft/dict"
	"postraft/fsm/packed"
	"postraft/ops"
)

// load reads the source text of a table from a file, or from standard input for "-".
func (a *app) load(file string, opts dict.SourceOptions) (*dict.Source, error) {
	name := file
	if file == "-" {
		name = "standard input"
	}
	var source *dict.Source
	var warnings []dict.Problem
	var badText error
	err := a.withFile(file, func(in io.Reader, size int64) error {
		bar := a.progress("reading "+name, size, true)
		defer bar.done()
		opts.Workers, opts.OnSlab = runtime.GOMAXPROCS(0), askHuge
		source, warnings, badText = dict.LoadSource(io.TeeReader(in, bar), opts)
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, w := range warnings {
		fmt.Fprintln(a.err, oneLine("postraft: warning: %s: %s", name, w))
	}
	if badText != nil {
		e := ops.Errorf(ops.BadData, "%s: %v", name, badText)
		var lines *dict.SourceError
		if errors.As(badText, &lines) && !opts.Lenient {
			return nil, e.Advise("nothing was changed; mend the text, or take --lenient for postmap's rules")
		}
		return nil, e
	}
	return source, nil
}

// A table's worth of entries, in the order of their keys.
type table interface {
	All() iter.Seq2[[]byte, []byte]
	Len() int
	Bytes() int64
}

// loadType is load for a table of any type.
func (a *app) loadType(file, typ string, opts dict.SourceOptions) (table, error) {
	if !dict.IsPattern(typ) {
		return a.load(file, opts)
	}
	return a.loadRules(file, typ, opts.Lenient)
}

// digestOfTable is digestOf with several processors, where the table can be parted.
func digestOfTable(t table) string {
	if s, ok := t.(*dict.Source); ok {
		return packed.DigestOf(s.Split(runtime.GOMAXPROCS(0))...).String()
	}
	return digestOf(t.All())
}

func (a *app) importCmd() *cobra.Command {
	var opts dict.SourceOptions
	var imp ops.ImportOptions
	var maxChange string
	var force bool
	var cmd *cobra.Command
	cmd = &cobra.Command{
		Use:   "import NAME FILE|-",
		Short: "Make a table equal to postmap source text, or to rules",
		Long: `Makes the table equal to the postmap source text in FILE, in one step for every reader on every node, and creates
it if need be. Keys are folded to lower case as postmap(1) does. A bad line, or a key that comes twice with
different values, refuses the whole import. A table of type cidr, regexp or pcre takes its rules as they stand;
a rule that Postfix would skip or warn about refuses them all. Only what differs is sent to the other nodes, and an
equal file costs one comparison of digests. When the leader is lost meanwhile the import goes on with the next one,
and when this host's agent is restarted it begins again by itself; after --timeout it ends with 75, the table is the
old one or the new one, and a second import finishes it.`,
		Example:           "  postraft table import virtual_alias /etc/postfix/virtual",
		Args:              want(2, 2),
		ValidArgsFunction: a.tableArg,
		RunE: action(func(ctx context.Context, args []string) error {
			if err := dict.CheckTableName(args[0]); err != nil {
				return err
			}
			a.gentle()
			var err error
			if imp.MaxChange, err = percent(maxChange, force); err != nil {
				return err
			}
			typed := cmd.Flags().Changed("type")
			var now ops.TableInfo
			if !typed {
				if now, err = a.tableOf(ctx, args[0]); err != nil {
					return err
				}
				imp.Type = now.Type
			}
			source, err := a.loadType(args[1], imp.Type, opts)
			if err != nil {
				return err
			}
			// A table of another size has another digest.
			if typed || dict.IsPattern(imp.Type) || now.Entries == source.Len() && now.Bytes == source.Bytes() {
				imp.Digest = digestOfTable(source)
			}
			result, err := a.importSource(ctx, args[0], source, imp)
			if err != nil {
				return err
			}
			return a.importSummary(result)
		}),
	}
	sourceFlags(cmd, &opts)
	cmd.Flags().BoolVar(&imp.Merge, "merge", false, "add and replace entries only, remove none")
	cmd.Flags().BoolVar(&imp.DryRun, "dry-run", false, "count what would change and change nothing")
	limitFlags(cmd, &maxChange, &force)
	cmd.Flags().StringVar(&imp.Type, "type", dict.TypeHash, "`kind` of a table that is not there yet: "+kinds)
	return cmd
}

// importSource imports, and does so again when the agent has broken off and is back in time: an import that has
// happened does nothing the second time.
func (a *app) importSource(ctx context.Context, name string, source table, opts ops.ImportOptions) (ops.ImportResult, error) {
	client, end := a.client(), time.Now().Add(a.bulkTimeout(source.Bytes()))
	var broke *ops.Error // how the first try ended
	for {
		bar := a.progress("sending", int64(source.Len()), false)
		result, err := client.WithTimeout(max(time.Until(end), time.Second)).Import(ctx, name, opts, counted(source.All(), bar))
		bar.done()
		var e *ops.Error
		switch {
		case err == nil || ctx.Err() != nil || !errors.As(err, &e):
			return result, err
		case e.Kind == ops.UnknownOutcome && broke == nil:
			broke = e.Advise("import it again: a second time finishes it, or finds that nothing is left to do")
		case e.Kind != ops.UnknownOutcome && e.Kind != ops.Retry && (e.Kind != ops.NoAgent || broke == nil):
			return result, err
		case broke == nil:
			broke = e
		}
		if time.Until(end) <= 0 {
			return result, broke
		}
		select {
		case <-time.After(importAgain):
		case <-ctx.Done():
			return result, broke
		}
	}
}

// importAgain is how long an import waits before it tries again.
const importAgain = 250 * time.Millisecond

func limitFlags(cmd *cobra.Command, maxChange *string, force *bool) {
	cmd.Flags().StringVar(maxChange, "max-change", "", "refuse to change or remove more than this `percentage` of the entries that are there")
	cmd.Flags().BoolVar(force, "force", false, "whatever --max-change says")
}

// percent reads --max-change. 0 is without a limit.
func percent(text string, force bool) (float64, error) {
	if text == "" || force {
		return 0, nil
	}
	p, err := strconv.ParseFloat(strings.TrimSuffix(text, "%"), 64)
	if err != nil || !(p > 0) || p > 100 {
		return 0, ops.Errorf(ops.Usage, "--max-change %q: want a percentage such as 20%%", text)
	}
	return p, nil
}

func sourceFlags(cmd *cobra.Command, opts *dict.SourceOptions) {
	cmd.Flags().BoolVar(&opts.Lenient, "lenient", false, "postmap's rules: skip bad lines, the first of two equal keys stays, with warnings")
	cmd.Flags().BoolVar(&opts.NoFold, "no-fold", false, "keep keys as they are written (postmap -f)")
}

// counted moves the bar with the entries.
func counted(entries iter.Seq2[[]byte, []byte], bar *progress) iter.Seq2[[]byte, []byte] {
	return func(yield func(k, v []byte) bool) {
		n := 0
		for k, v := range entries {
			if !yield(k, v) {
				return
			}
			if n++; n%1024 == 0 {
				bar.add(1024)
			}
		}
		bar.next("committing")
	}
}

func (a *app) exportCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "export NAME",
		Short: "Print a table as postmap source text",
		Long: `Prints the table as postmap source text that imports to the same table. Entries that such text cannot carry, such
as keys with capital letters, are comments for postmap(1) and entries for "postraft table import". Of a table of
rules it prints the text that was imported.`,
		Args:              want(1, 1),
		ValidArgsFunction: a.tableArg,
		RunE: action(func(ctx context.Context, args []string) error {
			typ, err := a.typeOf(ctx, args[0])
			if err != nil {
				return err
			}
			out := bufio.NewWriterSize(a.out, 64<<10)
			write := dict.NewSourceWriter(out).Entry
			if dict.IsPattern(typ) {
				write = func(_, line []byte) error {
					out.Write(line)
					return out.WriteByte('\n')
				}
			}
			if err := a.client().Entries(ctx, args[0], nil, write); err != nil {
				return err
			}
			return out.Flush()
		}),
	}
}

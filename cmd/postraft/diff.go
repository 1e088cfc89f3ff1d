package main

import (
	"bufio"
	"context"

	"github.com/spf13/cobra"

	"postraft/dict"
	"postraft/ops"
)

// jsonChange is a change as operators see it: a null is no entry.
type jsonChange struct {
	Key       string  `json:"key"`
	Old       *string `json:"old"`
	New       *string `json:"new"`
	KeyBase64 string  `json:"key_base64,omitempty"`
}

func (a *app) diffCmd() *cobra.Command {
	var opts dict.SourceOptions
	cmd := &cobra.Command{
		Use:   "diff NAME FILE|-",
		Short: "Show what an import would change",
		Long: `Prints what an import of the source text would change, in key order: "-" before an entry that would go, "+" before
one that would come, both for a key with another value. Exits 1 if there is anything. A table that does not
exist counts as empty.`,
		Args:              want(2, 2),
		ValidArgsFunction: a.tableArg,
		RunE: action(func(ctx context.Context, args []string) error {
			if err := dict.CheckTableName(args[0]); err != nil {
				return err
			}
			a.gentle()
			typ, err := a.typeOf(ctx, args[0])
			if err != nil {
				return err
			}
			if dict.IsPattern(typ) {
				return a.diffRules(ctx, args[0], args[1], typ, opts.Lenient)
			}
			source, err := a.load(args[1], opts)
			if err != nil {
				return err
			}
			changes := 0
			out := bufio.NewWriterSize(a.out, 64<<10)
			emit, finish := func(c ops.Change) error { return diffText(out, c) }, out.Flush
			if a.json {
				list := newJSONList(a.out)
				emit, finish = func(c ops.Change) error { return list.add(newJSONChange(c)) }, list.end
			}
			err = a.bulkClient(source.Bytes()).Diff(ctx, args[0], source.All(), func(c ops.Change) error {
				changes++
				return emit(c)
			})
			if err != nil {
				return err
			}
			if err := finish(); err != nil {
				return err
			}
			if changes > 0 {
				return errQuiet
			}
			return nil
		}),
	}
	sourceFlags(cmd, &opts)
	return cmd
}

// diffText writes the lines of a change.
func diffText(out *bufio.Writer, c ops.Change) error {
	line := func(mark byte, value []byte) error {
		out.WriteByte(mark)
		out.Write(c.Key)
		out.WriteByte('\t')
		out.Write(value)
		return out.WriteByte('\n') // a bufio.Writer keeps its first error
	}
	if c.Old != nil {
		if err := line('-', c.Old); err != nil {
			return err
		}
	}
	if c.New != nil {
		return line('+', c.New)
	}
	return nil
}

func newJSONChange(c ops.Change) jsonChange {
	text := func(b []byte) *string {
		if b == nil {
			return nil
		}
		s := string(b)
		return &s
	}
	return jsonChange{string(c.Key), text(c.Old), text(c.New), exactly(c.Key)}
}

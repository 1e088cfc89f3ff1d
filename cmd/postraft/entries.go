package main

import (
	"bufio"
	"context"

	"github.com/spf13/cobra"

	"postraft/dict"
	"postraft/ops"
)

// fold returns a key as tables keep it, or as it is.
func fold(key string, exact bool) []byte {
	if exact {
		return []byte(key)
	}
	return dict.Fold([]byte(key))
}

func foldFlag(cmd *cobra.Command, exact *bool) {
	cmd.Flags().BoolVar(exact, "no-fold", false, "take the key as it is, instead of folding it to lower case as Postfix does")
}

func (a *app) getCmd() *cobra.Command {
	var exact, consistent, explain bool
	cmd := &cobra.Command{
		Use:               "get TABLE KEY",
		Short:             "Print the value of a key; exit 1 if there is none",
		Args:              want(2, 2),
		ValidArgsFunction: a.tableArg,
		RunE: action(func(ctx context.Context, args []string) error {
			if explain {
				return a.explain(ctx, args[0], []byte(args[1]), exact)
			}
			key, err := a.keyFor(ctx, args[0], args[1], exact)
			if err != nil {
				return err
			}
			v, err := a.client().Get(ctx, args[0], key, consistent)
			if err != nil {
				return err
			}
			if a.json {
				err = printJSON(a.out, struct {
					Table string `json:"table"`
					Found bool   `json:"found"`
					jsonEntry
				}{args[0], v.Found, newJSONEntry(key, v.Value)})
			} else if v.Found {
				_, err = a.out.Write(append(v.Value, '\n'))
			}
			if err == nil && !v.Found {
				err = errQuiet
			}
			return err
		}),
	}
	foldFlag(cmd, &exact)
	cmd.Flags().BoolVar(&consistent, "consistent", false, "what the whole cluster has now; needs the leader")
	cmd.Flags().BoolVar(&explain, "explain", false, "tell how this node comes to its answer: the key that it looks for, the rule, the age of the table")
	cmd.MarkFlagsMutuallyExclusive("consistent", "explain")
	return cmd
}

func (a *app) putCmd() *cobra.Command {
	var exact bool
	cmd := &cobra.Command{
		Use:               "put TABLE KEY VALUE",
		Short:             "Write one entry",
		Args:              want(3, 3),
		ValidArgsFunction: a.tableArg,
		RunE: action(func(ctx context.Context, args []string) error {
			c := a.client()
			if err := c.Put(ctx, args[0], fold(args[1], exact), []byte(args[2])); err != nil {
				return err
			}
			return a.printIndex(c)
		}),
	}
	foldFlag(cmd, &exact)
	return cmd
}

func (a *app) deleteCmd() *cobra.Command {
	var exact bool
	cmd := &cobra.Command{
		Use:               "delete TABLE KEY",
		Short:             "Remove one entry; exit 1 if there is none",
		Args:              want(2, 2),
		ValidArgsFunction: a.tableArg,
		RunE: action(func(ctx context.Context, args []string) error {
			c := a.client()
			found, err := c.Delete(ctx, args[0], fold(args[1], exact))
			if err == nil && !found {
				err = ops.Errorf(ops.NotFound, "there is no key %q", args[1])
			}
			if err != nil {
				return err
			}
			return a.printIndex(c)
		}),
	}
	foldFlag(cmd, &exact)
	return cmd
}

func (a *app) listCmd() *cobra.Command {
	var prefix string
	cmd := &cobra.Command{
		Use:               "list TABLE",
		Short:             "Print the entries of a table in key order",
		Args:              want(1, 1),
		ValidArgsFunction: a.tableArg,
		RunE: action(func(ctx context.Context, args []string) error {
			if a.json {
				list := newJSONList(a.out)
				if err := a.client().Entries(ctx, args[0], []byte(prefix), func(k, v []byte) error { return list.add(newJSONEntry(k, v)) }); err != nil {
					return err
				}
				return list.end()
			}
			out := bufio.NewWriterSize(a.out, 64<<10)
			err := a.client().Entries(ctx, args[0], []byte(prefix), func(k, v []byte) error {
				out.Write(k)
				out.WriteByte('\t')
				out.Write(v)
				return out.WriteByte('\n')
			})
			if flushErr := out.Flush(); err == nil {
				err = flushErr
			}
			return err
		}),
	}
	cmd.Flags().StringVar(&prefix, "prefix", "", "only keys that begin so, byte for byte")
	return cmd
}

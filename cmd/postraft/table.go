package main

import (
	"context"

	"github.com/spf13/cobra"

	"postraft/dict"
	"postraft/ops"
)

func (a *app) tableCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "table",
		Short: "Create, inspect, fill and drop tables",
		Args:  want(0, 0),
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.tableCreateCmd(), a.tableListCmd(), a.tableInfoCmd(), a.tableSetCmd(), a.tableDropCmd(), a.importCmd(), a.exportCmd(), a.diffCmd(), a.restoreVersionCmd(), a.watchFileCmd())
	return cmd
}

func (a *app) tableCreateCmd() *cobra.Command {
	var typ string
	var change dict.SettingsChange
	cmd := &cobra.Command{
		Use:   "create NAME",
		Short: "Make an empty table",
		Args:  want(1, 1),
		RunE: action(func(ctx context.Context, args []string) error {
			if err := dict.CheckTableName(args[0]); err != nil {
				return err
			}
			if err := dict.CheckTableType(typ); err != nil {
				return err
			}
			settings := dict.Settings{}.With(change)
			if err := settings.Check(typ); err != nil {
				return err
			}
			c := a.client()
			if err := c.CreateTable(ctx, args[0], typ, settings); err != nil {
				return err
			}
			if a.json {
				return a.printIndex(c)
			}
			return a.say("%s: created; Postfix names it proxy:%s:%s", args[0], dict.RaftType, args[0])
		}),
	}
	cmd.Flags().StringVar(&typ, "type", dict.TypeHash, "`kind` of table: "+kinds)
	settingFlags(cmd.Flags(), &change)
	return cmd
}

// kinds are the types of tables.
const kinds = dict.TypeHash + ", or rules of " + dict.TypeCIDR + ", " + dict.TypeRegexp + " or " + dict.TypePCRE

func (a *app) tableListCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List all tables",
		Args:  want(0, 0),
		RunE: action(func(ctx context.Context, _ []string) error {
			tables, err := a.client().Tables(ctx)
			if err != nil {
				return err
			}
			if a.json {
				return printJSON(a.out, tables)
			}
			return columns(a.out, tableRows(tables))
		}),
	}
}

func (a *app) tableInfoCmd() *cobra.Command {
	return &cobra.Command{
		Use:               "info NAME",
		Short:             "Describe a table",
		Args:              want(1, 1),
		ValidArgsFunction: a.tableArg,
		RunE: action(func(ctx context.Context, args []string) error {
			t, err := a.client().Table(ctx, args[0])
			if err != nil {
				return err
			}
			status, err := a.client().Status(ctx)
			if err != nil {
				return err
			}
			aliases := []string{}
			for _, alias := range status.Aliases {
				if alias.Table == t.Name {
					aliases = append(aliases, alias.Name)
				}
			}
			if a.json {
				return printJSON(a.out, struct {
					ops.TableInfo
					Aliases []string `json:"aliases"`
				}{t, aliases})
			}
			rows := [][]any{{"table", t.Name}, {"type", t.Type}, {"entries", t.Entries}, {"bytes", t.Bytes}, {"version", t.Version}, {"digest", t.Digest}}
			rows = append(rows, settingRows(t)...)
			for _, alias := range aliases {
				rows = append(rows, []any{"alias", alias})
			}
			return columns(a.out, rows)
		}),
	}
}

func (a *app) tableDropCmd() *cobra.Command {
	return &cobra.Command{
		Use:               "drop NAME",
		Short:             "Remove a table and all its entries",
		Args:              want(1, 1),
		ValidArgsFunction: a.tableArg,
		RunE: action(func(ctx context.Context, args []string) error {
			c := a.client()
			if err := c.DropTable(ctx, args[0]); err != nil {
				return err
			}
			if a.json {
				return a.printIndex(c)
			}
			return a.say("%s: dropped", args[0])
		}),
	}
}

// importSummary is the line that an import ends with.
func (a *app) importSummary(r ops.ImportResult) error {
	if a.json {
		return printJSON(a.out, r)
	}
	note := ""
	if r.DryRun {
		note = " (dry run: nothing was changed)"
	}
	return a.say("%s: %d added, %d changed, %d removed, %d unchanged%s", r.Table, r.Added, r.Changed, r.Removed, r.Unchanged, note)
}

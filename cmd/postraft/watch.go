package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"postraft/ops"
)

// jsonEvent is an ops.Event as commands print it.
type jsonEvent struct {
	Index uint64    `json:"index"`
	Time  time.Time `json:"time,omitzero"`
	Op    string    `json:"op"` // put or delete
	Node  string    `json:"node,omitempty"`
	Way   string    `json:"way,omitempty"`
	Whole bool      `json:"whole,omitempty"`
	Key   string    `json:"key"`
	Old   *string   `json:"old,omitempty"`
	Value *string   `json:"value,omitempty"`
}

func newJSONEvent(e ops.Event) jsonEvent {
	j := jsonEvent{Index: e.Index, Time: e.Time, Op: "delete", Node: e.Node, Way: e.Way, Whole: e.Whole, Key: string(e.Key)}
	if e.HadOld {
		old := string(e.Old)
		j.Old = &old
	}
	if e.HasNew {
		value := string(e.New)
		j.Op, j.Value = "put", &value
	}
	return j
}

func (a *app) watchCmd() *cobra.Command {
	var from uint64
	var cmd *cobra.Command
	cmd = &cobra.Command{
		Use:   "watch TABLE",
		Short: "Print the changes of a table as they are applied, a line each",
		Long: `Prints the changes of a table as this node applies them, a line each, until Ctrl-C. When the agent ends, the watch goes on
where it was as soon as the agent is back; after --timeout it ends, and says with which --from to go on.`,
		Args:              want(1, 1),
		ValidArgsFunction: a.tableArg,
		RunE: action(func(ctx context.Context, args []string) error {
			var behind *uint64
			if cmd.Flags().Changed("from") {
				behind = &from
			}
			out := json.NewEncoder(a.out)
			out.SetEscapeHTML(false)
			return a.client().Watch(ctx, args[0], behind, func(e ops.Event) error {
				j := newJSONEvent(e)
				if a.json {
					return out.Encode(j)
				}
				if !e.HasNew {
					_, err := fmt.Fprintf(a.out, "%d\tdelete\t%s\n", e.Index, e.Key)
					return err
				}
				_, err := fmt.Fprintf(a.out, "%d\tput\t%s\t%s\n", e.Index, e.Key, e.New)
				return err
			}, func(err error) {
				fmt.Fprintln(a.err, oneLine("postraft: watch %s: %v; it goes on when the agent is back", args[0], ops.Classify(err).Text))
			})
		}),
	}
	cmd.Flags().Uint64Var(&from, "from", 0, "begin with the changes behind this `index`, instead of those to come")
	return cmd
}

func (a *app) historyCmd() *cobra.Command {
	var exact bool
	cmd := &cobra.Command{
		Use:               "history TABLE KEY",
		Short:             "Print the changes of a key that this node remembers",
		Args:              want(2, 2),
		ValidArgsFunction: a.tableArg,
		RunE: action(func(ctx context.Context, args []string) error {
			list, err := a.client().History(ctx, args[0], fold(args[1], exact))
			if err != nil {
				return err
			}
			if len(list.Events) == 0 { // a table that was dropped may have a history
				if _, err := a.client().Table(ctx, args[0]); err != nil {
					return err
				}
			}
			if a.json {
				shown := struct {
					Table  string      `json:"table"`
					Begin  uint64      `json:"begin"`
					Events []jsonEvent `json:"events"`
				}{args[0], list.Begin, []jsonEvent{}}
				for _, e := range list.Events {
					shown.Events = append(shown.Events, newJSONEvent(e))
				}
				return printJSON(a.out, shown)
			}
			rows := [][]any{{"INDEX", "TIME", "CHANGE", "WAY", "NODE", "BEFORE", "AFTER"}}
			for _, e := range list.Events {
				when := "-"
				if !e.Time.IsZero() {
					when = e.Time.UTC().Format("2006-01-02T15:04:05Z")
				}
				rows = append(rows, []any{e.Index, when, newJSONEvent(e).Op, cmp.Or(e.Way, "-"), cmp.Or(e.Node, "-"), orDash(e.HadOld, e.Old), orDash(e.HasNew, e.New)})
			}
			if err := columns(a.out, rows); err != nil {
				return err
			}
			if list.Begin > 0 {
				return a.say("nothing is known of index %d and before", list.Begin)
			}
			return nil
		}),
	}
	foldFlag(cmd, &exact)
	return cmd
}

func orDash(there bool, value []byte) string {
	if !there {
		return "-"
	}
	return string(value)
}

func (a *app) restoreVersionCmd() *cobra.Command {
	var version uint64
	cmd := &cobra.Command{
		Use:               "restore NAME --at-version V",
		Short:             "Make a table what it was at an index, within what this node remembers",
		Args:              want(1, 1),
		ValidArgsFunction: a.tableArg,
		RunE: action(func(ctx context.Context, args []string) error {
			r, err := a.client().RestoreVersion(ctx, args[0], version)
			if err != nil {
				return err
			}
			if a.json {
				return printJSON(a.out, r)
			}
			before := fmt.Sprintf("in place of version %d", r.Was)
			switch {
			case r.Was == 0:
				before = "there was no table"
			case r.Version == r.Was:
				before = "as it was already"
			}
			return a.say("%s: as at index %d, %s: %d added, %d changed, %d removed, %d unchanged", r.Table, version, before, r.Added, r.Changed, r.Removed, r.Unchanged)
		}),
	}
	cmd.Flags().Uint64Var(&version, "at-version", 0, "the `index`: the table's version as table list, watch and history show it")
	cmd.MarkFlagRequired("at-version")
	return cmd
}

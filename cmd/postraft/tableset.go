package main

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"postraft/dict"
	"postraft/ops"
)

// settingFlags registers the flags of a table's settings. change holds those that were given.
func settingFlags(f *pflag.FlagSet, change *dict.SettingsChange) {
	f.Var(&setting{"N", func(text string) (func(), error) {
		n, err := int64(0), error(nil)
		if text != "off" {
			n, err = strconv.ParseInt(text, 10, 64)
		}
		if err != nil || n < 0 {
			return nil, errors.New("want a number of entries, or off")
		}
		return func() { change.MaxEntries = &n }, nil
	}, nil}, "max-entries", "how many entries there may be; those written longest ago make room; off is no limit")
	for _, d := range []struct {
		name, usage string
		to          **time.Duration
	}{
		{"expire-after", "an entry that was not written for so long goes, such as 12h or 7d; off is never", &change.ExpireAfter},
		{"write-deadline", "an update or delete by Postfix is answered within; off is 100ms for a table with one of the limits above, else 5s", &change.WriteDeadline},
		{"max-staleness", "answer RETRY to lookups after so long without a leader, if max_staleness of the node does not end first; off is never", &change.MaxStaleness},
	} {
		f.Var(&setting{"DURATION", func(text string) (func(), error) {
			v, err := dict.ParseDuration(text)
			if err != nil {
				return nil, errors.New("want a duration such as 100ms, 90s, 12h or 7d, or off")
			}
			return func() { *d.to = &v }, nil
		}, nil}, d.name, d.usage)
	}
}

func (a *app) tableSetCmd() *cobra.Command {
	var change dict.SettingsChange
	cmd := &cobra.Command{
		Use:   "set NAME",
		Short: "Change settings of a table",
		Long: `Changes those settings of a table that are given, for all nodes; off clears one. Entries that are there when --expire-after
is set count as written then. "postraft table info" shows what is set.`,
		Args:              want(1, 1),
		ValidArgsFunction: a.tableArg,
		RunE: action(func(ctx context.Context, args []string) error {
			if change == (dict.SettingsChange{}) {
				return ops.Errorf(ops.Usage, "nothing to set").Advise("give --max-entries, --expire-after, --write-deadline or --max-staleness")
			}
			c := a.client()
			if err := c.SetTable(ctx, args[0], change); err != nil {
				return err
			}
			if a.json {
				return a.printIndex(c)
			}
			t, err := c.Table(ctx, args[0])
			if err != nil {
				return err
			}
			return columns(a.out, append([][]any{{"table", t.Name}}, settingRows(t)...))
		}),
	}
	settingFlags(cmd.Flags(), &change)
	return cmd
}

// settingRows shows the settings of a table, nothing where it has none.
func settingRows(t ops.TableInfo) (rows [][]any) {
	s := t.Settings.Settings()
	if s.MaxEntries > 0 {
		rows = append(rows, []any{"max entries", s.MaxEntries})
	}
	if s.ExpireAfter > 0 {
		rows = append(rows, []any{"expire after", dict.FormatDuration(s.ExpireAfter)})
	}
	if s.Bounded() {
		rows = append(rows, []any{"expired", t.Expired}, []any{"evicted", t.Evicted})
	}
	switch {
	case s.WriteDeadline > 0:
		rows = append(rows, []any{"write deadline", dict.FormatDuration(s.WriteDeadline)})
	case s.Bounded():
		rows = append(rows, []any{"write deadline", dict.FormatDuration(s.WriteWithin()) + " (not set)"})
	}
	if s.MaxStaleness > 0 {
		rows = append(rows, []any{"max staleness", dict.FormatDuration(s.MaxStaleness)})
	}
	return rows
}

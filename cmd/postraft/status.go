package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"postraft/ops"
)

func (a *app) statusCmd() *cobra.Command {
	var index uint64
	var all bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show what the node on this host knows of itself, or wait until a change is everywhere",
		Long: `Shows what the node on this host knows of itself, warnings first. With --wait-index it first waits, for --timeout at
most, until the tables of this node show the entry of that index, which put, delete, table and snapshot commands print
with --json; with --all as well, until those of every member that is alive do. When the time is over it says who lags
and exits 75. With --all alone it shows how far every member is.`,
		Example: `  I=$(postraft --json put virtual_alias info@example.com alice@example.com | jq .index)
  postraft status --wait-index $I --all`,
		Args: want(0, 0),
		RunE: func(cmd *cobra.Command, args []string) error {
			wait := cmd.Flags().Changed("wait-index")
			return action(func(ctx context.Context, _ []string) error {
				switch {
				case wait && all:
					return a.waitAll(ctx, index)
				case wait:
					if err := a.waitHere(ctx, index); err != nil {
						return err
					}
				case all:
					return a.lags(ctx)
				}
				return a.status(ctx)
			})(cmd, args)
		},
	}
	cmd.Flags().Uint64Var(&index, "wait-index", 0, "wait until the tables show the entry of this `index`")
	cmd.Flags().BoolVar(&all, "all", false, "of every member that is alive")
	return cmd
}

func (a *app) status(ctx context.Context) error {
	s, err := a.client().Status(ctx)
	if err != nil {
		return err
	}
	if a.json {
		return printJSON(a.out, s)
	}
	return a.printStatus(s)
}

func (a *app) printStatus(s ops.Status) error {
	for _, w := range s.Warnings {
		fmt.Fprintf(a.out, "WARNING: %s\n", w)
	}
	if len(s.Warnings) > 0 {
		fmt.Fprintln(a.out)
	}
	lookups := "answered"
	if !s.Ready {
		lookups = "not answered: " + s.NotReady
	}
	role := s.State
	if s.Role != "" {
		role = s.Role + ", " + s.State
	}
	heard := (time.Duration(s.LastContactMS) * time.Millisecond).String()
	leader := s.Leader
	switch {
	case leader == "":
		leader = "none for " + heard
	case s.State != "leader":
		leader += ", heard of " + heard + " ago"
	}
	members := fmt.Sprintf("%d alive", len(s.Alive))
	if len(s.Failed) > 0 {
		members += fmt.Sprintf(", %d failed: %s", len(s.Failed), strings.Join(s.Failed, " "))
	}
	err := columns(a.out, [][]any{
		{"node", fmt.Sprintf("%s (%s), postraft %s", s.Name, s.ID, s.Version)},
		{"role", fmt.Sprintf("%s, term %d", role, s.Term)},
		{"leader", leader},
		{"lookups", lookups},
		{"behind", fmt.Sprintf("%d entries (tables show %d, committed %d, in the log %d)", s.Behind, s.TablesIndex, s.CommitIndex, s.LastLogIndex)},
		{"voters", strings.Join(s.Voters, " ")},
		{"members", members},
		{"address", s.Address + ", gossip " + s.Gossip},
	})
	if err != nil {
		return err
	}
	if len(s.Aliases) > 0 {
		fmt.Fprintln(a.out)
		rows := [][]any{{"ALIAS", "TABLE"}}
		for _, alias := range s.Aliases {
			rows = append(rows, []any{alias.Name, alias.Table})
		}
		if err := columns(a.out, rows); err != nil {
			return err
		}
	}
	if err := a.printMirrors(s.Mirrors); err != nil || len(s.Tables) == 0 {
		return err
	}
	fmt.Fprintln(a.out)
	rows := [][]any{{"TABLE", "TYPE", "ENTRIES", "BYTES", "VERSION"}}
	for _, t := range s.Tables {
		rows = append(rows, []any{t.Name, t.Type, t.Entries, t.Bytes, t.Version})
	}
	return columns(a.out, rows)
}

// waitHere waits until this node shows an index.
func (a *app) waitHere(ctx context.Context, index uint64) error {
	list, err := a.client().Reach(ctx, index, false)
	if err != nil {
		return err
	}
	for _, r := range list {
		if !r.Reached {
			return lagging(list, index, a.timeout)
		}
	}
	return nil
}

// waitAll waits until all members that are alive show an index, and prints how far each is.
func (a *app) waitAll(ctx context.Context, index uint64) error {
	list, err := a.client().Reach(ctx, index, true)
	if err != nil {
		return err
	}
	late := lagging(list, index, a.timeout)
	if a.json {
		err = printJSON(a.out, struct {
			Index   uint64        `json:"index"`
			Reached bool          `json:"reached"`
			Members []ops.Reached `json:"members"`
		}{index, late == nil, list})
	} else {
		rows := [][]any{{"NAME", "ALIVE", "APPLIED", "INDEX " + fmt.Sprint(index)}}
		for _, r := range list {
			rows = append(rows, []any{r.Name, r.Alive, applied(r.AppliedIndex), progressOf(r, index)})
		}
		err = columns(a.out, rows)
	}
	if err != nil || late == nil {
		return err
	}
	return late
}

func applied(index uint64) string {
	if index == 0 {
		return "-"
	}
	return fmt.Sprint(index)
}

// progressOf says in words how far a member is.
func progressOf(r ops.Reached, index uint64) string {
	switch {
	case r.Reached:
		return "shown"
	case r.Alive != "alive":
		return "not waited for"
	case r.Error != "" || r.AppliedIndex == 0:
		return "no answer"
	case r.AppliedIndex >= index:
		return "not yet"
	default:
		return fmt.Sprintf("%d behind", index-r.AppliedIndex)
	}
}

// lagging returns an error that names the members which are alive and do not show an index, nil if there are none.
func lagging(list []ops.Reached, index uint64, after time.Duration) *ops.Error {
	var late []string
	alive := 0
	for _, r := range list {
		if r.Alive != "alive" {
			continue
		}
		alive++
		if !r.Reached {
			late = append(late, r.Name+" ("+progressOf(r, index)+")")
		}
	}
	if len(late) == 0 {
		return nil
	}
	return ops.Errorf(ops.Retry, "index %d is not shown after %v by %d of %d members: %s", index, after, len(late), alive, strings.Join(late, ", ")).
		Advise("wait longer with --timeout, or see: postraft status --all")
}

// lags prints how far every member is behind the one that knows most.
func (a *app) lags(ctx context.Context) error {
	members, err := a.client().Members(ctx)
	if err != nil {
		return err
	}
	var most uint64
	for _, m := range members {
		most = max(most, m.AppliedIndex)
	}
	type lag struct {
		ops.Member
		Behind *uint64 `json:"behind"` // null where the member did not answer
	}
	list := []lag{}
	rows := [][]any{{"NAME", "ROLE", "LEADER", "ALIVE", "APPLIED", "BEHIND"}}
	for _, m := range members {
		l, behind, leader := lag{Member: m}, "no answer", ""
		if m.AppliedIndex > 0 {
			n := most - m.AppliedIndex
			l.Behind, behind = &n, fmt.Sprint(n)
		}
		if m.Leader {
			leader = "leader"
		}
		list = append(list, l)
		rows = append(rows, []any{m.Name, m.Role, leader, m.Alive, applied(m.AppliedIndex), behind})
	}
	if a.json {
		return printJSON(a.out, list)
	}
	return columns(a.out, rows)
}

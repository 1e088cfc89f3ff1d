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
	return &cobra.Command{
		Use:   "status",
		Short: "Show what the node on this host knows of itself",
		Args:  want(0, 0),
		RunE: action(func(ctx context.Context, _ []string) error {
			s, err := a.client().Status(ctx)
			if err != nil {
				return err
			}
			if a.json {
				return printJSON(a.out, s)
			}
			return a.printStatus(s)
		}),
	}
}

func (a *app) printStatus(s ops.Status) error {
	ready := "yes"
	if !s.Ready {
		ready = "no: " + s.NotReady
	}
	leader := s.Leader
	switch {
	case leader == "":
		leader = "none"
	case s.LastContact > 0:
		leader += fmt.Sprintf(" (heard of %v ago)", time.Duration(s.LastContact*float64(time.Second)).Round(time.Millisecond))
	}
	rows := [][]any{
		{"node", s.Name},
		{"id", s.ID},
		{"version", s.Version},
		{"state", s.State + ", term " + fmt.Sprint(s.Term)},
		{"ready", ready},
		{"leader", leader},
		{"voters", strings.Join(s.Voters, " ")},
		{"applied", fmt.Sprintf("%d (committed %d, last in the log %d)", s.AppliedIndex, s.CommitIndex, s.LastLogIndex)},
		{"address", s.Address},
		{"gossip", s.Gossip},
	}
	for _, w := range s.Warnings {
		rows = append(rows, []any{"warning", w})
	}
	if err := columns(a.out, rows); err != nil {
		return err
	}
	if len(s.Tables) == 0 {
		return nil
	}
	fmt.Fprintln(a.out)
	return columns(a.out, tableRows(s.Tables))
}

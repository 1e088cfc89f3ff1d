package main

import (
	"context"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"postraft/ops"
)

func (a *app) membersCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "members",
		Short: "List the members of the cluster",
		Args:  want(0, 0),
		RunE: action(func(ctx context.Context, _ []string) error {
			members, err := a.client().Members(ctx)
			if err != nil {
				return err
			}
			if a.json {
				return printJSON(a.out, members)
			}
			rows := [][]any{{"NAME", "ROLE", "LEADER", "ALIVE", "APPLIED", "ADDRESS", "VERSION", "ID"}}
			for _, m := range members {
				leader := ""
				if m.Leader {
					leader = "leader"
				}
				rows = append(rows, []any{m.Name, m.Role, leader, m.Alive, m.AppliedIndex, m.Address, m.Version, m.ID})
			}
			return columns(a.out, rows)
		}),
	}
}

func (a *app) joinCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "join HOST[:PORT]...",
		Short: "Make the node on this host join a cluster",
		Long: `Makes the node on this host join the cluster of the members at these gossip addresses (port 7951 unless
given) and waits until it is ready. One member that answers is enough.`,
		Args: want(1, math.MaxInt),
		RunE: action(func(ctx context.Context, args []string) error {
			c := a.client()
			if err := c.Join(ctx, args); err != nil {
				return err
			}
			s, err := a.until(ctx, c, func(s ops.Status) bool { return s.Ready && s.Leader != "" })
			if err != nil {
				return err
			}
			if !s.Ready || s.Leader == "" {
				return ops.Errorf(ops.Retry, "the member was reached, the node is not ready yet: %s", s.NotReady).
					Advise("it goes on by itself; see: postraft status")
			}
			return a.say("%s belongs to the cluster of %s, led by %s", s.Name, strings.Join(s.Voters, ", "), s.Leader)
		}),
	}
}

// until asks for the status until it is as wanted, and returns the last one seen when the time is over.
func (a *app) until(ctx context.Context, c *ops.Client, wanted func(ops.Status) bool) (ops.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	for {
		s, err := c.Status(context.WithoutCancel(ctx))
		if err != nil || wanted(s) {
			return s, err
		}
		select {
		case <-ctx.Done():
			return s, nil
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// say tells a person what was done; a script reads the exit code.
func (a *app) say(format string, args ...any) error {
	if a.json {
		return nil
	}
	_, err := fmt.Fprintf(a.out, format+"\n", args...)
	return err
}

func (a *app) leaveCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "leave",
		Short: "End the membership of the node on this host for good",
		Long: `Ends the membership of the node on this host: leadership is handed over, its vote and membership end, and then
its agent stops. It starts only with --reset again. To stop a node for a while, stop its agent: it stays a member.`,
		Args: want(0, 0),
		RunE: action(func(ctx context.Context, _ []string) error {
			c := a.client()
			s, err := c.Status(ctx)
			if err != nil {
				return err
			}
			if err := c.Leave(ctx); err != nil {
				return err
			}
			return a.say("%s has left the cluster; its agent stops", s.Name)
		}),
	}
}

func (a *app) removeCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "remove NAME",
		Short: "End the membership of a node that will not come back",
		Args:  want(1, 1),
		RunE: action(func(ctx context.Context, args []string) error {
			if err := a.client().Remove(ctx, args[0]); err != nil {
				return err
			}
			return a.say("%s is no member any more", args[0])
		}),
	}
}

func (a *app) transferCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "transfer-leader [NAME]",
		Short: "Hand leadership over, to a node or to any",
		Args:  want(0, 1),
		RunE: action(func(ctx context.Context, args []string) error {
			c := a.client()
			before, err := c.Status(ctx)
			if err != nil {
				return err
			}
			name := ""
			if len(args) > 0 {
				name = args[0]
			}
			if err := c.TransferLeader(ctx, name); err != nil {
				return err
			}
			done := func(s ops.Status) bool {
				return s.Leader != "" && (s.Leader == name || name == "" && s.Leader != before.Leader)
			}
			s, err := a.until(ctx, c, done)
			if err != nil {
				return err
			}
			if !done(s) {
				return ops.Errorf(ops.Retry, "leadership was handed over and has not settled; the leader is %q", s.Leader).Advise("see: postraft status")
			}
			return a.say("%s leads", s.Leader)
		}),
	}
}

package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"postraft/cluster/trust"
)

func (a *app) keygenCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "keygen",
		Short: "Print a new cluster secret",
		Long: `Prints a new cluster secret. Every node of a cluster has the same one in its secret file, readable by the agent and
by nobody else:

  install -d /etc/postraft
  install -m 640 -g postraft /dev/null /etc/postraft/secret
  postraft keygen > /etc/postraft/secret`,
		Args: want(0, 0),
		RunE: action(func(context.Context, []string) error {
			_, err := fmt.Fprintln(a.out, trust.NewSecret())
			return err
		}),
	}
}

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
		Long: `Prints a new cluster secret. Every node of a cluster has the same one in its secret file:

  install -d -m 750 /etc/postraft
  (umask 027; postraft keygen > /etc/postraft/secret)`,
		Args: want(0, 0),
		RunE: action(func(context.Context, []string) error {
			_, err := fmt.Fprintln(a.out, trust.NewSecret())
			return err
		}),
	}
}

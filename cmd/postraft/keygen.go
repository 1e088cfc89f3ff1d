package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"postraft/cluster/trust"
)

func (a *app) keygenCmd() *cobra.Command {
	var add string
	cmd := &cobra.Command{
		Use:   "keygen [--add FILE]",
		Short: "Print a new cluster secret",
		Long: `Prints a new cluster secret. Every node of a cluster has the same one in its secret file, readable by the agent and
by nobody else:

  install -d /etc/postraft
  install -m 640 -g postraft /dev/null /etc/postraft/secret
  postraft keygen > /etc/postraft/secret

With --add it adds a new secret to a secret file instead, as one that is accepted and not in use yet, and prints
its fingerprint: the first step to replace a secret while the cluster runs. See: postraft keyring --help`,
		Args: want(0, 0),
		RunE: action(func(context.Context, []string) error {
			text := trust.NewSecret()
			if add != "" {
				var err error
				if text, err = trust.AddToFile(add); err != nil {
					return fileError(err)
				}
			}
			_, err := fmt.Fprintln(a.out, text)
			return err
		}),
	}
	cmd.Flags().StringVar(&add, "add", "", "add the secret to this secret `file` and print its fingerprint")
	return cmd
}

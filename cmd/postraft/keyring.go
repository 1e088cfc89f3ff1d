package main

import (
	"context"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"postraft/cluster"
	"postraft/ops"
)

func (a *app) keyringCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "keyring",
		Short: "Replace the cluster secret while the cluster runs",
		Long: `Replaces the cluster secret while the cluster runs. Keys are named by fingerprints; a secret is never shown or
sent. The secret file of each host comes first: what it says is what its agent obeys at its next start.

  postraft keygen --add /etc/postraft/secret   on one host; then bring the file to every host, as it came there
  postraft keyring reload                      every agent reads its file
  postraft keyring list                        all members accept the new key
  postraft keyring use NEW                     all members use it
  postraft keyring remove OLD                  nobody accepts the old one any more

An agent that may not write its secret file says so, and what to write there.`,
	}
	var force bool
	change := func(use, short string, f func(*ops.Client, context.Context, string, bool) ([]ops.KeyringMember, error)) *cobra.Command {
		c := &cobra.Command{
			Use: use, Short: short, Args: want(1, 1),
			RunE: action(func(ctx context.Context, args []string) error {
				members, err := f(a.client(), ctx, args[0], force)
				if err != nil {
					return err
				}
				return a.printKeyring(members)
			}),
		}
		c.Flags().BoolVar(&force, "force", false, "also where a member would be cut off by it, or does not answer")
		return c
	}
	cmd.AddCommand(
		&cobra.Command{
			Use: "list", Short: "Show which keys each member uses and accepts", Args: want(0, 0),
			RunE: action(func(ctx context.Context, _ []string) error {
				members, err := a.client().Keyring(ctx)
				if err != nil {
					return err
				}
				return a.printKeyring(members)
			}),
		},
		&cobra.Command{
			Use: "reload", Short: "Let every member read its secret file and certificates again", Args: want(0, 0),
			RunE: action(func(ctx context.Context, _ []string) error {
				members, err := a.client().ReloadKeyring(ctx)
				if err != nil {
					return err
				}
				return a.printKeyring(members)
			}),
		},
		change("use FINGERPRINT", "Let every member use a key that all accept", (*ops.Client).UseKey),
		change("remove FINGERPRINT", "Let every member forget a key that none uses", (*ops.Client).RemoveKey),
	)
	return cmd
}

// printKeyring prints what the members have. Members that did not answer or did not obey are an error to come
// back to.
func (a *app) printKeyring(members []ops.KeyringMember) error {
	if a.json {
		if err := printJSON(a.out, members); err != nil {
			return err
		}
	}
	var failed []string
	rows := [][]any{{"MEMBER", "USES", "ACCEPTS", "FILE"}}
	var notes [][]any
	agree := true
	for _, m := range members {
		if m.Silent != "" || m.Refused != "" {
			failed = append(failed, m.Name)
		}
		agree = agree && m.Silent == "" && m.Uses == members[0].Uses && sameKeys(m.Accepts, members[0].Accepts)
		rows = append(rows, []any{m.Name, m.Uses, strings.Join(m.Accepts, " "), fileState(m)})
		for _, note := range []string{m.Silent, m.Refused, m.Warning} {
			if note != "" {
				notes = append(notes, []any{m.Name + ":", note})
			}
		}
	}
	if !a.json {
		if err := columns(a.out, rows); err != nil {
			return err
		}
		if len(notes) > 0 {
			if err := columns(a.out, notes); err != nil {
				return err
			}
		}
		if agree {
			a.say("all members agree")
		} else {
			a.say("the members do not agree")
		}
	}
	if len(failed) > 0 {
		return ops.Errorf(ops.Retry, "not done or not known on %s", strings.Join(failed, ", ")).Advise("mend that and repeat the command")
	}
	return nil
}

func sameKeys(a, b []string) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}

// fileState says how a member's secret file goes with what it works with.
func fileState(m ops.KeyringMember) string {
	switch {
	case m.Silent != "":
		return "?"
	case len(m.InFile) == 0:
		return "unusable"
	case m.InFile[0] != m.Uses || !sameKeys(m.InFile, m.Accepts):
		return "differs"
	}
	return "same"
}

func keyringMembers(members []cluster.KeyringMember) []ops.KeyringMember {
	list := make([]ops.KeyringMember, 0, len(members))
	for _, m := range members {
		list = append(list, ops.KeyringMember(m))
	}
	return list
}

func (o operated) Keyring(ctx context.Context) ([]ops.KeyringMember, error) {
	return keyringMembers(o.node.Keyring(ctx)), nil
}

func (o operated) ReloadKeyring(ctx context.Context) ([]ops.KeyringMember, error) {
	return keyringMembers(o.node.ReloadKeyring(ctx)), nil
}

func (o operated) UseKey(ctx context.Context, key string, force bool) ([]ops.KeyringMember, error) {
	members, err := o.node.UseKey(ctx, key, force)
	return keyringMembers(members), opsError(err)
}

func (o operated) RemoveKey(ctx context.Context, key string, force bool) ([]ops.KeyringMember, error) {
	members, err := o.node.RemoveKey(ctx, key, force)
	return keyringMembers(members), opsError(err)
}

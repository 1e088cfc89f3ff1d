package main

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"postraft/ops"
)

const (
	defaultRunDir  = "/run/postraft"
	defaultTimeout = 10 * time.Second

	adminSocket   = "admin.sock"
	handoffSocket = "handoff.sock"
)

// globals are the flags of all operator commands.
type globals struct {
	runDir     string
	timeout    time.Duration
	timeoutSet bool
	json       bool
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "postraft",
		Short: "Replicated lookup tables for Postfix",
		Long: `postraft keeps Postfix lookup tables in the memory of every mail host, replicated by raft.
"postraft agent" runs on each host; the other commands ask the agent on this host.

Exit codes: 0 done; 1 not found, or differences found; 64 usage; 65 bad input data; 69 no agent there;
70 a bug; 75 try again later; 77 not permitted; 78 bad configuration.`,
		SilenceErrors:     true,
		SilenceUsage:      true,
		Args:              want(0, 0),
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: false},
		RunE:              func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.err)
	runDir, _ := a.lookup("POSTRAFT_RUN_DIR")
	flags := root.PersistentFlags()
	flags.StringVar(&a.runDir, "run-dir", cmp.Or(runDir, defaultRunDir), "`directory` of the agent's admin.sock")
	flags.DurationVar(&a.timeout, "timeout", defaultTimeout, "how long to wait; imports and restores get more with their size unless this is given")
	flags.BoolVar(&a.json, "json", false, "print one JSON document")
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error {
		if f := cmd.Flags().Lookup("timeout"); f != nil && f.Changed {
			a.timeoutSet = true
		}
		if a.timeout <= 0 {
			return fmt.Errorf("--timeout %v: want more than 0", a.timeout)
		}
		return nil
	}
	root.AddGroup(&cobra.Group{ID: "cluster", Title: "The node and the cluster:"},
		&cobra.Group{ID: "table", Title: "Tables:"}, &cobra.Group{ID: "run", Title: "Running:"})
	root.SetHelpCommandGroupID("run")
	root.SetCompletionCommandGroupID("run")
	group := func(id string, cmds ...*cobra.Command) {
		for _, c := range cmds {
			c.GroupID = id
			root.AddCommand(c)
		}
	}
	group("cluster", a.statusCmd(), a.membersCmd(), a.joinCmd(), a.leaveCmd(), a.removeCmd(), a.transferCmd())
	group("table", a.tableCmd(), a.getCmd(), a.putCmd(), a.deleteCmd(), a.listCmd(), a.watchCmd(), a.historyCmd(), a.snapshotCmd(), a.adoptCmd())
	group("run", a.agentCmd(), a.devCmd(), a.keygenCmd(), a.keyringCmd(), a.recoverCmd(), a.versionCmd())
	helpKnows(root)
	return root
}

// helpKnows has "help" fail for a command that is not there, as the command itself would.
func helpKnows(root *cobra.Command) {
	root.InitDefaultHelpCmd()
	for _, help := range root.Commands() {
		if help.Name() != "help" {
			continue
		}
		help.Args = func(_ *cobra.Command, args []string) error {
			if cmd, rest, err := root.Find(args); err != nil || len(rest) > 0 && cmd.HasSubCommands() {
				return fmt.Errorf("there is no command %q", strings.Join(args, " "))
			}
			return nil
		}
	}
}

// lookup returns a variable of the environment.
func (a *app) lookup(name string) (string, bool) {
	for _, e := range a.environ {
		if k, v, ok := strings.Cut(e, "="); ok && k == name {
			return v, true
		}
	}
	return "", false
}

// client returns a client of the agent on this host.
func (a *app) client() *ops.Client {
	return ops.NewClient(filepath.Join(a.runDir, adminSocket), a.timeout)
}

// bulkClient is client for a request that carries size bytes: it may take a second more for each MiB, unless
// the operator said how long.
func (a *app) bulkClient(size int64) *ops.Client { return a.client().WithTimeout(a.bulkTimeout(size)) }

func (a *app) bulkTimeout(size int64) time.Duration {
	if a.timeoutSet {
		return a.timeout
	}
	return a.timeout + time.Duration(size>>20)*time.Second
}

// action makes the RunE of a command: its errors become failures that name the command and the first of its
// arguments.
func action(f func(ctx context.Context, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		err := f(cmd.Context(), args)
		if err == nil {
			return nil
		}
		what := strings.TrimPrefix(cmd.CommandPath(), "postraft ")
		if len(args) > 0 {
			what += " " + args[0]
		}
		return &failure{what, err}
	}
}

// want checks the number of arguments, and shows what they are when it is wrong.
func want(least, most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) > 0 && cmd.HasSubCommands():
			return fmt.Errorf("there is no command %q", args[0])
		case len(args) < least || len(args) > most:
			return fmt.Errorf("%d arguments, want: %s", len(args), strings.TrimSuffix(cmd.UseLine(), " [flags]"))
		}
		return nil
	}
}

// tableArg completes the name of a table as the first argument of a command.
func (a *app) tableArg(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveDefault
	}
	tables, err := a.client().WithTimeout(time.Second).Tables(cmd.Context())
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	for _, t := range tables {
		names = append(names, t.Name)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

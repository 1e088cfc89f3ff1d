package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strings"

	"github.com/spf13/cobra"

	"postraft/cluster"
	"postraft/ops"
)

// recoverInfo is what operators see of a data directory and of what became of it.
type recoverInfo struct {
	Name      string          `json:"name"`
	ID        string          `json:"id"`
	Servers   []string        `json:"servers"` // of the cluster that was
	Last      uint64          `json:"last_log_index"`
	Applied   uint64          `json:"applied_index"`
	Snapshot  uint64          `json:"snapshot_index"`
	Recovered bool            `json:"recovered"`
	Tables    []ops.TableInfo `json:"tables,omitempty"`
}

func (a *app) recoverCmd() *cobra.Command {
	var dir, name string
	var yes bool
	cmd := &cobra.Command{
		Use:   "recover",
		Short: "Make this host's data a cluster of its own, after a majority was lost for good",
		Long: `Makes the data directory of the stopped agent NAME a cluster of one node, which keeps every entry that it has,
and says first what it found. It is for the day when a majority of the voters will not come back: as long as one
may, wait for it.

Run it on one survivor only, the one with the highest last entry, and start its agent again. Entries behind the
applied index may never have been answered to anybody; they are kept. Then bring every other host back with an empty
data directory and --join: its old one belongs to the cluster that was.`,
		Args: want(0, 0),
		RunE: action(func(context.Context, []string) (err error) {
			r, err := cluster.OpenRecovery(dir, name, slog.New(slog.DiscardHandler))
			switch {
			case errors.Is(err, cluster.ErrNoState):
				return ops.Errorf(ops.BadData, "%v", err).Advise("choose another with --data-dir")
			case errors.Is(err, cluster.ErrRefused):
				return ops.Errorf(ops.Refused, "%v", err)
			case errors.Is(err, fs.ErrPermission):
				return fileError(err)
			case err != nil:
				return ops.Errorf(ops.BadData, "%v", err).Advise("is the agent stopped?")
			}
			defer func() { err = errors.Join(err, r.Close()) }()
			info := recoverInfo{Name: name, ID: r.ID, Servers: r.Servers, Last: r.Last, Applied: r.Applied, Snapshot: r.SnapshotLast}
			if !a.json {
				fmt.Fprintf(a.out, "%s is server %s of the cluster of %s\n", dir, r.ID, strings.Join(r.Servers, ", "))
				fmt.Fprintf(a.out, "last entry %d, applied %d, snapshot up to %d\n", r.Last, r.Applied, r.SnapshotLast)
			}
			if !yes && (a.json || !a.confirm("Make it a cluster of its own? The other nodes must not come back with their data. Type yes: ")) {
				return ops.Errorf(ops.Refused, "not confirmed; nothing was changed").Advise("take --yes to go on without a question")
			}
			tables, err := r.Run()
			if err != nil {
				return ops.Errorf(ops.BadData, "%v", err)
			}
			if info.Recovered, info.Tables = true, tableInfos(tables); a.json {
				return printJSON(a.out, info)
			}
			fmt.Fprintf(a.out, "%s is a cluster of its own now; start its agent\n", name)
			return columns(a.out, tableRows(info.Tables))
		}),
	}
	defaults := newSettings()
	cmd.Flags().StringVar(&dir, "data-dir", defaults.dataDir, "the stopped agent's data directory")
	cmd.Flags().StringVar(&name, "name", defaults.name, "the stopped agent's node name")
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}

// confirm asks on standard output and reports whether the answer is yes.
func (a *app) confirm(question string) bool {
	fmt.Fprint(a.out, question)
	answer, _ := bufio.NewReader(a.in).ReadString('\n')
	return strings.TrimSpace(answer) == "yes"
}

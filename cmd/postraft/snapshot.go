package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"postraft/fsm"
	"postraft/ops"
)

func (a *app) snapshotCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "snapshot",
		Short: "Save, inspect and restore all tables",
		Args:  want(0, 0),
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.snapshotSaveCmd(), a.snapshotInspectCmd(), a.snapshotRestoreCmd())
	return cmd
}

// snapshotInfo is what operators see of a snapshot file.
type snapshotInfo struct {
	File    string          `json:"file"`
	Index   uint64          `json:"index"`
	Term    uint64          `json:"term"`
	Created string          `json:"created"`
	Node    string          `json:"node"`
	Version string          `json:"version"` // of the program that wrote it
	Tables  []ops.TableInfo `json:"tables"`
}

// readSnapshot verifies a snapshot to its end.
func readSnapshot(name string, r io.Reader) (snapshotInfo, error) {
	s, err := fsm.ReadSnapshot(r)
	if err != nil {
		return snapshotInfo{}, ops.Errorf(ops.BadData, "%s: %v", name, err)
	}
	info := snapshotInfo{name, s.Index, s.Term, s.Created, s.Node, s.Program, []ops.TableInfo{}}
	for _, t := range s.State.Tables() {
		info.Tables = append(info.Tables, tableInfo(t))
	}
	return info, nil
}

func (a *app) snapshotSaveCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "save FILE|-",
		Short: "Save all tables to a file",
		Long: `Saves all tables as they are now to FILE, or to standard output. FILE appears only once it is whole, on disk and read
back.`,
		Args: want(1, 1),
		RunE: action(func(ctx context.Context, args []string) error {
			if args[0] == "-" {
				return a.client().SaveSnapshot(ctx, a.out)
			}
			info, err := a.saveSnapshot(ctx, args[0])
			if err != nil {
				return err
			}
			return a.printSnapshot(info)
		}),
	}
}

// saveSnapshot writes beside the file, reads back what it wrote, and then renames.
func (a *app) saveSnapshot(ctx context.Context, file string) (info snapshotInfo, err error) {
	f, err := os.CreateTemp(filepath.Dir(file), "."+filepath.Base(file)+".*")
	if err != nil {
		return info, fileError(err)
	}
	defer func() {
		f.Close() // for the second time where all went well
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	bar := a.progress("saving", -1, true)
	err = a.client().SaveSnapshot(ctx, io.MultiWriter(f, bar))
	bar.done()
	if err != nil {
		return info, err
	}
	if err := f.Sync(); err != nil {
		return info, fileError(err)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return info, fileError(err)
	}
	if info, err = readSnapshot(file, f); err != nil {
		return info, err
	}
	if err := errors.Join(f.Close(), os.Rename(f.Name(), file)); err != nil {
		return info, fileError(err)
	}
	dir, err := os.Open(filepath.Dir(file))
	if err != nil {
		return info, fileError(err)
	}
	defer dir.Close()
	if err := dir.Sync(); err != nil {
		return info, fileError(err)
	}
	return info, nil
}

func (a *app) snapshotInspectCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "inspect FILE|-",
		Short: "Verify a snapshot file and show what it holds",
		Args:  want(1, 1),
		RunE: action(func(_ context.Context, args []string) error {
			var info snapshotInfo
			err := a.withFile(args[0], func(in io.Reader, _ int64) (err error) {
				info, err = readSnapshot(args[0], in)
				return err
			})
			if err != nil {
				return err
			}
			return a.printSnapshot(info)
		}),
	}
}

// withFile calls f with the file, or with standard input for "-". The size is -1 where it is not known.
func (a *app) withFile(name string, f func(in io.Reader, size int64) error) error {
	if name == "-" {
		return f(a.in, -1)
	}
	file, err := os.Open(name)
	if err != nil {
		return fileError(err)
	}
	defer file.Close()
	size := int64(-1)
	if info, err := file.Stat(); err == nil && info.Mode().IsRegular() {
		size = info.Size()
	} else if err == nil && info.IsDir() {
		return ops.Errorf(ops.BadData, "%s is a directory", name)
	}
	return f(file, size)
}

func (a *app) printSnapshot(info snapshotInfo) error {
	if a.json {
		return printJSON(a.out, info)
	}
	fmt.Fprintf(a.out, "%s: sound; log index %d, made %s on %s by postraft %s\n", info.File, info.Index, info.Created, info.Node, info.Version)
	return columns(a.out, tableRows(info.Tables))
}

func (a *app) snapshotRestoreCmd() *cobra.Command {
	var tables []string
	cmd := &cobra.Command{
		Use:   "restore FILE|-",
		Short: "Put the tables of a snapshot file in place on all nodes",
		Long: `Puts the tables of a snapshot file in place, in one step for every reader on every node. The whole file is verified
first. Without --table the cluster has the tables of the snapshot afterwards and no others.`,
		Args: want(1, 1),
		RunE: action(func(ctx context.Context, args []string) error {
			var restored []string
			var client *ops.Client
			err := a.withFile(args[0], func(in io.Reader, size int64) (err error) {
				bar := a.progress("sending", size, true)
				client = a.bulkClient(max(size, 0))
				restored, err = client.RestoreSnapshot(ctx, io.TeeReader(in, bar), tables)
				bar.done()
				return err
			})
			if err != nil {
				return err
			}
			if a.json {
				return printJSON(a.out, ops.Restored{Tables: restored, Index: client.Index()})
			}
			for _, name := range restored {
				fmt.Fprintf(a.out, "%s: restored\n", name)
			}
			return nil
		}),
	}
	cmd.Flags().StringArrayVar(&tables, "table", nil, "only this table, and leave the others alone; repeatable")
	return cmd
}

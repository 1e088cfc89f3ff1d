package main

import (
	"context"
	"fmt"
	"runtime"

	"github.com/spf13/cobra"
)

func (a *app) versionCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version of this program",
		Args:  want(0, 0),
		RunE: action(func(context.Context, []string) error {
			v := struct {
				Version  string `json:"version"`
				Go       string `json:"go"`
				Platform string `json:"platform"`
			}{version, runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH}
			if a.json {
				return printJSON(a.out, v)
			}
			_, err := fmt.Fprintf(a.out, "postraft %s (%s, %s)\n", v.Version, v.Go, v.Platform)
			return err
		}),
	}
}

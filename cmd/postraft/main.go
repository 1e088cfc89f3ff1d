// Command postraft is the agent of a mail host and the operator's tool: postraft agent keeps replicated
// Postfix tables and serves them, the other commands ask the agent on this host.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"syscall"
)

// version is set when the program is built.
var version = "unknown"

func main() {
	// The agent and dev end by these signals too, cleanly; the other commands give up what they wait for.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	a := &app{in: os.Stdin, out: os.Stdout, err: os.Stderr, environ: os.Environ(), procs: runtime.GOMAXPROCS(0), lowerPriority: lowerPriority}
	code := run(ctx, a, os.Args[1:])
	stop()
	os.Exit(code)
}

// An app is what a command has of the world around it.
type app struct {
	in      io.Reader
	out     io.Writer
	err     io.Writer
	environ []string
	procs   int // that an agent may keep busy; 0: it leaves that as it is

	lowerPriority func() // of the process; nil where that is not the command's own

	globals
}

// run runs one command line and returns the exit code.
func run(ctx context.Context, a *app, args []string) int {
	root := a.root()
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitOK
	}
	line, code := describe(cmd, err)
	if line != "" {
		fmt.Fprintln(a.err, line)
	}
	return code
}

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/spf13/cobra"

	"postraft/ops"
)

// Exit codes, after sysexits.h where it has one.
const (
	exitOK       = 0
	exitNotFound = 1 // or differences found
	exitUsage    = 64
	exitData     = 65
	exitNoAgent  = 69
	exitSoftware = 70
	exitTempFail = 75
	exitNoPerm   = 77
	exitConfig   = 78
)

// errQuiet is the error of a command that has said all there is to say: exit 1.
var errQuiet = errors.New("nothing more to say")

// A failure is the error of a command that ran. Other errors come from parsing the command line.
type failure struct {
	what string // the command, as the line on standard error names it
	err  error
}

func (f *failure) Error() string { return f.what + ": " + f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// describe returns the line for standard error and the exit code of an error.
func describe(cmd *cobra.Command, err error) (line string, code int) {
	var f *failure
	if !errors.As(err, &f) {
		what := strings.TrimPrefix(strings.TrimPrefix(cmd.CommandPath(), "postraft"), " ")
		if what != "" {
			what += ": "
		}
		return oneLine("postraft: %s%v; see: %s --help", what, err, cmd.CommandPath()), exitUsage
	}
	if errors.Is(err, errQuiet) {
		return "", exitNotFound
	}
	e := ops.Classify(f.err)
	text, next, code := e.Text, e.Next, exitCode(e.Kind)
	switch e.Kind {
	case ops.UnknownOutcome:
		text += "; the change may or may not have happened"
		if next == "" {
			next = "look before you repeat it"
		}
	case ops.Internal:
		if next == "" {
			next = "this is a bug; the agent's log may say more"
		}
	}
	if next != "" {
		text += "; " + next
	}
	return oneLine("postraft: %s: %s", f.what, text), code
}

// fileError sorts the errors of a file that the operator has named.
func fileError(err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return ops.Errorf(ops.Denied, "%v", err).Advise("run it as the owner of the file, or as root")
	}
	return ops.Errorf(ops.BadData, "%v", err)
}

func exitCode(kind ops.Kind) int {
	switch kind {
	case ops.NotFound:
		return exitNotFound
	case ops.Usage, ops.Refused:
		return exitUsage
	// A table that is missing must not look like a key that is missing.
	case ops.BadData, ops.Exists, ops.NoTable:
		return exitData
	case ops.NoAgent:
		return exitNoAgent
	case ops.Retry, ops.UnknownOutcome:
		return exitTempFail
	case ops.Denied:
		return exitNoPerm
	case ops.Config:
		return exitConfig
	default:
		return exitSoftware
	}
}

// oneLine formats without line breaks or other control characters, whatever the arguments hold.
func oneLine(format string, args ...any) string {
	return strings.Join(strings.FieldsFunc(fmt.Sprintf(format, args...), func(r rune) bool { return r < ' ' || r == 0x7f }), " ")
}

package ops

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"postraft/dict"
)

// A Kind sorts errors by what the operator can do.
type Kind string

const (
	NotFound       Kind = "not_found"       // no member or table of that name
	NoTable        Kind = "no_table"        // a key of a table that does not exist was asked for
	Exists         Kind = "exists"          // the table is there already
	Usage          Kind = "usage"           // a request that makes no sense
	Refused        Kind = "refused"         // the cluster will not do that
	BadData        Kind = "bad_data"        // source text, snapshot, key or value
	NoAgent        Kind = "no_agent"        // nobody answers on the socket
	Retry          Kind = "retry"           // may work later; nothing has changed
	UnknownOutcome Kind = "unknown_outcome" // the change may or may not have happened
	Denied         Kind = "denied"          // the caller may not do that
	Config         Kind = "config"          // the agent's configuration is at fault
	Internal       Kind = "internal"        // a bug
)

// An Error is an error for an operator.
type Error struct {
	Kind Kind   `json:"kind"`
	Text string `json:"error"`          // what went wrong
	Next string `json:"next,omitempty"` // what to do now, where that is known
}

func (e *Error) Error() string {
	if e.Next == "" {
		return e.Text
	}
	return e.Text + "; " + e.Next
}

// Errorf returns an *Error without a next step.
func Errorf(kind Kind, format string, args ...any) *Error {
	return &Error{Kind: kind, Text: fmt.Sprintf(format, args...)}
}

// Advise returns a copy of e with a next step.
func (e *Error) Advise(format string, args ...any) *Error {
	return &Error{e.Kind, e.Text, fmt.Sprintf(format, args...)}
}

const seeStatus = "see: postraft status"

// Classify makes an *Error of any error, by the sentinels of package dict.
func Classify(err error) *Error {
	var e *Error
	switch {
	case errors.As(err, &e):
		return e
	case errors.Is(err, dict.ErrUnknownOutcome):
		return Errorf(UnknownOutcome, "%v", err)
	case errors.Is(err, dict.ErrNoTable):
		return Errorf(NoTable, "%v", err).Advise("list the tables with: postraft table list")
	case errors.Is(err, dict.ErrRetry):
		return Errorf(Retry, "%v", err).Advise(seeStatus)
	case errors.Is(err, dict.ErrReadOnly):
		return Errorf(Config, "%v", err).Advise("change the text of its rules and import that: postraft table import NAME FILE")
	case errors.Is(err, dict.ErrConfig):
		return Errorf(Config, "%v", err)
	case errors.Is(err, dict.ErrBadSource):
		return Errorf(BadData, "%v", err)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return Errorf(Retry, "%v", err).Advise(seeStatus)
	default:
		return Errorf(Internal, "%v", err)
	}
}

// status returns the HTTP status that goes with a kind.
func (k Kind) status() int {
	switch k {
	case NotFound, NoTable:
		return http.StatusNotFound
	case Exists, Refused:
		return http.StatusConflict
	case Usage:
		return http.StatusBadRequest
	case BadData:
		return http.StatusUnprocessableEntity
	case Retry, UnknownOutcome, NoAgent:
		return http.StatusServiceUnavailable
	case Denied:
		return http.StatusForbidden
	default:
		return http.StatusInternalServerError
	}
}

package dict

import "errors"

// The conditions that callers decide by. A missing key is never one of them: Lookup, Next and Delete
// report it in a bool. Everything that can pass by itself is an ErrRetry for errors.Is, so that a mail
// system defers; only ErrConfig and ErrBadSource need a person.
var (
	// ErrRetry says that the answer cannot be known now: no leader, a table that is not there or not
	// yet loaded, a deadline. Postfix status RETRY.
	ErrRetry = errors.New("try again later")

	// ErrConfig says that the request will fail until a person changes something. Postfix status CONFIG.
	ErrConfig = errors.New("configuration error")

	// ErrBadSource says that table source text, a key, a value or a name breaks the rules for it.
	ErrBadSource = errors.New("bad input data")

	// ErrNoTable says that the raft table does not exist on this node, as far as it knows. It is an
	// ErrRetry: the table may be on its way.
	ErrNoTable error = retryError("no such raft table")

	// ErrUnknownOutcome says that a write was handed to the cluster and may or may not have happened,
	// now or within the next seconds. It is an ErrRetry.
	ErrUnknownOutcome error = retryError("the outcome of the write is unknown")

	// ErrUnserved says that a table has something in it that Postfix serves and this program does not. It is an
	// ErrRetry: whoever knows another way to an answer takes that, and nobody is told "not found".
	ErrUnserved error = retryError("not served here, though by Postfix")

	// ErrReadOnly says that this kind of table cannot be written entry by entry. It is an ErrConfig.
	ErrReadOnly error = configError("table cannot be updated entry by entry")
)

type retryError string

func (e retryError) Error() string        { return string(e) }
func (e retryError) Is(target error) bool { return target == ErrRetry }

type configError string

func (e configError) Error() string        { return string(e) }
func (e configError) Is(target error) bool { return target == ErrConfig }

package adopt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"os/exec"
	"strings"
	"unicode/utf8"

	"postraft/dict"
	"postraft/ops"
)

// An Answer is what a table says to a key.
type Answer struct {
	Found bool
	Value string
}

// JSON returns the value, or nil if there was none.
func (a Answer) JSON() *string {
	if !a.Found {
		return nil
	}
	return &a.Value
}

// An Agent holds the raft tables: an *ops.Client.
type Agent interface {
	Tables(ctx context.Context) ([]ops.TableInfo, error)
	CreateTable(ctx context.Context, name, typ string, settings dict.Settings) error
	Import(ctx context.Context, name string, opts ops.ImportOptions, entries iter.Seq2[[]byte, []byte]) (ops.ImportResult, error)

	// Lookup returns the values of keys, in their order.
	Lookup(ctx context.Context, name string, keys [][]byte) ([]ops.Value, error)
}

// askPostfix asks a table of Postfix for keys, none of which is empty or holds a newline, by postmap -q -.
func askPostfix(ctx context.Context, postfix Postfix, table string, keys []string) ([]Answer, error) {
	out, said, err := postfix.Run(ctx, "postmap", strings.NewReader(strings.Join(keys, "\n")+"\n"), "-q", "-", table)
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || len(out) > 0 || strings.Contains(said, "fatal: ") || strings.Contains(said, "panic: ") || strings.Contains(said, "error: ")) {
		return nil, fmt.Errorf("postmap -q - %s: %w", table, complaint("postmap", said, err))
	}
	// It prints key, TAB, value for the keys that it finds, in their order.
	answers := make([]Answer, len(keys))
	i := 0
	for line := range bytes.Lines(out) {
		line = bytes.TrimSuffix(line, []byte("\n"))
		for i < len(keys) && !(bytes.HasPrefix(line, []byte(keys[i])) && len(line) > len(keys[i]) && line[len(keys[i])] == '\t') {
			i++
		}
		if i == len(keys) {
			return nil, fmt.Errorf("postmap -q - %s: a line that is for none of the keys: %q", table, line)
		}
		answers[i] = Answer{true, string(line[len(keys[i])+1:])}
		i++
	}
	return answers, nil
}

// askRaft asks a raft table as Postfix does: with folded keys unless it holds rules and, where Postfix looks for
// UTF-8 alone, with no others.
func askRaft(ctx context.Context, agent Agent, table, typ string, keys []string, utf8Only bool) ([]Answer, error) {
	folded := make([][]byte, len(keys))
	for i, key := range keys {
		folded[i] = []byte(key)
		if !dict.IsPattern(typ) {
			folded[i] = dict.Fold(folded[i])
		}
	}
	values, err := agent.Lookup(ctx, table, folded)
	if err != nil {
		return nil, err
	}
	answers := make([]Answer, len(keys))
	for i, v := range values {
		if v.Found && (!utf8Only || utf8.ValidString(keys[i])) {
			answers[i] = Answer{true, string(v.Value)}
		}
	}
	return answers, nil
}

package main

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"
	"unicode/utf8"

	"postraft/ops"
)

// printJSON prints one JSON document.
func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// printIndex prints where a change is in the log, for a script that waits until other nodes show it.
func (a *app) printIndex(c *ops.Client) error {
	if !a.json {
		return nil
	}
	return printJSON(a.out, ops.Changed{Index: c.Index()})
}

// columns prints rows in columns.
func columns(w io.Writer, rows [][]any) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	for _, row := range rows {
		for i, cell := range row {
			if i > 0 {
				io.WriteString(t, "\t")
			}
			fmt.Fprint(t, cell)
		}
		io.WriteString(t, "\n")
	}
	return t.Flush() // it keeps the first error
}

func tableRows(tables []ops.TableInfo) [][]any {
	rows := [][]any{{"TABLE", "TYPE", "ENTRIES", "BYTES", "VERSION", "DIGEST"}}
	for _, t := range tables {
		rows = append(rows, []any{t.Name, t.Type, t.Entries, t.Bytes, t.Version, t.Digest})
	}
	return rows
}

// A jsonList writes a JSON list row by row, so that a large table need not be in memory.
type jsonList struct {
	w    *bufio.Writer
	rows int
}

func newJSONList(w io.Writer) *jsonList {
	l := &jsonList{w: bufio.NewWriterSize(w, 64<<10)}
	l.w.WriteString("[")
	return l
}

func (l *jsonList) add(v any) error {
	row, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if l.rows > 0 {
		l.w.WriteString(",")
	}
	l.rows++
	l.w.WriteString("\n  ")
	_, err = l.w.Write(row)
	return err
}

func (l *jsonList) end() error {
	if l.rows > 0 {
		l.w.WriteString("\n")
	}
	l.w.WriteString("]\n")
	return l.w.Flush()
}

// jsonEntry is an entry as operators see it. What is not UTF-8 is there in base64 as well.
type jsonEntry struct {
	Key         string `json:"key"`
	Value       string `json:"value"`
	KeyBase64   string `json:"key_base64,omitempty"`
	ValueBase64 string `json:"value_base64,omitempty"`
}

func newJSONEntry(key, value []byte) jsonEntry {
	return jsonEntry{string(key), string(value), exactly(key), exactly(value)}
}

// exactly returns the base64 of what a JSON string cannot carry, else nothing.
func exactly(b []byte) string {
	if utf8.Valid(b) {
		return ""
	}
	return base64.StdEncoding.EncodeToString(b)
}

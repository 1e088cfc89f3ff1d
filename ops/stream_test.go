package ops

import (
	"bytes"
	"errors"
	"io"
	"testing"
)

// TestStream_Error ensures that an error within a stream arrives as it was.
func TestStream_Error(t *testing.T) {
	var b bytes.Buffer
	w := newStreamWriter(&b)
	w.entry([]byte("k"), []byte("v"))
	if err := w.end(Errorf(Refused, "no").Advise("ask again")); err != nil {
		t.Fatal(err)
	}
	n := 0
	err := newStreamReader(&b).entries(func(_, _ []byte) error { n++; return nil })
	var e *Error
	if !errors.As(err, &e) || e.Kind != Refused || e.Next != "ask again" || n != 1 {
		t.Errorf("got %v after %d entries", err, n)
	}
}

// TestStream_Count ensures that a stream that lost frames in the middle is not taken for a whole one.
func TestStream_Count(t *testing.T) {
	for in, want := range map[string]bool{
		".\x010":                true,
		"e\x01k\x01v.\x011":     true,
		"e\x01k\x01v.\x012":     false,
		"e\x01k\x01v":           false,
		"":                      false,
		"x":                     false,
		"e\xff\xff\xff\xff\x7f": false,
		"+\x01k\x01v.\x011":     false,
		"e\x01k\x01v.\x02+1":    false,
		"!\x02{}":               false,
		"!\x02{x":               false,
		"e\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01k": false,
	} {
		err := newStreamReader(bytes.NewReader([]byte(in))).entries(func(_, _ []byte) error { return nil })
		if (err == nil) != want {
			t.Errorf("%q: %v, want whole = %v", in, err, want)
		}
	}
}

// FuzzStream ensures that no input breaks the reader, and that what it accepts it writes again alike.
func FuzzStream(f *testing.F) {
	f.Add([]byte("e\x01k\x01v.\x011"))
	f.Add([]byte("+\x01k\x01v~\x01l\x01v\x00-\x01m\x00.\x013"))
	f.Add([]byte("!\x02{}"))
	f.Fuzz(func(t *testing.T, in []byte) {
		var again bytes.Buffer
		w := newStreamWriter(&again)
		r := newStreamReader(bytes.NewReader(in))
		for {
			kind, c, err := r.next()
			if err == io.EOF {
				w.end(nil)
				second := newStreamReader(&again)
				for {
					if _, _, err := second.next(); err == io.EOF {
						return
					} else if err != nil {
						t.Fatalf("written again: %v", err)
					}
				}
			}
			if err != nil {
				return
			}
			if kind == frameEntry {
				w.entry(c.Key, c.New)
			} else {
				w.change(c)
			}
		}
	})
}

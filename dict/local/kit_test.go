package local_test

import (
	"bytes"
	"log/slog"
	"sync"

	"postraft/dict"
	"postraft/dict/local"
	"postraft/dict/pattern"
)

// ruleFiles are the kinds of tables that hold rules, with what Postfix skips left out.
func ruleFiles() map[string]local.FileType {
	types := map[string]local.FileType{}
	for _, typ := range []string{dict.TypeCIDR, dict.TypeRegexp, dict.TypePCRE} {
		types[typ] = local.FileType{Kind: dict.Pattern, Compile: func(text []byte, _ bool) (local.Lookuper, []dict.Problem, error) {
			return compile(typ, text)
		}}
	}
	return types
}

func compile(typ string, text []byte) (local.Lookuper, []dict.Problem, error) {
	rules, warnings, err := pattern.CompileLenient(typ, text)
	if err != nil {
		return nil, warnings, err
	}
	return rules, warnings, nil
}

// records keeps what was logged.
type records struct {
	mu  sync.Mutex // guards buf
	buf bytes.Buffer
}

func (r *records) logger() *slog.Logger { return slog.New(slog.NewTextHandler(r, nil)) }

func (r *records) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.buf.Write(b)
}

func (r *records) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.buf.String()
}

package main

import (
	"postraft/dict"
	"postraft/dict/local"
	"postraft/dict/pattern"
	"postraft/proxy"
)

// newLocals returns the local tables that the agent answers itself. Inside compound ones raft tables can be used,
// also by their aliases; connections open them again when the aliases change.
func newLocals(g *agent) *local.Set {
	return local.New(local.Config{
		Raft: func(name dict.Name) dict.Reader {
			table, ok := g.aliases.get()[name.String()]
			if name.Type == dict.RaftType {
				table, ok = name.Map, dict.CheckTableName(name.Map) == nil
			}
			if !ok {
				return nil
			}
			return g.node.Table(table)
		},
		Files:  ruleFiles(),
		Logger: g.log,
	})
}

// ruleFiles are the kinds of local tables whose files hold rules. Rules that Postfix skips are left out.
func ruleFiles() map[string]local.FileType {
	types := map[string]local.FileType{}
	for _, typ := range []string{dict.TypeCIDR, dict.TypeRegexp, dict.TypePCRE} {
		types[typ] = local.FileType{Kind: dict.Pattern, Compile: func(text []byte, _ bool) (local.Lookuper, []dict.Problem, error) {
			rules, warnings, err := pattern.CompileLenient(typ, text)
			if err != nil {
				return nil, warnings, err
			}
			return ruleTable{rules}, warnings, nil
		}}
	}
	return types
}

// ruleTable gives rules the form of a dict.FlagReader.
type ruleTable struct{ *pattern.Rules }

// LookupFlags implements dict.FlagReader.
func (t ruleTable) LookupFlags(key []byte, flags dict.Flags) (value []byte, found bool, err error) {
	m, err := t.Match(key, flags)
	return m.Value, m.Found, err
}

// locals are local tables as the proxymap server wants them.
type locals struct{ set *local.Set }

// Open implements proxy.Locals.
func (l locals) Open(name string, o proxy.LocalOptions) dict.Reader {
	return l.set.Open(name, local.Options{Write: o.Write, UTF8: o.UTF8, Other: o.Stock})
}

package main

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"

	"postraft/dict"
	"postraft/ops"
	"postraft/proxy"
	"postraft/proxy/handoff"
)

// parseAlias reads TYPE:NAME=TABLE.
func parseAlias(word string) (asked, table string, err error) {
	asked, table, ok := cut(dict.Unbrace(word), strings.LastIndex)
	if !ok {
		return "", "", fmt.Errorf("%s: want TYPE:NAME=TABLE", word)
	}
	asked, table = dict.TrimProxy(asked), strings.TrimPrefix(table, dict.RaftType+":")
	name, err := dict.ParseName(asked)
	switch {
	case err != nil || name.Map == "":
		return "", "", fmt.Errorf("%s: want TYPE:NAME=TABLE", word)
	case name.Type == dict.RaftType:
		return "", "", fmt.Errorf("%s: a raft table has its own name already", word)
	}
	if err := dict.CheckTableName(table); err != nil {
		return "", "", fmt.Errorf("%s: %w", word, err)
	}
	return asked, table, nil
}

func checkAliases(words []string) error {
	for _, w := range words {
		if _, _, err := parseAlias(w); err != nil {
			return err
		}
	}
	return nil
}

// parseAliases reads all aliases. One that is there twice has to mean the same table.
func parseAliases(words []string) (proxy.Aliases, error) {
	aliases := proxy.Aliases{}
	size := 0
	for _, w := range words {
		asked, table, err := parseAlias(w)
		if err != nil {
			return nil, err
		}
		if other := cmp.Or(aliases[asked], table); other != table {
			return nil, fmt.Errorf("%s stands for %s and for %s", asked, other, table)
		}
		aliases[asked] = table
		size += len(asked)
	}
	if size > handoff.MaxAliases {
		return nil, fmt.Errorf("%d bytes of names: at most %d are allowed", size, handoff.MaxAliases)
	}
	return aliases, nil
}

// inEffect are the aliases that an agent has now, for those who ask about tables. Nil is none.
type inEffect struct{ aliases atomic.Pointer[proxy.Aliases] }

func (e *inEffect) set(a proxy.Aliases) { e.aliases.Store(&a) }

func (e *inEffect) get() proxy.Aliases {
	if e == nil || e.aliases.Load() == nil {
		return nil
	}
	return *e.aliases.Load()
}

// list returns all aliases by name.
func (e *inEffect) list() []ops.Alias {
	aliases := e.get()
	all := make([]ops.Alias, 0, len(aliases))
	for _, asked := range slices.Sorted(maps.Keys(aliases)) {
		all = append(all, ops.Alias{Name: asked, Table: aliases[asked]})
	}
	return all
}

// alias gives the agent the aliases of its settings, which were checked.
func (g *agent) alias(s *settings) {
	aliases, err := parseAliases(s.aliases)
	if err != nil {
		g.log.Error("aliases not taken over", "err", err)
		return
	}
	g.aliases.set(aliases)
	g.proxy.Alias(aliases)
	g.handoff.Alias(slices.Sorted(maps.Keys(aliases)))
}

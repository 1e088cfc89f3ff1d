package proxy

import (
	"maps"

	"postraft/dict"
)

// Aliases are the tables that a raft table answers for: the name of the raft table by the maptype:mapname that
// Postfix asks for. They are immutable once a Server has them.
type Aliases map[string]string

// Alias replaces the aliases of all services. Connections see them with their next request.
func (s *Server) Alias(a Aliases) {
	a = maps.Clone(a)
	s.aliases.Store(&a)
}

// resolve returns the name of the raft table that answers for a table, if one does.
func (a *Aliases) resolve(name dict.Name) (table string, ok bool) {
	if name.Type == dict.RaftType {
		return name.Map, true
	}
	if a == nil {
		return "", false
	}
	table, ok = (*a)[name.String()]
	return table, ok
}

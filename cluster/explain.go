package cluster

import (
	"fmt"
	"time"

	"postraft/dict"
	"postraft/dict/pattern"
)

// An Explanation says how a lookup on this node came to its answer.
type Explanation struct {
	pattern.Match
	Type         string
	Asked        []byte // the key as it was looked up
	Version      uint64 // of the table
	Index        uint64 // of the newest entry that the node has applied
	Node, Leader string
	Age          time.Duration // since the leader was heard of; 0 on the leader
}

// Explain looks a key up in one state of the node's tables: folded, in a table of fixed keys, unless exact.
func (n *Node) Explain(table string, key []byte, exact bool) (Explanation, error) {
	if err := n.gateTable(table); err != nil {
		return Explanation{}, err
	}
	s := n.fsm.State()
	t, ok := s.Table(table)
	if !ok {
		return Explanation{}, fmt.Errorf("table %s: %w", table, dict.ErrNoTable)
	}
	status := n.Status()
	e := Explanation{Type: t.Type, Asked: key, Version: t.Version, Index: s.Index, Node: status.Name, Leader: status.Leader, Age: status.LastContact}
	if !exact && !dict.IsPattern(t.Type) {
		e.Asked = dict.Fold(key)
	}
	if _, _, err := s.Lookup(table, e.Asked); err != nil { // what is in doubt is not explained
		return Explanation{}, err
	}
	var err error
	e.Match, err = t.Match(e.Asked, 0)
	return e, err
}

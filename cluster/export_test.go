package cluster

import "postraft/fsm"

// KnownLevels returns what a leader has told this node of the servers' levels.
func (n *Node) KnownLevels() map[string]int {
	n.levels.mu.Lock()
	defer n.levels.mu.Unlock()
	return n.levels.last
}

// TableAt returns a table as it was at an index, as table restore does.
func (n *Node) TableAt(table string, index uint64) (*fsm.Table, error) {
	s, err := n.State()
	if err != nil {
		return nil, err
	}
	t, ok := n.fsm.History().At(s, table, index)
	if !ok || t == nil {
		return nil, ErrForgotten
	}
	return t, nil
}

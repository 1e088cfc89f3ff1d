package cluster

// KnownLevels returns what a leader has told this node of the servers' levels.
func (n *Node) KnownLevels() map[string]int {
	n.levels.mu.Lock()
	defer n.levels.mu.Unlock()
	return n.levels.last
}

package cluster

import (
	"fmt"

	"postraft/fsm"
)

// allCan returns an ErrRefused where a server of the cluster is known not to be able to carry out a command, and an
// errNotLeader, which is tried again, where one has not told yet. Commands of level 1 every node can. Called on
// the leader.
func (n *Node) allCan(command []byte) error {
	level := fsm.CommandLevel(command)
	if level <= 1 {
		return nil
	}
	for _, s := range n.raft.GetConfiguration().Configuration().Servers {
		id := string(s.ID)
		status := n.peerStatus()
		if id != n.id {
			v, ok := n.census.of(id)
			if !ok || !v.answer {
				return fmt.Errorf("%w: %s has not told what it can carry out; if it will not come back: postraft remove %s", errNotLeader, nameOf(id), nameOf(id))
			}
			status = v.status
		}
		if max(status.Level, 1) < level {
			return fmt.Errorf("%w: %s runs version %s, which cannot carry that out: upgrade it first", ErrRefused, nameOf(id), status.Version)
		}
	}
	return nil
}

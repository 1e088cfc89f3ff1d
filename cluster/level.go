package cluster

import (
	"cmp"
	"fmt"
	"sync"

	"postraft/fsm"
)

// levels are the levels of commands of the servers, by id, as a leader knows or has known them: a new leader cannot
// ask a server that is away.
type levels struct {
	mu   sync.Mutex
	last map[string]int
}

// learnLevels takes what a leader says of the servers.
func (n *Node) learnLevels(all map[string]int) {
	if len(all) == 0 {
		return
	}
	n.levels.mu.Lock()
	defer n.levels.mu.Unlock()
	n.levels.last = all
}

// levelOf returns what a server can carry out, or known false. What it has answered to this leader goes before what
// was heard of it.
func (n *Node) levelOf(id string) (level int, version string, known bool) {
	if id == n.id {
		return n.cfg.CommandLevel, n.cfg.Version, true
	}
	if v, ok := n.census.of(id); ok && v.answer {
		return max(v.status.Level, 1), v.status.Version, true
	}
	n.levels.mu.Lock()
	defer n.levels.mu.Unlock()
	level, known = n.levels.last[id]
	return level, "", known
}

// serverLevels returns the levels of all servers that are known.
func (n *Node) serverLevels() map[string]int {
	all := map[string]int{}
	for _, s := range n.raft.GetConfiguration().Configuration().Servers {
		if level, _, known := n.levelOf(string(s.ID)); known {
			all[string(s.ID)] = level
		}
	}
	return all
}

// commonLevel returns the level that surely all servers of the cluster can carry out.
func (n *Node) commonLevel() int {
	common := n.cfg.CommandLevel
	for _, s := range n.raft.GetConfiguration().Configuration().Servers {
		level, _, known := n.levelOf(string(s.ID))
		if !known {
			return 1
		}
		common = min(common, level)
	}
	return common
}

// allCan returns an ErrRefused where a server of the cluster is known not to be able to carry out a command, and an
// errNotLeader, which is tried again, where one has not told yet. Commands of level 1 every node can, and what they
// say of their origin is no reason: the proposer leaves it out. Called on the leader.
func (n *Node) allCan(command []byte) error {
	level := fsm.CommandLevel(command)
	if level <= 1 {
		return nil
	}
	for _, s := range n.raft.GetConfiguration().Configuration().Servers {
		name := nameOf(string(s.ID))
		can, version, known := n.levelOf(string(s.ID))
		switch {
		case !known:
			return fmt.Errorf("%w: %s has not told what it can carry out; if it will not come back: postraft remove %s", errNotLeader, name, name)
		case can < level:
			return fmt.Errorf("%w: %s runs version %s, which cannot carry that out: upgrade it first", ErrRefused, name, cmp.Or(version, "unknown"))
		}
	}
	return nil
}

// readable returns an error where this node cannot read a command.
func (n *Node) readable(command []byte) error {
	if n.cfg.CommandLevel < fsm.OriginLevel && fsm.HasOrigin(command) { // a test has it play an older one
		return fsm.ErrUnreadable
	}
	return fsm.CheckCommand(command)
}

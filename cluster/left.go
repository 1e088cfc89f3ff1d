package cluster

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"postraft/cluster/store"
)

// leftMark is in the data directory of a node that has left or was removed: nobody must take its tables for those of the
// cluster.
const leftMark = "left"

// markLeft sees to it that this node does not start again with what it has.
func (n *Node) markLeft() {
	if err := store.WriteFile(n.path(leftMark), []byte(time.Now().UTC().Format(time.RFC3339)+"\n")); err != nil {
		n.logger.Error("do not start this node again with its data: it is no member any more, and cannot mark them", "err", err)
	}
}

// checkLeft returns an ErrRefused if the node has left its cluster or was removed: it would answer lookups with tables that
// no change reaches any more.
func (n *Node) checkLeft() error {
	if _, err := os.Stat(n.path(leftMark)); errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	return fmt.Errorf("%w: it has left its cluster or was removed, and what is in %s stays behind; to join again, start it once with: postraft agent --reset", ErrRefused, n.cfg.DataDir)
}

// removed returns an ErrRefused if a leader among the servers that this node knows says that it is none any more. No
// change reaches its tables then. A leader of another cluster has no say.
func (n *Node) removed() error {
	if _, leader := n.raft.LeaderWithID(); leader != "" || !n.formed() || n.leaving.Load() {
		return nil
	}
	servers := n.serverAddresses()
	for id, m := range n.alive() {
		if _, known := servers[id]; !known || id == n.id {
			continue
		}
		status, err := n.statusOf(n.ctx, id, m.meta.Address)
		if err == nil && len(status.Servers) > 0 && !slices.Contains(status.Servers, n.id) {
			return fmt.Errorf("%w: it was removed from its cluster, as the leader %s says; to join again, start it once with: postraft agent --reset", ErrRefused, nameOf(id))
		}
	}
	return nil
}

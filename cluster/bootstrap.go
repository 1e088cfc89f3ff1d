package cluster

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/raft"

	"postraft/cluster/store"
)

// pledge asks a node to take part in the cluster that the sender is about to form, and in no other.
type pledge struct {
	Coordinator string `json:"coordinator"` // server id
}

// formed reports whether this node belongs to a cluster: it has a raft configuration.
func (n *Node) formed() bool {
	return len(n.raft.GetConfiguration().Configuration().Servers) > 0
}

// bootstrap forms a new cluster once BootstrapExpect nodes that want one see each other. The one with the
// smallest id coordinates: it writes the first configuration after all others have pledged themselves to
// it, so that no two of them can form two clusters. Where any member belongs to a cluster already, nobody
// forms another one; its leader takes the new nodes in.
func (n *Node) bootstrap() {
	for n.ctx.Err() == nil && !n.formed() && !n.rejoins() {
		if err := n.tryBootstrap(); err != nil {
			n.logger.Info("cluster not formed yet", "reason", err)
		}
		select {
		case <-time.After(250 * time.Millisecond):
		case <-n.ctx.Done():
		}
	}
	if n.ctx.Err() == nil {
		n.announce()
	}
}

// announce tells gossip that what this node says of itself has changed. Two do so one after the other, as memberlist reads
// what it writes.
func (n *Node) announce() {
	n.announcing.Lock()
	defer n.announcing.Unlock()
	if err := n.gossip.UpdateNode(time.Second); err != nil {
		n.logger.Debug("gossip update not confirmed", "err", err)
	}
}

func (n *Node) tryBootstrap() error {
	var ids []string
	alive := n.alive()
	for _, id := range slices.Sorted(maps.Keys(alive)) {
		m := alive[id]
		if m.meta.Formed {
			return nil // its leader adds this node
		}
		if m.meta.Expect == n.cfg.BootstrapExpect && !m.meta.Nonvoter {
			ids = append(ids, id)
		}
	}
	if len(ids) < n.cfg.BootstrapExpect {
		return nil
	}
	if ids = ids[:n.cfg.BootstrapExpect]; ids[0] != n.id {
		return nil
	}
	if err := n.pledgeTo(n.id); err != nil {
		return err
	}
	config := raft.Configuration{}
	for i, id := range ids {
		address := alive[id].meta.Address
		if id != n.id {
			ctx, cancel := context.WithTimeout(n.ctx, 2*time.Second)
			err := n.peers.askJSON(ctx, address+"#"+id, askPledge, pledge{n.id}, nil)
			cancel()
			if err != nil {
				return fmt.Errorf("pledge of %s: %w", nameOf(id), err)
			}
		}
		suffrage := raft.Voter
		if i >= n.cfg.Voters {
			suffrage = raft.Nonvoter
		}
		config.Servers = append(config.Servers, raft.Server{Suffrage: suffrage, ID: raft.ServerID(id), Address: raft.ServerAddress(address)})
	}
	if err := n.await(n.raft.BootstrapCluster(config)); err != nil && !errors.Is(err, raft.ErrCantBootstrap) {
		return fmt.Errorf("write the first configuration: %w", err)
	}
	n.logger.Info("cluster formed", "servers", len(config.Servers), "voters", min(len(ids), n.cfg.Voters))
	return nil
}

// pledgeTo promises to form a cluster with this coordinator only. The promise is kept on disk, and ends when
// the coordinator is gone before it has formed anything.
func (n *Node) pledgeTo(coordinator string) error {
	if n.formed() {
		return fmt.Errorf("%w: %s belongs to a cluster", ErrRefused, n.cfg.Name)
	}
	if n.rejoins() {
		return fmt.Errorf("%w: %s waits for the cluster that it was a member of", ErrRefused, n.cfg.Name)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	path := n.path("pledge")
	if b, err := os.ReadFile(path); err == nil {
		before := strings.TrimSpace(string(b))
		if _, there := n.alive()[before]; there && before != coordinator {
			return fmt.Errorf("%w: %s is pledged to %s", ErrRefused, n.cfg.Name, nameOf(before))
		}
	}
	return store.WriteFile(path, []byte(coordinator+"\n"))
}

package cluster

import (
	"context"
	"fmt"
	"time"
)

// watchName ends this node when another live agent has its name or its very identity: the one that came later
// goes, and says why. Gossip calls a killed agent alive for some seconds, so the other one has to answer. It also ends
// a node that was removed from its cluster while it was away.
func (n *Node) watchName() {
	for n.ctx.Err() == nil {
		if err := n.removed(); err != nil {
			n.markLeft()
			n.fail(err)
			return
		}
		for id, m := range n.alive() {
			if id == n.id || nameOf(id) != n.cfg.Name {
				continue
			}
			status, err := n.statusOf(n.ctx, id, m.meta.Address)
			if err != nil || n.formed() && !(status.Formed && n.expelled(id)) {
				continue
			}
			if !n.formed() && !status.Formed && status.Uptime < time.Since(n.began) {
				continue // neither belongs to a cluster yet: the younger one goes
			}
			n.fail(fmt.Errorf("%w: another live agent is called %s, as %s at %s; give one of them another --name", ErrRefused, n.cfg.Name, id, m.meta.Address))
			return
		}
		select {
		case <-time.After(time.Second):
		case <-n.ctx.Done():
		}
	}
}

// expelled reports whether the newest configuration that this node knows has the other server of its name and
// not this one.
func (n *Node) expelled(other string) bool {
	servers := n.serverAddresses()
	_, us := servers[n.id]
	_, them := servers[other]
	return them && !us
}

// conflict is told that two agents say they are the server id. Where that is this node, a copy of its data
// directory runs elsewhere, or this is the copy; the younger one ends.
func (n *Node) conflict(id, address string) {
	if id != n.id || address == "" || address == n.port.address {
		return
	}
	if !n.doubting.CompareAndSwap(false, true) {
		return // one question at a time, however often gossip says it
	}
	n.tasks.Go(func() {
		defer n.doubting.Store(false)
		ctx, cancel := context.WithTimeout(n.ctx, statusTimeout)
		defer cancel()
		var status peerStatus
		if err := n.peers.askJSON(ctx, address+"#"+n.id, askStatus, struct{}{}, &status); err != nil || status.ID != n.id || status.Life == n.life {
			return
		}
		if status.Uptime > time.Since(n.began) {
			n.fail(fmt.Errorf("%w: the agent at %s runs on a copy of this data directory; start this one with: postraft agent --reset, and under another --name", ErrRefused, address))
		}
	})
}

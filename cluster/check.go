package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"postraft/fsm/packed"
)

// errDiverged is why a node that differed from the others ends, to begin anew.
var errDiverged = fmt.Errorf("this node's tables differed from those of the majority: %w", ErrRestart)

// discardOrder is what the leader tells a server that differs.
type discardOrder struct {
	Index  uint64 `json:"index"` // where it differed
	Reason string `json:"reason"`
}

// checkDigests compares the nodes' tables at equal indexes until ctx ends with this leadership. Nodes that
// have applied the same entries are equal; one that is not has a fault, in its memory, on its disk or in its
// program.
func (n *Node) checkDigests(ctx context.Context) {
	defer n.alarms.clear()
	tick := time.NewTicker(n.cfg.CheckEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			n.compareDigests(ctx)
		case <-ctx.Done():
			return
		}
	}
}

// compareDigests is one round: each server that answers is compared at the highest index that it shares with
// a majority of the voters.
func (n *Node) compareDigests(ctx context.Context) {
	found := map[string]map[uint64]packed.Digest{}
	addresses := n.serverAddresses()
	n.alarms.keep(func(id string) bool { _, ok := addresses[id]; return ok }) // else it has begun anew, or was removed
	for id, address := range addresses {
		list := n.fsm.Checkpoints()
		if id != n.id {
			ctx, cancel := context.WithTimeout(ctx, statusTimeout)
			err := n.peers.askJSON(ctx, address+"#"+id, askCheckpoints, struct{}{}, &list)
			cancel()
			if err != nil {
				n.logger.Debug("server not compared", "member", nameOf(id), "err", err)
				continue
			}
		}
		found[id] = map[uint64]packed.Digest{}
		for _, c := range list {
			found[id][c.Index] = c.Digest
		}
	}
	for id, index := range differing(found, n.voters()) {
		n.diverged(ctx, id, index)
	}
}

// differing returns the servers that differ from the majority of the voters, each with the highest index at
// which it does. Where no digest has a majority nobody can be blamed.
func differing(found map[string]map[uint64]packed.Digest, voters []string) map[string]uint64 {
	votes := map[uint64]map[packed.Digest]int{}
	for _, id := range voters {
		for index, digest := range found[id] {
			if votes[index] == nil {
				votes[index] = map[packed.Digest]int{}
			}
			votes[index][digest]++
		}
	}
	wrong := map[string]uint64{}
	for id, digests := range found {
		for _, index := range slices.Backward(slices.Sorted(maps.Keys(digests))) {
			right, known := packed.Digest{}, false
			for digest, count := range votes[index] {
				if count >= len(voters)/2+1 {
					right, known = digest, true
				}
			}
			if known {
				if digests[index] != right {
					wrong[id] = index
				}
				break
			}
		}
	}
	return wrong
}

// diverged says it loudly, and heals the server where that leaves a quorum: it is told to begin anew, and comes
// back as a new server that takes the place of the old one (settle).
func (n *Node) diverged(ctx context.Context, id string, index uint64) {
	n.events.add(EventDigestMismatch)
	reason := fmt.Sprintf("tables of %s differ from those of the majority at index %d", nameOf(id), index)
	n.alarms.set(id, reason)
	n.logger.Error("tables differ", "member", nameOf(id), "id", id, "index", index)
	if id == n.id {
		n.logger.Warn("own tables are wrong: leadership is handed over")
		n.diverging.Store(true)
		n.proposer.pause()
		if err := n.transfer(ctx, ""); err != nil {
			n.logger.Warn("leadership not handed over", "err", err)
		}
		return
	}
	v := &view{self: n.id, vital: func(id string) vital { v, _ := n.census.of(id); return v }}
	voters := n.voters()
	if slices.Contains(voters, id) && !v.quorumWithout(voters, id) {
		n.logger.Error("the server is not healed: without its vote there would be no quorum", "member", nameOf(id))
		return
	}
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	if err := n.peers.askJSON(ctx, n.serverAddresses()[id]+"#"+id, askDiscard, discardOrder{index, reason}, nil); err != nil {
		n.logger.Error("server not told to begin anew", "member", nameOf(id), "err", err)
		return
	}
	n.alarms.set(id, "")
}

// discardAsked serves a discardOrder: only the leader may give one.
func (n *Node) discardAsked(from string, payload []byte) error {
	var order discardOrder
	if err := json.Unmarshal(payload, &order); err != nil {
		return fmt.Errorf("%w: malformed order", ErrRefused)
	}
	if id, _, _ := n.leaderWatch(); id != from || id == n.id {
		return fmt.Errorf("%w: %s does not lead", ErrRefused, nameOf(from))
	}
	n.diverging.Store(true)
	if err := Discard(n.cfg.DataDir, order.Reason); err != nil {
		return err
	}
	n.fail(fmt.Errorf("%w, at index %d", errDiverged, order.Index))
	return nil
}

func (n *Node) checkpoints() ([]byte, error) { return json.Marshal(n.fsm.Checkpoints()) }

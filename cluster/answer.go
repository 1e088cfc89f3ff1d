package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"
)

// errOtherNode says that another node than the one that was asked for has the address.
var errOtherNode = errors.New("another node")

var errLeaderChanged = errors.New("another leader was heard of")

// statusQuestion is what a leader tells who may lead next when it asks how they do; other nodes ask without it, and
// older ones know nothing of it.
type statusQuestion struct {
	Levels map[string]int `json:"levels,omitempty"` // of the servers, by id
}

// peerStatus is what a node tells another one.
type peerStatus struct {
	ID           string   `json:"id"`
	Formed       bool     `json:"formed"`
	Leaving      bool     `json:"leaving,omitempty"`
	AppliedIndex uint64   `json:"applied_index"`
	LastLogIndex uint64   `json:"last_log_index,omitempty"`
	Version      string   `json:"version,omitempty"`
	Level        int      `json:"level,omitempty"`    // of commands; a node that does not know of levels is of the first
	Common       int      `json:"common,omitempty"`   // of a leader: what surely all servers of the cluster can carry out
	Servers      []string `json:"servers,omitempty"`  // of a leader: the ids of the servers, once that is committed
	Received     uint64   `json:"received,omitempty"` // bytes of snapshots, its own too
	Disk         string   `json:"disk,omitempty"`     // why the node cannot write

	Life   string        `json:"life,omitempty"` // random, of the running process
	Uptime time.Duration `json:"uptime,omitempty"`
}

func (n *Node) peerStatus() peerStatus {
	s := peerStatus{ID: n.id, Formed: n.formed(), Leaving: n.leaving.Load(), AppliedIndex: n.fsm.State().Index, Version: n.cfg.Version, Level: n.cfg.CommandLevel, Received: n.received.Load(), Life: n.life, Uptime: time.Since(n.began)}
	s.LastLogIndex, _ = n.stores.Log.Added()
	s.LastLogIndex = max(s.LastLogIndex, s.AppliedIndex) // a snapshot leaves the log empty
	if n.leadFrom.Load() != nil {
		s.Common = n.commonLevel()
		if config := n.raft.GetConfiguration(); config.Index() <= n.raft.CommitIndex() {
			for _, server := range config.Configuration().Servers {
				s.Servers = append(s.Servers, string(server.ID))
			}
		}
	}
	if err := n.diskError(); err != nil {
		s.Disk = err.Error()
	}
	return s
}

type removal struct {
	ID string `json:"id"`
}

type handover struct {
	ID string `json:"id"` // empty: any voter
}

// answer serves a request of the node that proved itself as from.
func (n *Node) answer(ctx context.Context, from string, kind byte, payload []byte) (byte, []byte) {
	body, err := n.request(ctx, from, kind, payload)
	switch {
	case err == nil:
		return answerOK, body
	case errors.Is(err, errNotLeader):
		return answerNotLeader, nil
	case errors.Is(err, ErrRefused):
		return answerRefused, []byte(err.Error())
	default:
		return answerUnknown, []byte(err.Error())
	}
}

func (n *Node) request(ctx context.Context, from string, kind byte, payload []byte) ([]byte, error) {
	switch kind {
	case askPropose:
		// In the log it would end this node, and every other one that cannot read it.
		if err := n.readable(payload); err != nil {
			return nil, fmt.Errorf("%w: the leader %s cannot carry it out: %w", ErrRefused, n.cfg.Name, err)
		}
		at, err := n.proposer.propose(ctx, payload)
		n.transport.contacts.wants(from, at.Index)
		return at.encode(), err
	case askReadIndex:
		at, err := n.leaderReadIndex(ctx)
		n.transport.contacts.wants(from, at.Index)
		return at.encode(), err
	case askStatus:
		var q statusQuestion
		if json.Unmarshal(payload, &q) == nil {
			n.learnLevels(q.Levels)
		}
		return json.Marshal(n.peerStatus())
	case askPledge:
		var p pledge
		if err := json.Unmarshal(payload, &p); err != nil || p.Coordinator != from {
			return nil, fmt.Errorf("%w: malformed pledge", ErrRefused)
		}
		return nil, n.pledgeTo(from)
	case askRemove:
		var r removal
		if err := json.Unmarshal(payload, &r); err != nil {
			return nil, fmt.Errorf("%w: malformed removal", ErrRefused)
		}
		return nil, n.removeServer(ctx, r.ID)
	case askTransfer:
		var h handover
		if err := json.Unmarshal(payload, &h); err != nil {
			return nil, fmt.Errorf("%w: malformed hand-over", ErrRefused)
		}
		if n.raft.State() != raft.Leader {
			return nil, errNotLeader
		}
		if h.ID == n.id {
			return nil, nil // done before, and asked again
		}
		return nil, n.transfer(ctx, h.ID)
	case askCheckpoints:
		return n.checkpoints()
	case askDiscard:
		return nil, n.discardAsked(from, payload)
	case askReach:
		return n.reachAsked(payload)
	case askKeyring:
		return n.keyringAsked(from, payload)
	default:
		return nil, fmt.Errorf("%w: request of unknown kind %d: asked by a newer version?", ErrRefused, kind)
	}
}

// statusOf asks the node at address who it is, and believes only what it has proved.
func (n *Node) statusOf(ctx context.Context, id, address string) (peerStatus, error) {
	return n.askStatus(ctx, id, address, statusQuestion{})
}

func (n *Node) askStatus(ctx context.Context, id, address string, q statusQuestion) (peerStatus, error) {
	var s peerStatus
	if id == n.id {
		return n.peerStatus(), nil
	}
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	if err := n.peers.askJSON(ctx, address+"#"+id, askStatus, q, &s); err != nil {
		return s, err
	}
	if s.ID != id {
		return s, fmt.Errorf("%s says it is %s, gossip says %s", address, s.ID, id)
	}
	return s, nil
}

// askLeader asks the leader at address, and gives up when another leader is heard of: a leader that was
// stopped or cut off does not close its connections.
func (n *Node) askLeader(ctx context.Context, changed <-chan struct{}, address string, kind byte, payload []byte) ([]byte, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	answered := make(chan struct{})
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		select {
		case <-changed:
			cancel(errLeaderChanged)
		case <-answered:
		}
	}()
	body, err := n.peers.ask(ctx, address, kind, payload)
	close(answered)
	<-watched
	cancel(nil)
	return body, err
}

// onLeader sends a request to the leader, to whoever it is, until ctx ends.
func (n *Node) onLeader(ctx context.Context, kind byte, payload []byte) ([]byte, error) {
	var last error
	for {
		id, address, changed := n.leaderWatch()
		if id != "" {
			var body []byte
			var err error
			if id == n.id {
				body, err = n.request(ctx, n.id, kind, payload)
			} else {
				body, err = n.askLeader(ctx, changed, address, kind, payload)
			}
			if err == nil || errors.Is(err, ErrRefused) {
				return body, err
			}
			last = err
		}
		if err := n.pause(ctx, changed); err != nil {
			return nil, errors.Join(fmt.Errorf("%w: %w", ErrNoLeader, err), last)
		}
	}
}

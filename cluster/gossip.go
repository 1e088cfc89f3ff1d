package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/hashicorp/raft"
)

// meta is what a node says of itself in gossip, as JSON of at most 512 bytes (memberlist's limit). Nobody
// acts on it before the node has proved its identity over TLS.
type meta struct {
	Address  string `json:"a"`           // of raft and node requests
	Version  string `json:"v,omitempty"` // of the program
	Expect   int    `json:"e,omitempty"` // BootstrapExpect
	Formed   bool   `json:"f,omitempty"` // belongs to a cluster
	Nonvoter bool   `json:"n,omitempty"`
}

// gossipMember is a member as gossip knows it.
type gossipMember struct {
	id   string
	meta meta
}

func (n *Node) startGossip(key []byte) error {
	host, portText, err := net.SplitHostPort(n.cfg.Gossip)
	if err != nil {
		return fmt.Errorf("gossip address %q: %w", n.cfg.Gossip, err)
	}
	port, err := strconv.Atoi(portText)
	if err != nil {
		return fmt.Errorf("gossip address %q: %w", n.cfg.Gossip, err)
	}
	advertised, err := n.cfg.advertised(n.cfg.Gossip, port)
	if err != nil {
		return err
	}
	advertiseHost, _, _ := net.SplitHostPort(advertised)
	ips, err := net.DefaultResolver.LookupIPAddr(n.ctx, advertiseHost)
	if err != nil || len(ips) == 0 {
		return fmt.Errorf("look up advertised address %q: %w", advertiseHost, err)
	}
	if host == "" {
		host = "0.0.0.0"
	}
	c := memberlist.DefaultLANConfig()
	c.Name = n.id
	c.BindAddr, c.BindPort = host, port
	c.AdvertiseAddr, c.AdvertisePort = ips[0].IP.String(), port
	c.SecretKey = key
	c.Delegate = (*gossipDelegate)(n)
	c.Events = (*gossipEvents)(n)
	c.Logger = gossipLogger(n.logger)
	c.LogOutput = nil
	c.DeadNodeReclaimTime = 10 * time.Second
	c.GossipToTheDeadTime = time.Minute
	if n.gossip, err = memberlist.Create(c); err != nil {
		return fmt.Errorf("start gossip on %s: %w", n.cfg.Gossip, err)
	}
	local := n.gossip.LocalNode()
	n.gossipAddress = net.JoinHostPort(local.Addr.String(), strconv.Itoa(int(local.Port)))
	return nil
}

// GossipAddress returns where this node's gossip can be reached: what another node's Join takes.
func (n *Node) GossipAddress() string { return n.gossipAddress }

// gossipDelegate is what memberlist asks the node.
type gossipDelegate Node

// NodeMeta implements memberlist.Delegate.
func (d *gossipDelegate) NodeMeta(limit int) []byte {
	n := (*Node)(d)
	b, err := json.Marshal(meta{n.port.address, n.cfg.Version, n.cfg.BootstrapExpect, n.formed(), n.cfg.Nonvoter})
	if err != nil || len(b) > limit {
		n.logger.Error("node does not fit into gossip", "size", len(b), "err", err)
		return nil
	}
	return b
}

// NotifyMsg implements memberlist.Delegate; there are no messages.
func (d *gossipDelegate) NotifyMsg([]byte) {}

// GetBroadcasts implements memberlist.Delegate; there are none.
func (d *gossipDelegate) GetBroadcasts(int, int) [][]byte { return nil }

// LocalState implements memberlist.Delegate; the meta is all.
func (d *gossipDelegate) LocalState(bool) []byte { return nil }

// MergeRemoteState implements memberlist.Delegate.
func (d *gossipDelegate) MergeRemoteState([]byte, bool) {}

// gossipEvents keeps the list of alive members. Its methods are called with memberlist's lock held and must
// not block; what they are given is not theirs to keep.
type gossipEvents Node

// NotifyJoin implements memberlist.EventDelegate.
func (e *gossipEvents) NotifyJoin(m *memberlist.Node) {
	(*Node)(e).memberEvent("member joined", m.Name, m.Meta)
}

// NotifyLeave implements memberlist.EventDelegate.
func (e *gossipEvents) NotifyLeave(m *memberlist.Node) {
	(*Node)(e).memberEvent("member gone", m.Name, nil)
}

// NotifyUpdate implements memberlist.EventDelegate.
func (e *gossipEvents) NotifyUpdate(m *memberlist.Node) {
	(*Node)(e).memberEvent("member changed", m.Name, m.Meta)
}

func (n *Node) memberEvent(what, id string, encoded []byte) {
	g := gossipMember{id: id}
	usable := json.Unmarshal(encoded, &g.meta) == nil && g.meta.Address != ""
	n.memberMu.Lock()
	if usable {
		n.members[id] = g
	} else {
		delete(n.members, id)
	}
	n.memberMu.Unlock()
	n.logger.Info(what, "member", nameOf(id), "id", id)
	select {
	case n.kick <- struct{}{}:
	default:
	}
}

// alive returns the members that gossip calls alive, this node among them, by id.
func (n *Node) alive() map[string]gossipMember {
	n.memberMu.Lock()
	defer n.memberMu.Unlock()
	return maps.Clone(n.members)
}

// addresses tells raft's transport where a server is now: gossip knows better than a configuration entry
// from before the server moved. The address carries the id that the server has to prove (raftStream.Dial):
// a host that was rebuilt at the same address is another server and must not pass for the old one.
type addresses Node

// ServerAddr implements raft.ServerAddressProvider.
func (a *addresses) ServerAddr(id raft.ServerID) (raft.ServerAddress, error) {
	n := (*Node)(a)
	n.memberMu.Lock()
	m, ok := n.members[string(id)]
	n.memberMu.Unlock()
	if ok {
		return withID(m.meta.Address, string(id)), nil
	}
	if n.raft != nil {
		for _, s := range n.raft.GetConfiguration().Configuration().Servers {
			if s.ID == id {
				return withID(string(s.Address), string(id)), nil
			}
		}
	}
	return "", fmt.Errorf("address of %s: %w", id, ErrNoMember) // raft takes its own
}

func withID(address, id string) raft.ServerAddress { return raft.ServerAddress(address + "#" + id) }

// joinLoop contacts the configured members until one answers, and again whenever this node is alone.
func (n *Node) joinLoop() {
	if len(n.cfg.Join) == 0 {
		return
	}
	pause := 500 * time.Millisecond
	warned := false
	for {
		if len(n.alive()) < 2 {
			if err := n.Join(n.ctx, n.cfg.Join); err == nil {
				pause, warned = 500*time.Millisecond, false
			} else {
				if !warned {
					n.logger.Warn("no member to join answers yet", "join", strings.Join(n.cfg.Join, ","), "err", err)
					warned = true
				}
				pause = min(pause*2, 10*time.Second)
			}
		}
		select {
		case <-time.After(pause):
		case <-n.ctx.Done():
			return
		}
	}
}

// Join brings this node into the gossip of the members at these addresses, HOST or HOST:PORT. One that
// answers is enough. The leader then makes the node a server of the cluster by itself.
func (n *Node) Join(ctx context.Context, members []string) error {
	list := slices.Clone(members)
	for i, m := range list {
		if _, _, err := net.SplitHostPort(m); err != nil {
			list[i] = net.JoinHostPort(strings.Trim(m, "[]"), defaultGossipPort)
		}
		if list[i] == n.GossipAddress() {
			list[i] = ""
		}
	}
	list = slices.DeleteFunc(list, func(m string) bool { return m == "" })
	if len(list) == 0 {
		return nil
	}
	type outcome struct {
		reached int
		err     error
	}
	result := make(chan outcome, 1)
	n.tasks.Go(func() {
		reached, err := n.gossip.Join(list)
		result <- outcome{reached, err}
	})
	select {
	case o := <-result:
		if o.reached == 0 && o.err != nil {
			return fmt.Errorf("join %s: %w", strings.Join(members, ","), firstLine(o.err))
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("join %s: %w", strings.Join(members, ","), context.Cause(ctx))
	}
}

// firstLine makes one line of the list that a multierror prints.
func firstLine(err error) error {
	return errors.New(strings.Join(strings.Fields(err.Error()), " "))
}

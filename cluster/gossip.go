package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/hashicorp/raft"

	"postraft/cluster/store"
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
	id     string
	gossip string // address of its memberlist
	meta   meta
}

func (n *Node) startGossip() error {
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
	if c.Keyring, err = memberlist.NewKeyring(n.identity.GossipKeys(), n.identity.GossipKeys()[0]); err != nil {
		return fmt.Errorf("make gossip keyring: %w", err)
	}
	c.Delegate = (*gossipDelegate)(n)
	c.Events = (*gossipEvents)(n)
	c.Conflict = (*gossipEvents)(n)
	c.Logger = gossipLogger(n.logger)
	c.LogOutput = nil
	c.DeadNodeReclaimTime = 10 * time.Second
	c.GossipToTheDeadTime = time.Minute
	guarded, err := listenGossip(host, port, c.Logger)
	if err != nil {
		return fmt.Errorf("start gossip on %s: %w", n.cfg.Gossip, err)
	}
	c.Transport = guarded
	c.BindPort, c.AdvertisePort = guarded.GetAutoBindPort(), guarded.GetAutoBindPort()
	if n.gossip, err = memberlist.Create(c); err != nil {
		guarded.Shutdown()
		return fmt.Errorf("start gossip on %s: %w", n.cfg.Gossip, err)
	}
	n.keyring = c.Keyring
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
	(*Node)(e).memberEvent("member joined", m, m.Meta)
}

// NotifyLeave implements memberlist.EventDelegate.
func (e *gossipEvents) NotifyLeave(m *memberlist.Node) {
	(*Node)(e).memberEvent("member gone", m, nil)
}

// NotifyUpdate implements memberlist.EventDelegate.
func (e *gossipEvents) NotifyUpdate(m *memberlist.Node) {
	(*Node)(e).memberEvent("member changed", m, m.Meta)
}

// NotifyConflict implements memberlist.ConflictDelegate.
func (e *gossipEvents) NotifyConflict(_, other *memberlist.Node) {
	var m meta
	if json.Unmarshal(other.Meta, &m) == nil {
		(*Node)(e).conflict(other.Name, m.Address)
	}
}

func (n *Node) memberEvent(what string, m *memberlist.Node, encoded []byte) {
	id := m.Name
	g := gossipMember{id: id, gossip: net.JoinHostPort(m.Addr.String(), strconv.Itoa(int(m.Port)))}
	usable := json.Unmarshal(encoded, &g.meta) == nil && g.meta.Address != ""
	n.memberMu.Lock()
	if usable {
		n.members[id] = g
	} else {
		delete(n.members, id)
	}
	n.memberMu.Unlock()
	n.logger.Info(what, "member", nameOf(id), "id", id)
	for _, told := range []chan struct{}{n.kick, n.met} {
		select {
		case told <- struct{}{}:
		default:
		}
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

// Known addresses are tried again this often while a server of the cluster is missing from gossip:
// memberlist forgets the dead, so that two halves would not find each other again after a long partition.
const rejoinEvery = 5 * time.Second

// joinLoop contacts the configured members until one answers, and whoever is missing for as long as it is. It keeps the
// addresses of all for the next life.
func (n *Node) joinLoop() {
	known := n.readPeers()
	warned := false
	for pause := 250 * time.Millisecond; ; pause = min(2*pause, rejoinEvery) {
		missing := n.missing(known)
		if alone := len(n.alive()) < 2; alone || len(missing) > 0 {
			if alone {
				missing = append(missing, n.cfg.Join...)
			}
			err := n.contact(n.ctx, missing)
			if err != nil && alone && !warned {
				n.logger.Warn("no member to join answers yet: they have to run, be at this address and have the same secret", "join", strings.Join(missing, ","), "err", err)
			}
			warned = err != nil && alone
		}
		for rest := time.After(pause); rest != nil; {
			select {
			case <-rest:
				rest = nil
			case <-n.met:
			case <-n.ctx.Done():
				return
			}
			n.writePeers(known)
		}
	}
}

// missing returns the gossip addresses, as far as they are known, of servers that gossip does not call alive.
func (n *Node) missing(known map[string]string) []string {
	alive := n.alive()
	for id, m := range alive {
		if id != n.id {
			known[id] = m.gossip
		}
	}
	var addresses []string
	for _, s := range n.raft.GetConfiguration().Configuration().Servers {
		id := string(s.ID)
		if _, there := alive[id]; !there && id != n.id && known[id] != "" {
			addresses = append(addresses, known[id])
		}
	}
	return addresses
}

// readPeers returns the gossip addresses that this node knew when it stopped, by id: a node that joined by
// command finds its cluster again without --join.
func (n *Node) readPeers() map[string]string {
	known := map[string]string{}
	b, err := os.ReadFile(n.path("peers"))
	if err == nil {
		err = json.Unmarshal(b, &known)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		n.logger.Warn("known members not read", "err", err)
	}
	return known
}

// writePeers keeps the addresses of the servers, and forgets who is none any more. As long as there are no servers it keeps
// those of all members: they may be servers a moment later, and this node may be killed then.
func (n *Node) writePeers(known map[string]string) {
	n.missing(known)
	keep := map[string]string{}
	servers := n.raft.GetConfiguration().Configuration().Servers
	if len(servers) == 0 {
		keep = known
	}
	for _, s := range servers {
		if address := known[string(s.ID)]; address != "" {
			keep[string(s.ID)] = address
		}
	}
	if len(keep) == 0 {
		return
	}
	b, err := json.Marshal(keep)
	if err == nil {
		err = store.WriteFile(n.path("peers"), b)
	}
	if err != nil {
		n.logger.Warn("known members not written", "err", err)
	}
}

// Join brings this node into the gossip of the members at these addresses, HOST or HOST:PORT. One that
// answers is enough. The leader then makes the node a server of the cluster by itself; it is ErrRefused where it will not, as this
// node is a cluster of its own.
func (n *Node) Join(ctx context.Context, members []string) error {
	if err := n.contact(ctx, members); err != nil {
		return err
	}
	if other, ok := n.strangers(); ok {
		return fmt.Errorf("%w: this node is a cluster of its own already, and %s belongs to another; to give up its tables and join, start it once with: postraft agent --reset", ErrRefused, nameOf(other))
	}
	return nil
}

// contact exchanges what is known of members with those at these addresses.
func (n *Node) contact(ctx context.Context, members []string) error {
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
			return firstLine(o.err)
		}
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// strangers returns a member of another cluster than the one that this node makes up alone, if there is one. What a node with
// others knows of its cluster may be old, so of that nothing is concluded.
func (n *Node) strangers() (id string, ok bool) {
	servers := n.serverAddresses()
	if _, mine := servers[n.id]; !mine || len(servers) > 1 {
		return "", false
	}
	for id, m := range n.alive() {
		if _, mine := servers[id]; m.meta.Formed && !mine {
			return id, true
		}
	}
	return "", false
}

// firstLine makes one line of the list that a multierror prints.
func firstLine(err error) error {
	return errors.New(strings.Join(strings.Fields(err.Error()), " "))
}

package cluster

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"postraft/cluster/trust"
)

// A KeyringMember is what one member has for secrets, by their fingerprints.
type KeyringMember struct {
	Name    string   `json:"name"`
	ID      string   `json:"id"`
	Uses    string   `json:"uses"`
	Accepts []string `json:"accepts"`             // the one in use among them, first
	InFile  []string `json:"in_file"`             // the same of its secret file, which it obeys from its next start on
	Warning string   `json:"warning,omitempty"`   // what is to be done on that host
	Refused string   `json:"refused,omitempty"`   // why it did not do what it was asked
	Silent  string   `json:"no_answer,omitempty"` // why nothing is known of it
	Server  bool     `json:"server"`              // of the raft configuration, not only of the gossip
}

// What a node asks another one to do with its secrets. Secrets never travel: operators bring them to the hosts.
type keyringOrder struct {
	Do  string `json:"do"`
	Key string `json:"key,omitempty"` // fingerprint
}

const (
	keyringList   = "list"
	keyringReload = "reload"
	keyringUse    = "use"
	keyringRemove = "remove"

	keyringTimeout = 5 * time.Second // for one member
)

// keyringAsked serves an order of the member from.
func (n *Node) keyringAsked(from string, payload []byte) ([]byte, error) {
	var order keyringOrder
	if err := json.Unmarshal(payload, &order); err != nil {
		return nil, fmt.Errorf("%w: malformed order about keys", ErrRefused)
	}
	if order.Do != keyringList {
		n.logger.Info("order about keys", "order", order.Do, "key", order.Key, "from", nameOf(from))
	}
	var refused error
	var byHand string
	switch order.Do {
	case keyringList:
	case keyringReload:
		refused = n.Reload()
	case keyringUse:
		byHand, refused = n.changeKeys(order.Key, trust.Secrets.Use, trust.UseInFile)
	case keyringRemove:
		byHand, refused = n.changeKeys(order.Key, removeIfThere, trust.RemoveFromFile)
	default:
		refused = fmt.Errorf("%w: unknown order about keys: asked by a newer version?", ErrRefused)
	}
	m := n.ownKeys()
	if refused != nil {
		m.Refused = refused.Error()
	}
	m.Warning = cmp.Or(byHand, m.Warning)
	return json.Marshal(m)
}

// ownKeys returns what this node has.
func (n *Node) ownKeys() KeyringMember {
	secrets := n.identity.Secrets()
	m := KeyringMember{Name: n.cfg.Name, ID: n.id, Uses: secrets.Fingerprints()[0], Accepts: secrets.Fingerprints()}
	m.InFile = m.Accepts
	if n.cfg.SecretFile == "" {
		return m
	}
	inFile, err := trust.ReadSecretFile(n.cfg.SecretFile)
	m.InFile = inFile.Fingerprints()
	switch {
	case err != nil:
		m.Warning = err.Error()
	case m.InFile[0] != m.Uses, !slices.Equal(slices.Sorted(slices.Values(m.InFile)), slices.Sorted(slices.Values(m.Accepts))):
		m.Warning = fmt.Sprintf("%s holds the keys %s, in this order: keyring reload takes them over", n.cfg.SecretFile, inFile)
	}
	return m
}

// Keyring asks every member for its keys, by name.
func (n *Node) Keyring(ctx context.Context) []KeyringMember {
	return n.orderKeys(ctx, keyringOrder{Do: keyringList})
}

// ReloadKeyring lets every member read its secret file and certificates again.
func (n *Node) ReloadKeyring(ctx context.Context) []KeyringMember {
	return n.orderKeys(ctx, keyringOrder{Do: keyringReload})
}

// UseKey lets every member use the secret with this fingerprint, and write that into its file where it may.
// It is an ErrRefused while a member does not accept it or does not answer, unless forced.
func (n *Node) UseKey(ctx context.Context, key string, force bool) ([]KeyringMember, error) {
	if !slices.Contains(n.identity.Secrets().Fingerprints(), key) {
		return nil, fmt.Errorf("%w: this node has no key %s; see: postraft keyring list", ErrRefused, key)
	}
	members := n.Keyring(ctx)
	if why := objections(members, func(m KeyringMember) string {
		if !slices.Contains(m.Accepts, key) {
			return "does not accept it"
		}
		return ""
	}); why != "" && !force {
		return members, fmt.Errorf("%w: use key %s: %s; add it to the secret file there and reload, or use --force", ErrRefused, key, why)
	}
	return n.orderKeys(ctx, keyringOrder{keyringUse, key}), nil
}

// RemoveKey lets every member forget the secret with this fingerprint, in its file too where it may. It is an
// ErrRefused while a member uses it, would use it after a restart, does not accept the one that this node uses,
// or does not answer, unless forced. A member that uses it keeps it in any case.
func (n *Node) RemoveKey(ctx context.Context, key string, force bool) ([]KeyringMember, error) {
	uses := n.identity.Secrets().Fingerprints()[0]
	if key == uses {
		return nil, fmt.Errorf("%w: remove key %s: it is in use; use another one first: postraft keyring use", ErrRefused, key)
	}
	members := n.Keyring(ctx)
	if !slices.ContainsFunc(members, func(m KeyringMember) bool {
		return slices.Contains(m.Accepts, key) || slices.Contains(m.InFile, key)
	}) {
		return nil, fmt.Errorf("%w: no member that answers has a key %s", ErrRefused, key)
	}
	if why := objections(members, func(m KeyringMember) string {
		switch {
		case m.Uses == key:
			return "still uses it"
		case !slices.Contains(m.Accepts, uses):
			return "does not accept " + uses + ", the key in use here"
		case len(m.InFile) > 0 && m.InFile[0] == key:
			return "would use it again after a restart: it is the first in its secret file"
		}
		return ""
	}); why != "" && !force {
		return members, fmt.Errorf("%w: remove key %s: %s; what to write there is in: postraft keyring list", ErrRefused, key, why)
	}
	return n.orderKeys(ctx, keyringOrder{keyringRemove, key}), nil
}

// objections says which members speak against a change. A member of the gossip alone that does not answer has
// proved nothing: it has no say.
func objections(members []KeyringMember, against func(KeyringMember) string) string {
	var list []string
	for _, m := range members {
		if m.Silent != "" && !m.Server {
			continue
		}
		if m.Silent != "" {
			list = append(list, m.Name+" does not answer ("+m.Silent+")")
		} else if why := against(m); why != "" {
			list = append(list, m.Name+" "+why)
		}
	}
	return strings.Join(list, "; ")
}

// orderKeys gives an order to all servers of the configuration and all members that are alive.
func (n *Node) orderKeys(ctx context.Context, order keyringOrder) []KeyringMember {
	addresses := n.serverAddresses()
	servers := maps.Clone(addresses)
	for id, m := range n.alive() {
		addresses[id] = m.meta.Address
	}
	addresses[n.id] = n.port.address
	var mu sync.Mutex
	var members []KeyringMember
	var asking sync.WaitGroup
	slots := make(chan struct{}, censusAsks)
	for id, address := range addresses {
		slots <- struct{}{}
		asking.Go(func() {
			defer func() { <-slots }()
			m, err := n.orderOne(ctx, id, address, order)
			if err != nil {
				m = KeyringMember{Name: nameOf(id), ID: id, Silent: err.Error()}
			}
			_, m.Server = servers[id]
			mu.Lock()
			members = append(members, m)
			mu.Unlock()
		})
	}
	asking.Wait()
	slices.SortFunc(members, func(a, b KeyringMember) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID)) })
	return members
}

func (n *Node) orderOne(ctx context.Context, id, address string, order keyringOrder) (m KeyringMember, err error) {
	if id == n.id {
		payload, err := json.Marshal(order)
		if err != nil {
			return m, err
		}
		body, err := n.keyringAsked(n.id, payload)
		if err != nil {
			return m, err
		}
		return m, json.Unmarshal(body, &m)
	}
	ctx, cancel := context.WithTimeout(ctx, keyringTimeout)
	defer cancel()
	return m, n.peers.askJSON(ctx, address+"#"+id, askKeyring, order, &m)
}

package cluster

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"postraft/cluster/trust"
)

func (n *Node) makeIdentity() error {
	secrets, err := n.readSecrets()
	if err != nil {
		return err
	}
	n.identity, err = trust.New(trust.Config{ID: n.id, Protocols: []string{raftProtocol, nodeProtocol}, Secrets: secrets, Files: n.cfg.Certificates})
	return err
}

func (n *Node) readSecrets() (trust.Secrets, error) {
	if n.cfg.SecretFile != "" {
		return trust.ReadSecretFile(n.cfg.SecretFile)
	}
	return trust.ParseSecrets([]byte(n.cfg.Secret))
}

// Reload reads the secret file and the operator's certificates again and takes them over: for new connections
// at once, while live ones stay, but for those that rest on what was taken away. What cannot be used changes
// nothing.
func (n *Node) Reload() error {
	n.keyMu.Lock()
	defer n.keyMu.Unlock()
	if err := n.identity.Reload(); err != nil {
		return fmt.Errorf("certificates not read again: %w", err)
	}
	n.warnOfCertificate()
	if n.cfg.SecretFile != "" {
		secrets, err := n.readSecrets()
		if err != nil {
			return fmt.Errorf("secrets not read again: %w", err)
		}
		return n.setSecretsLocked(secrets)
	}
	n.port.sessions.distrust(n.identity)
	return nil
}

// setSecretsLocked takes over other secrets. keyMu is held.
func (n *Node) setSecretsLocked(secrets trust.Secrets) error {
	before := n.identity.Secrets()
	if err := n.identity.SetSecrets(secrets); err != nil {
		return err
	}
	if err := n.setGossipKeys(n.identity.GossipKeys()); err != nil {
		return err
	}
	closed := n.port.sessions.distrust(n.identity)
	if !slices.Equal(before, secrets) {
		n.logger.Info("keys changed", "uses", secrets.Fingerprints()[0], "accepts", secrets, "connections_closed", closed)
	}
	return nil
}

// setGossipKeys makes the gossip's keyring hold these keys, the first in use. It takes keys away from the
// end only: memberlist moves those behind a key that it removes while others read them.
func (n *Node) setGossipKeys(want [][]byte) error {
	for _, key := range want {
		if err := n.keyring.AddKey(key); err != nil {
			return err
		}
	}
	if err := n.keyring.UseKey(want[0]); err != nil {
		return err
	}
	have := slices.Clone(n.keyring.GetKeys())
	wanted := func(key []byte) bool {
		return slices.ContainsFunc(want, func(w []byte) bool { return slices.Equal(w, key) })
	}
	first := slices.IndexFunc(have, func(key []byte) bool { return !wanted(key) })
	if first < 0 {
		return nil
	}
	for _, key := range slices.Backward(have[first:]) {
		if err := n.keyring.RemoveKey(key); err != nil {
			return err
		}
	}
	for _, key := range want { // those that stood behind one that went
		if err := n.keyring.AddKey(key); err != nil {
			return err
		}
	}
	return nil
}

// changeKeys makes a change in memory and then in the secret file. byHand says why the file could not be
// changed, if so.
func (n *Node) changeKeys(key string, inMemory func(trust.Secrets, string) (trust.Secrets, error), inFile func(path, key string) error) (byHand string, err error) {
	n.keyMu.Lock()
	defer n.keyMu.Unlock()
	next, err := inMemory(n.identity.Secrets(), key)
	if err != nil {
		return "", err
	}
	if err := n.setSecretsLocked(next); err != nil {
		return "", err
	}
	if n.cfg.SecretFile == "" {
		return "", nil
	}
	if err := inFile(n.cfg.SecretFile, key); err != nil && !errors.Is(err, trust.ErrUnknownKey) {
		n.logger.Warn("secret file not changed", "err", err)
		return fmt.Sprintf("the agent cannot change its secret file (%v): edit it, so that it holds the keys %s in this order", err, next), nil
	}
	return "", nil
}

// removeIfThere is for a member that never had the secret, or has been told before.
func removeIfThere(s trust.Secrets, key string) (trust.Secrets, error) {
	next, err := s.Remove(key)
	if errors.Is(err, trust.ErrUnknownKey) {
		return s, nil
	}
	return next, err
}

const (
	certificateCheckEvery = time.Hour
	certificateWarnEvery  = 24 * time.Hour
)

// watchCertificate warns of the end of the operator's certificate once a day.
func (n *Node) watchCertificate() {
	tick := time.NewTicker(certificateCheckEvery)
	defer tick.Stop()
	for last := (time.Time{}); ; {
		if time.Since(last) >= certificateWarnEvery {
			n.warnOfCertificate()
			last = time.Now()
		}
		select {
		case <-tick.C:
		case <-n.ctx.Done():
			return
		}
	}
}

func (n *Node) warnOfCertificate() {
	for _, w := range n.identity.Warnings() {
		n.logger.Warn("certificate", "warning", w)
	}
}

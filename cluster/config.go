package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"time"

	"github.com/hashicorp/go-sockaddr"
	"github.com/hashicorp/raft-wal/types"

	"postraft/cluster/store"
	"postraft/cluster/trust"
	"postraft/dict"
	"postraft/fsm"
)

// Config says what a node is. Open copies it.
type Config struct {
	Name    string // unique in the cluster
	DataDir string // made if need be

	Bind      string // ADDR:PORT of raft and node requests; port 0 chooses one
	Gossip    string // ADDR:PORT of memberlist, TCP and UDP; port 0 chooses one
	Advertise string // address that other nodes use; empty: Bind's, or a private address of this host

	Join            []string // gossip addresses, HOST or HOST:PORT; tried until one works
	BootstrapExpect int      // form a cluster once so many nodes see each other; 0 never does
	Nonvoter        bool     // never vote
	Voters          int      // how many voters the leader keeps; 0 is 5

	// DeadAfter is how long a voter may be silent before a stand-by votes in its place; 0 is ten minutes.
	// StableFor is how long a nonvoter must have done well before it votes; 0 is five seconds.
	DeadAfter, StableFor time.Duration

	// Secret holds the cluster's secrets, a line each (package trust); with SecretFile they are read from there,
	// again at each Reload, and changes made by command are written there. Certificates are the operator's, in
	// place of those minted from the secret.
	Secret, SecretFile string
	Certificates       trust.Files

	LogStore     string        // store.WAL or store.Bolt; empty is store.WAL
	LogFS        types.VFS     // where a WAL keeps its files; nil is the operating system. Tests make it fail.
	Dial         DialFunc      // opens connections to the TCP ports of other nodes; nil is the operating system. Tests cut them.
	MaxStaleness time.Duration // answer ErrRetry when no leader was heard of for so long; 0 never does
	Version      string        // of the program, for Members

	// CommandLevel is the level of commands that this node says it can carry out; 0 is fsm.Level. Tests of
	// upgrades play older nodes with it.
	CommandLevel int

	// CheckEvery is how often the leader compares the digests of all nodes; 0 is a minute.
	CheckEvery time.Duration

	// HeartbeatTimeout is how long a follower waits for the leader before it calls an election. Zero is
	// 500 ms, right for one site; a wide area wants three times the round trip and more.
	HeartbeatTimeout time.Duration

	Logger *slog.Logger
}

// A DialFunc is as net.Dialer has it.
type DialFunc = func(ctx context.Context, network, address string) (net.Conn, error)

// Sentinel errors of the package. Those of package dict are returned by reads and writes.
var (
	// ErrNoLeader says that there is no leader now, or none that answers. It is a dict.ErrRetry.
	ErrNoLeader = fmt.Errorf("no leader: %w", dict.ErrRetry)

	// ErrClosed says that the node was closed. It is a dict.ErrRetry.
	ErrClosed = fmt.Errorf("node is closed: %w", dict.ErrRetry)

	// ErrNoMember says that no member has this name.
	ErrNoMember = errors.New("no such member")

	// ErrRefused says that the cluster will not do what was asked, and why.
	ErrRefused = errors.New("refused")
)

const (
	defaultGossipPort = "7951"
	defaultVoters     = 5
)

func (c *Config) complete() error {
	if c.Name == "" || len(c.Name) > 64 || dict.CheckTableName(c.Name) != nil {
		return fmt.Errorf("node name %q: want 1 to 64 of A-Z a-z 0-9 . _ -: %w", c.Name, dict.ErrConfig)
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.LogStore == "" {
		c.LogStore = store.WAL
	}
	if c.Voters == 0 {
		c.Voters = defaultVoters
	}
	if c.DeadAfter == 0 {
		c.DeadAfter = 10 * time.Minute
	}
	if c.CheckEvery == 0 {
		c.CheckEvery = time.Minute
	}
	if c.StableFor == 0 {
		c.StableFor = 5 * time.Second
	}
	if c.CommandLevel == 0 {
		c.CommandLevel = fsm.Level
	}
	if c.Dial == nil {
		c.Dial = (&net.Dialer{Timeout: dialTimeout}).DialContext
	}
	if c.HeartbeatTimeout == 0 {
		c.HeartbeatTimeout = 500 * time.Millisecond
	}
	if c.Voters < 1 || c.BootstrapExpect < 0 || c.MaxStaleness < 0 {
		return fmt.Errorf("voters, bootstrap-expect and max-staleness cannot be negative: %w", dict.ErrConfig)
	}
	return nil
}

// advertised returns the address that others use for something bound to bind with this port.
func (c *Config) advertised(bind string, port int) (string, error) {
	host := c.Advertise
	if host == "" {
		var err error
		if host, _, err = net.SplitHostPort(bind); err != nil {
			return "", fmt.Errorf("address %q: %w: %w", bind, err, dict.ErrConfig)
		}
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		var err error
		if host, err = sockaddr.GetPrivateIP(); err != nil || host == "" {
			return "", fmt.Errorf("no private address on this host to advertise; choose one with --advertise: %w", dict.ErrConfig)
		}
	}
	return net.JoinHostPort(host, strconv.Itoa(port)), nil
}

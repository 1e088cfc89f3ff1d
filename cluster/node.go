package cluster

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/hashicorp/raft"

	"postraft/cluster/store"
	"postraft/cluster/trust"
	"postraft/fsm"
)

// A Node is a running member of a cluster. Its methods may be called from any goroutine.
type Node struct {
	cfg    Config
	id     string
	life   string // random, made by Open
	began  time.Time
	logger *slog.Logger

	identity   *trust.Identity
	keyMu      sync.Mutex // one change of the secrets at a time
	stores     *store.Stores
	fsm        *fsm.FSM
	port       *port
	peers      *peers
	transport  *transport
	raft       *raft.Raft
	raftEnded  chan struct{} // closed when raft has ended
	received   atomic.Uint64 // bytes of snapshots
	gossip     *memberlist.Memberlist
	announcing sync.Mutex          // held by announce
	keyring    *memberlist.Keyring // of the gossip
	writer     *writer
	proposer   *proposer
	census     census
	levels     levels
	events     events
	alarms     alarms
	restores   restores

	transferring transferGuard

	sick        atomic.Bool                         // the disk fails, or hangs
	slow        atomic.Bool                         // the disk is slower than the lease
	diverging   atomic.Bool                         // the tables are known to be wrong
	open        atomic.Bool                         // lookups are answered: this node has caught up once since its disk was new
	stale       atomic.Bool                         // no leader was heard of for longer than MaxStaleness
	staleTables atomic.Pointer[map[string]struct{}] // the same for tables by their own limit; nil: none
	leadFrom    atomic.Pointer[position]            // the first entry that this leader committed in its term; nil before
	leaving     atomic.Bool
	doubting    atomic.Bool // another node that says it is this one is asked

	gossipAddress string
	memberMu      sync.Mutex
	members       map[string]gossipMember // alive ones, by id

	kick          chan struct{} // something happened to the members: for the leader's work
	met           chan struct{} // and for joinLoop
	parting       chan struct{} // there is something in parted
	mu            sync.Mutex
	leaderChanged chan struct{}       // closed when the leader changes; guarded by mu
	parted        map[string]struct{} // nodes to which a connection has ended lately; guarded by mu

	ctx    context.Context // ends with the node
	cancel context.CancelCauseFunc
	tasks  sync.WaitGroup
	close  sync.Once
	done   chan struct{}
	err    error
}

// Open starts a node. It does not wait for a leader, or for the other nodes. ctx bounds the start only.
func Open(ctx context.Context, cfg Config) (*Node, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	n := &Node{
		cfg: cfg, logger: cfg.Logger,
		members: map[string]gossipMember{}, kick: make(chan struct{}, 1), met: make(chan struct{}, 1), parting: make(chan struct{}, 1), parted: map[string]struct{}{}, leaderChanged: make(chan struct{}), done: make(chan struct{}), raftEnded: make(chan struct{}),
	}
	n.life, n.began = rand.Text(), time.Now()
	n.ctx, n.cancel = context.WithCancelCause(context.Background())
	n.fsm = fsm.New(fsm.Options{OnApplied: n.applied, OnFatal: n.fail, OnRestore: n.restored, Yield: new(yielder).yield})
	if err := n.start(); err != nil {
		if errors.Is(err, store.ErrDamaged) || errors.Is(err, fsm.ErrBadSnapshot) {
			err = n.repairAdvice(err)
		}
		n.cancel(ErrClosed)
		n.shutdown()
		return nil, fmt.Errorf("start node %s: %w", cfg.Name, err)
	}
	go func() { // ends with the node; Done tells when
		<-n.ctx.Done()
		n.end(context.Cause(n.ctx))
	}()
	return n, nil
}

func (n *Node) start() error {
	if err := os.MkdirAll(n.cfg.DataDir, 0o700); err != nil {
		return fmt.Errorf("make data directory: %w", err)
	}
	if err := closeToOthers(n.cfg.DataDir); err != nil {
		n.logger.Warn("other users may read what is in the tables", "err", err)
	}
	if err := n.discard(); err != nil {
		return err
	}
	if err := n.checkLeft(); err != nil {
		return err
	}
	hlog := raftLogger(n.logger)
	var err error
	if n.stores, err = store.Open(n.cfg.DataDir, store.Options{Kind: n.cfg.LogStore, FS: n.cfg.LogFS}, hlog, n.logger); err != nil {
		return err
	}
	if n.id, err = serverID(n.cfg.DataDir, n.cfg.Name); err != nil {
		return err
	}
	n.logger = n.logger.With("node", n.cfg.Name)
	if err := n.makeIdentity(); err != nil {
		return err
	}
	if _, err := os.Stat(n.path("ready")); err == nil {
		n.open.Store(true)
	}
	if err := n.replay(); err != nil {
		return err
	}
	n.judgeStaleness(math.MaxInt64)
	if n.port, err = listen(n.cfg.Bind, n.identity, n.logger); err != nil {
		return err
	}
	if n.port.address, err = n.cfg.advertised(n.cfg.Bind, n.port.ln.Addr().(*net.TCPAddr).Port); err != nil {
		return err
	}
	n.port.dialer = n.cfg.Dial
	n.port.handle = n.answer
	n.port.count = n.events.add
	n.peers = newPeers(n.port)
	n.writer = newWriter(n)
	n.proposer = newProposer(n)
	n.port.sessions.onEnd = n.sessionEnded
	n.transport = newTransport(n, hlog)
	if n.raft, err = raft.NewRaft(n.raftConfig(), n.fsm, n.stores.Log.ForRaft(), n.stores.Stable, countedSnapshots{n.stores.Snapshots, &n.received}, n.transport); err != nil {
		return fmt.Errorf("start raft: %w", err)
	}
	n.stores.Log.RunAhead(n.mayRunAhead)
	n.observe()
	n.port.serve()
	if err := n.startGossip(); err != nil {
		return err
	}
	n.tasks.Go(n.writer.run)
	n.tasks.Go(n.proposer.run)
	n.tasks.Go(n.lead)
	n.tasks.Go(n.watchLeader)
	n.tasks.Go(n.joinLoop)
	n.tasks.Go(n.catchUp)
	n.tasks.Go(n.watchDisk)
	n.tasks.Go(n.watchName)
	n.tasks.Go(n.watchCertificate)
	n.tasks.Go(n.watchStaleness)
	if n.cfg.BootstrapExpect > 0 {
		n.tasks.Go(n.bootstrap)
	}
	return nil
}

// closeToOthers takes a data directory away from users who are neither its owner nor of its group: the log in
// it holds all that is in the tables, in files that rely on the directory's mode.
func closeToOthers(dir string) error {
	info, err := os.Stat(dir)
	if err == nil && info.Mode().Perm()&0o007 != 0 {
		err = os.Chmod(dir, info.Mode().Perm()&^0o007)
	}
	if err != nil {
		return fmt.Errorf("keep others out of the data directory: %w", err)
	}
	return nil
}

func (n *Node) raftConfig() *raft.Config {
	c := raft.DefaultConfig()
	c.LocalID = raft.ServerID(n.id)
	c.Logger = raftLogger(n.logger)
	c.HeartbeatTimeout = n.cfg.HeartbeatTimeout
	c.ElectionTimeout = n.cfg.HeartbeatTimeout
	c.LeaderLeaseTimeout = n.cfg.HeartbeatTimeout * 5 / 6
	c.MaxAppendEntries = raftBatch
	c.SnapshotInterval = 30 * time.Second
	c.SnapshotThreshold = 8192
	c.TrailingLogs = 16384 // more than snapshots are apart, so that an older one can stand in for a damaged one
	c.ShutdownOnRemove = false
	c.NoSnapshotRestoreOnStart = true // replay has done it
	c.NoLegacyTelemetry = true
	return c
}

// serverID returns the id of the data directory, made once: a host with a new disk is a new server, so that
// it cannot vote twice under one id.
func serverID(dir, name string) (string, error) {
	if id, err := readID(dir, name); err != nil || id != "" {
		return id, err
	}
	var random [8]byte
	rand.Read(random[:])
	id := name + "/" + hex.EncodeToString(random[:])
	if err := store.WriteFile(filepath.Join(dir, "id"), []byte(id+"\n")); err != nil {
		return "", fmt.Errorf("write node id: %w", err)
	}
	return id, nil
}

// readID returns the id of the data directory, nothing where it has none yet.
func readID(dir, name string) (string, error) {
	path := filepath.Join(dir, "id")
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read node id: %w", err)
	}
	id := strings.TrimSpace(string(b))
	if owner, _, ok := strings.Cut(id, "/"); !ok || owner != name {
		return "", fmt.Errorf("%s says %q, this node is called %q: use its own data directory, or its old name", path, id, name)
	}
	return id, nil
}

// CheckDataDir fails where Open would not take a data directory for the node of this name. It changes nothing.
func CheckDataDir(dir, name string) error {
	_, err := readID(dir, name)
	return err
}

// nameOf returns the node's name in a server id.
func nameOf(id string) string {
	name, _, _ := strings.Cut(id, "/")
	return name
}

func (n *Node) path(file string) string { return filepath.Join(n.cfg.DataDir, file) }

// applied keeps the watermark. It is called when a State was published.
func (n *Node) applied(index uint64) {
	if n.stores == nil {
		return
	}
	if err := n.stores.Watermark.Raise(index); err != nil {
		n.logger.Error("applied index not written", "index", index, "err", err)
	}
}

// fail ends the node for a reason that it cannot mend.
func (n *Node) fail(err error) {
	n.logger.Error("node stops", "err", err)
	n.cancel(err)
}

// observe turns raft's observations of the leader into leaderChanged.
func (n *Node) observe() {
	ch := make(chan raft.Observation, 16)
	n.raft.RegisterObserver(raft.NewObserver(ch, false, func(o *raft.Observation) bool {
		_, ok := o.Data.(raft.LeaderObservation)
		return ok
	}))
	n.tasks.Go(func() {
		for {
			select {
			case <-ch:
				n.mu.Lock()
				close(n.leaderChanged)
				n.leaderChanged = make(chan struct{})
				n.mu.Unlock()
			case <-n.ctx.Done():
				return
			}
		}
	})
}

// await returns what became of a request to raft. When raft ends it answers none of those that it had not come to,
// so this does. The goroutine that waits for such an answer stays behind.
func (n *Node) await(future raft.Future) error {
	answered := make(chan error, 1)
	go func() { answered <- future.Error() }()
	select {
	case err := <-answered:
		return err
	case <-n.raftEnded:
	}
	select {
	case err := <-answered:
		return err
	default:
		return raft.ErrRaftShutdown
	}
}

// leaderWatch returns the leader that is known now, if any, with its address as port.dial takes it, and a
// channel that is closed when it changes.
func (n *Node) leaderWatch() (id, address string, changed <-chan struct{}) {
	n.mu.Lock()
	changed = n.leaderChanged
	n.mu.Unlock()
	addr, sid := n.raft.LeaderWithID()
	address, _, _ = strings.Cut(string(addr), "#")
	return string(sid), address + "#" + string(sid), changed
}

// Done is closed when the node has ended: after Close, after Leave, or because of Err.
func (n *Node) Done() <-chan struct{} { return n.done }

// Err returns why the node ended by itself, nil while it runs and after Close and Leave.
func (n *Node) Err() error {
	select {
	case <-n.done:
		return n.err
	default:
		return nil
	}
}

// end takes the node down, once, and returns when it is down.
func (n *Node) end(cause error) {
	n.close.Do(func() {
		n.cancel(cause)
		n.shutdown()
		if c := context.Cause(n.ctx); !errors.Is(c, ErrClosed) {
			n.err = c
		}
		close(n.done)
	})
}

// Close stops the node and keeps its membership. A leader hands over first. It returns when everything has
// ended, within a few seconds.
func (n *Node) Close(ctx context.Context) error {
	if n.raft != nil && n.ctx.Err() == nil && n.raft.State() == raft.Leader && len(n.voters()) > 1 {
		n.proposer.pause()
		if err := n.transfer(ctx, ""); err != nil {
			n.logger.Warn("leadership not handed over", "err", err)
		}
	}
	n.end(ErrClosed)
	return nil
}

// Kill ends the node, for tests: no leadership is handed over, nobody is told. What it has begun to write it ends.
func (n *Node) Kill() { n.end(ErrClosed) }

// shutdown ends whatever was started, in the opposite order.
func (n *Node) shutdown() {
	if n.gossip != nil {
		if err := n.gossip.Shutdown(); err != nil {
			n.logger.Warn("gossip did not end cleanly", "err", err)
		}
	}
	if n.transport != nil {
		n.transport.Close()
	}
	if n.port != nil {
		n.port.close()
	}
	if n.stores != nil {
		n.stores.Interrupt()
	}
	if n.raft != nil {
		if err := n.raft.Shutdown().Error(); err != nil {
			n.logger.Warn("raft did not end cleanly", "err", err)
		}
	}
	close(n.raftEnded)
	if n.peers != nil {
		n.peers.close()
	}
	n.tasks.Wait()
	if n.stores != nil {
		if err := n.stores.Close(); err != nil {
			n.logger.Warn("stores did not close cleanly", "err", err)
		}
	}
}

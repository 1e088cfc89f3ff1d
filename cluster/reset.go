package cluster

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"postraft/cluster/store"
)

// ErrRestart says that the node ended because a new life of it will do better: open it again.
var ErrRestart = errors.New("node has to start again")

// Marks in the data directory.
const (
	discardMark = "discard" // what the node has is to be discarded at the next start
	rejoinMark  = "rejoin"  // what the node had was discarded: it waits for its cluster and forms no other one
	discarded   = "discarded"
)

// Discard makes the next Open on dir begin without what the node has there: it keeps its name, gets a new
// server id and takes everything from the cluster again. The old files stay in dir/discarded until the node
// has caught up. The agent must not run. Members that the node has known are asked for the cluster; without
// any, it needs Config.Join.
func Discard(dir, reason string) error {
	if _, err := os.Stat(filepath.Join(dir, "id")); errors.Is(err, fs.ErrNotExist) {
		return nil // nothing to discard
	}
	if err := store.WriteFile(filepath.Join(dir, discardMark), []byte(reason+"\n")); err != nil {
		return fmt.Errorf("mark %s to be discarded: %w", dir, err)
	}
	return nil
}

// discard does what Discard has asked for. A crash in the middle leaves the mark, so that the next start
// goes on.
func (n *Node) discard() error {
	mark := n.path(discardMark)
	reason, err := os.ReadFile(mark)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	n.logger.Warn("own data is discarded, to be taken from the cluster again", "reason", strings.TrimSpace(string(reason)), "kept_in", n.path(discarded))
	n.events.add(EventHealed)
	if err := os.RemoveAll(n.path(discarded)); err != nil {
		return fmt.Errorf("make room for discarded data: %w", err)
	}
	if err := os.Mkdir(n.path(discarded), 0o700); err != nil {
		return fmt.Errorf("discard data: %w", err)
	}
	if err := store.WriteFile(n.path(rejoinMark), reason); err != nil {
		return fmt.Errorf("discard data: %w", err)
	}
	for _, file := range []string{leftMark, "ready", "applied", "pledge", "snapshots", "wal", "stable.db", "id"} { // the id last
		if err := os.Rename(n.path(file), filepath.Join(n.path(discarded), file)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("discard data: %w", err)
		}
	}
	if err := os.Remove(mark); err != nil {
		return fmt.Errorf("discard data: %w", err)
	}
	return nil
}

// rejoins reports whether this node waits for the cluster that it was a member of.
func (n *Node) rejoins() bool {
	_, err := os.Stat(n.path(rejoinMark))
	return err == nil
}

// rejoined forgets what was discarded: the node has it all from the cluster.
func (n *Node) rejoined() {
	for _, path := range []string{n.path(discarded), n.path(rejoinMark)} {
		if err := os.RemoveAll(path); err != nil {
			n.logger.Warn("discarded data not removed", "path", path, "err", err)
		}
	}
}

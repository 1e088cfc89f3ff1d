package cluster

import (
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/hashicorp/raft"
)

const (
	// A write that is under way for so many lease times makes a leader silent, so that another one is elected.
	stuckLeases = 4

	// A leader whose writes are slower than its lease hands over, but not more often than this: perhaps all
	// disks are slow. Where handing over has failed it tries again sooner.
	slowPause = 30 * time.Second
	slowAgain = 2 * time.Second
)

// errDisk says that this node cannot write now.
var errDisk = errors.New("disk fails")

// watchDisk keeps a node that cannot write from leading. Raft sends heartbeats whatever the disk does
// (hashicorp/raft issue 503), so a leader whose writes hang would keep the lead and commit nothing.
func (n *Node) watchDisk() {
	lease := n.raftConfig().LeaderLeaseTimeout
	tick := time.NewTicker(lease / 4)
	defer tick.Stop()
	var handedOver time.Time
	for {
		select {
		case <-tick.C:
		case <-n.stores.Disk.Damaged():
			n.fail(n.repairAdvice(n.stores.Disk.Damage()))
			return
		case <-n.ctx.Done():
			return
		}
		h := n.stores.Disk.Health()
		stuck := h.Busy > stuckLeases*lease
		sick := h.Failing != nil || stuck
		if was := n.sick.Swap(sick); sick && !was {
			event := EventDiskFailing
			if h.Failing == nil {
				event = EventDiskStuck
			}
			n.events.add(event)
			n.logger.Error("this node cannot write: it neither leads nor stands for election until it can", "err", h.Failing, "write_under_way", h.Busy.Round(time.Millisecond))
		} else if was && !sick {
			n.logger.Info("this node can write again")
		}
		slow := h.Slowest > lease
		n.slow.Store(slow)
		if !sick && slow && n.raft.State() == raft.Leader && !n.stores.Log.IsAhead() && time.Since(handedOver) > slowPause && n.healthyVoter() {
			handedOver = time.Now()
			n.events.add(EventDiskSlow)
			n.logger.Warn("own disk is slower than the lease: leadership is handed over", "slowest_write", h.Slowest.Round(time.Millisecond), "lease", lease)
			if err := n.transfer(n.ctx, ""); err != nil {
				handedOver = handedOver.Add(slowAgain - slowPause)
				n.logger.Warn("leadership not handed over", "err", err)
			}
		}
	}
}

// diskError returns why this node cannot write, nil if it can.
func (n *Node) diskError() error {
	if !n.sick.Load() {
		return nil
	}
	h := n.stores.Disk.Health()
	switch {
	case errors.Is(h.Failing, syscall.ENOSPC), errors.Is(h.Failing, syscall.EDQUOT):
		return fmt.Errorf("%w on %s: no room in %s since %s: make room, nothing needs a restart", errDisk, n.cfg.Name, n.cfg.DataDir, h.Since.Format(time.TimeOnly))
	case h.Failing != nil:
		return fmt.Errorf("%w on %s since %s: %w", errDisk, n.cfg.Name, h.Since.Format(time.TimeOnly), h.Failing)
	case h.Busy < time.Second:
		return nil // it has just recovered
	default:
		return fmt.Errorf("%w on %s: a write in %s takes %v so far", errDisk, n.cfg.Name, n.cfg.DataDir, h.Busy.Round(100*time.Millisecond))
	}
}

// leaderless returns why a write has found no leader: that this node's own disk fails, where it does.
func (n *Node) leaderless(cause error) error {
	if err := n.diskError(); err != nil {
		return fmt.Errorf("%w: %w: %w", ErrNoLeader, err, cause)
	}
	return fmt.Errorf("%w: %w", ErrNoLeader, cause)
}

// healthyVoter reports whether another voter says that its disk is fine, so that handing over helps.
func (n *Node) healthyVoter() bool {
	for _, id := range n.voters() {
		if s, ok := n.census.of(id); ok && id != n.id && s.fresh() && s.status.Disk == "" {
			return true
		}
	}
	return false
}

// repairAdvice completes an error of damaged files with what to do.
func (n *Node) repairAdvice(err error) error {
	return fmt.Errorf("%w; to discard this node's data and get it from the cluster again, start it once with: postraft agent --reset", err)
}

// mayRunAhead reports whether the log may run ahead of the disk: on a leader that needs another voter to commit, unless its
// disk is so slow that it is to hand over, for which the followers have to catch up. Raft asks as it stores entries, so the
// state is that in which it does so.
func (n *Node) mayRunAhead() bool {
	return n.raft.State() == raft.Leader && !n.slow.Load() && len(n.voters()) > 1
}

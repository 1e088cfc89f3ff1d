package cluster

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/hashicorp/raft"

	"postraft/cluster/store"
)

const replayBatch = 256

// replay brings the state machine to where this node was when it stopped: raft by itself would load the
// last snapshot only and wait for a leader with the rest. Entries up to the watermark were applied before,
// so they are committed; entries behind it may or may not be, and put what they touch in doubt.
func (n *Node) replay() error {
	restored, err := n.restoreNewest()
	if err != nil {
		return err
	}
	first, err := n.stores.Log.FirstIndex()
	if err != nil {
		return fmt.Errorf("read log: %w", err)
	}
	last, err := n.stores.Log.LastIndex()
	if err != nil {
		return fmt.Errorf("read log: %w", err)
	}
	// A snapshot may end with entries that the state machine does not see, and may know more than raft believes.
	applied := max(n.fsm.State().Index, restored)
	if mark := n.stores.Watermark.Index(); mark > max(last, applied) {
		return fmt.Errorf("log in %s is %w: it ends at entry %d, and entry %d was applied before", n.cfg.DataDir, store.ErrDamaged, max(last, applied), mark)
	}
	if last <= applied {
		return nil
	}
	if first > applied+1 {
		return fmt.Errorf("log in %s is %w: it begins at entry %d, the newest readable snapshot ends at %d", n.cfg.DataDir, store.ErrDamaged, first, applied)
	}
	committed := max(applied, min(n.stores.Watermark.Index(), last)) // a snapshot is committed to its end
	if err := n.each(applied+1, committed, func(logs []*raft.Log) error {
		n.fsm.ApplyBatch(logs)
		return n.fsm.Err()
	}); err != nil {
		return err
	}
	var tail []*raft.Log
	if err := n.each(committed+1, last, func(logs []*raft.Log) error {
		tail = append(tail, logs...)
		return nil
	}); err != nil {
		return err
	}
	n.fsm.SetDoubt(tail)
	n.logger.Info("own log replayed", "index", n.fsm.State().Index, "unsettled", len(tail))
	return nil
}

// each calls do for the entries from first to last, in batches.
func (n *Node) each(first, last uint64, do func([]*raft.Log) error) error {
	var batch []*raft.Log
	for index := first; index <= last; index++ {
		log := new(raft.Log)
		if err := n.stores.Log.GetLog(index, log); err != nil {
			return fmt.Errorf("read entry %d of the log in %s: %w", index, n.cfg.DataDir, err)
		}
		if batch = append(batch, log); len(batch) == replayBatch || index == last {
			if err := do(batch); err != nil {
				return err
			}
			batch = nil
		}
	}
	return nil
}

// restoreNewest loads the newest snapshot that is sound and returns its index, 0 if there is none.
func (n *Node) restoreNewest() (uint64, error) {
	snapshots, err := n.stores.Snapshots.List()
	if err != nil {
		return 0, fmt.Errorf("list snapshots: %w", err)
	}
	var damaged error
	for _, meta := range snapshots {
		path := filepath.Join(n.cfg.DataDir, "snapshots", meta.ID)
		_, r, err := n.stores.Snapshots.Open(meta.ID)
		if err == nil {
			err = n.fsm.Restore(r)
		}
		if err == nil {
			return meta.Index, nil
		}
		damaged = fmt.Errorf("snapshot %s is %w: %w", path, store.ErrDamaged, err)
		n.logger.Error("snapshot cannot be used", "path", path, "err", err)
		// Out of the way of raft, which must not send it to others. An older one and the log stand in for it.
		if err := os.Rename(path, path+store.AsideSuffix); err != nil {
			return 0, fmt.Errorf("put damaged snapshot aside: %w", err)
		}
	}
	if len(snapshots) > 0 {
		if first, err := n.stores.Log.FirstIndex(); err != nil || first > 1 {
			return 0, damaged
		}
	}
	return 0, nil
}

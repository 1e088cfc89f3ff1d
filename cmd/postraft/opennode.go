package main

import (
	"context"
	"errors"
	"syscall"
	"time"

	"postraft/cluster"
	"postraft/cluster/store"
	"postraft/cluster/trust"
	"postraft/ops"
)

// A start on a disk that fails is tried again so often, and is spoken of every so many times.
const (
	diskRetry      = 500 * time.Millisecond
	diskRetrySpeak = 120
)

// openNode starts the node. While its disk is full or fails it waits, as a running node does.
func (g *agent) openNode(ctx context.Context) (err error) {
	s := g.settings
	for try := 0; ; try++ {
		g.node, err = cluster.Open(ctx, cluster.Config{
			Name: s.name, DataDir: s.dataDir, Bind: s.bind, Gossip: s.gossip, Advertise: s.advertise,
			Join: s.join, BootstrapExpect: s.bootstrapExpect, Nonvoter: s.nonvoter, Voters: s.voters,
			SecretFile: s.secretFile, Certificates: trust.Files{Cert: s.tlsCert, Key: s.tlsKey, CA: s.tlsCA},
			LogStore: s.logStore, MaxStaleness: s.maxStaleness, HeartbeatTimeout: s.heartbeat,
			DeadAfter: s.deadAfter, CheckEvery: s.checkEvery,
			Version: version, Logger: g.log,
		})
		switch {
		case err == nil:
			return nil
		case errors.Is(err, syscall.EADDRINUSE):
			return configError("%v", err).Advise("is another agent running here? postraft status tells; else choose other ports with --bind and --gossip")
		case !diskFails(err):
			return configError("%v", err)
		case try%diskRetrySpeak == 0:
			g.log.Error("disk fails: the start waits until it works", "err", err)
		}
		select {
		case <-time.After(diskRetry):
		case <-ctx.Done():
			return ops.Errorf(ops.Retry, "start given up: %v", err)
		}
	}
}

// diskFails reports whether a start may work when the disk does, or has room, again.
func diskFails(err error) bool {
	if errors.Is(err, store.ErrDamaged) {
		return false
	}
	return errors.Is(err, syscall.EIO) || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

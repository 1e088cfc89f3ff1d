package cluster

import (
	"io"
	"sync/atomic"

	"github.com/hashicorp/raft"
)

// countedSnapshots counts the bytes that go into snapshots: a node that is sent one grows no log meanwhile, and
// is not stuck. Others may run as one is written or read.
type countedSnapshots struct {
	raft.SnapshotStore
	bytes *atomic.Uint64
}

// Create implements raft.SnapshotStore.
func (s countedSnapshots) Create(version raft.SnapshotVersion, index, term uint64, configuration raft.Configuration, configurationIndex uint64, trans raft.Transport) (raft.SnapshotSink, error) {
	sink, err := s.SnapshotStore.Create(version, index, term, configuration, configurationIndex, trans)
	if err != nil {
		return nil, err
	}
	return &countedSink{SnapshotSink: sink, bytes: s.bytes}, nil
}

// Open implements raft.SnapshotStore.
func (s countedSnapshots) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	meta, r, err := s.SnapshotStore.Open(id)
	if err != nil {
		return nil, nil, err
	}
	return meta, &yieldingReader{ReadCloser: r}, nil
}

type countedSink struct {
	raft.SnapshotSink
	bytes *atomic.Uint64
	yielder
}

// Write implements io.Writer.
func (s *countedSink) Write(b []byte) (int, error) {
	n, err := s.SnapshotSink.Write(b)
	s.bytes.Add(uint64(n))
	s.yield()
	return n, err
}

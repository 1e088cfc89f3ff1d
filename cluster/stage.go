package cluster

import (
	"context"
	"crypto/rand"
	"errors"
	"time"

	"postraft/dict"
	"postraft/fsm"
	"postraft/fsm/packed"
)

// chunkBytes is how much of a staged load goes into one log entry, or one block that is larger. An entry of more than 256 KiB
// would be copied as it grows where a follower takes it in.
const chunkBytes = 248 << 10

// A load is a table to be put in place.
type load struct {
	name, typ string
	table     *packed.Table
	settings  dict.Settings // none: those that the table has
}

// stage sends tables aside in chunks and puts all of them in place with one entry, as commit says; with its Delta the
// second one, if there is one, holds what goes. When ctx ends first, or anything fails, the tables stay as they were.
// It takes loads over, and lets go of each block that is on its way, so that a large table is not held twice.
func (n *Node) stage(ctx context.Context, loads []load, way fsm.Way, commit fsm.StageCommit) (fsm.Result, error) {
	var ids []fsm.ID
	for i := range loads {
		l := loads[i]
		blocks := l.table.Drain()
		l.table, loads[i].table = nil, nil
		s := n.newStager(ctx, l)
		ids = append(ids, s.id)
		for b := range blocks {
			if s.add(b) != nil {
				break // end says why
			}
		}
		if err := s.end(); err != nil {
			n.abort(ids)
			return fsm.Result{}, err
		}
	}
	commit.IDs = ids
	if commit.Delta != nil && len(ids) == 2 {
		commit.IDs, commit.Delta.Gone = ids[:1], ids[1]
	}
	name := ""
	if len(loads) > 0 {
		name = loads[0].name
	}
	return n.commitStages(ctx, name, ids, way, commit)
}

// commitStages puts stages in place, which are named ids with those that commit names in its Delta.
func (n *Node) commitStages(ctx context.Context, name string, ids []fsm.ID, way fsm.Way, commit fsm.StageCommit) (fsm.Result, error) {
	r, err := n.apply(ctx, &fsm.Command{Origin: fsm.Origin{Way: way}, Commit: &commit})
	if err == nil {
		err = n.statusError(name, r)
	}
	if err != nil && !errors.Is(err, dict.ErrUnknownOutcome) {
		n.abort(ids)
	}
	return r, err
}

// abort ends stages whose load has failed. Where it fails too, the leader ends them after a while.
func (n *Node) abort(ids []fsm.ID) {
	ctx, cancel := context.WithTimeout(n.ctx, 2*time.Second)
	defer cancel()
	for _, id := range ids {
		if _, err := n.apply(ctx, &fsm.Command{Abort: &fsm.StageAbort{ID: id}}); err != nil {
			n.logger.Debug("load not ended", "err", err)
			return
		}
	}
}

// A stager sends one table aside: a goroutine has one chunk after the other applied while the next ones are made. After an
// error, or when it is not to be committed, the stage remains to be aborted.
type stager struct {
	n   *Node
	ctx context.Context
	id  fsm.ID

	chunk  *fsm.StageChunk // the one that is being filled
	buf    []byte          // its blocks
	chunks chan *fsm.StageChunk
	ended  chan struct{} // closed when err is set and nothing is sent any more
	err    error
}

// newStager begins a stage for l, whose table it does not look at. end must be called.
func (n *Node) newStager(ctx context.Context, l load) *stager {
	s := &stager{n: n, ctx: ctx, chunks: make(chan *fsm.StageChunk), ended: make(chan struct{})}
	rand.Read(s.id[:])
	s.chunk = &fsm.StageChunk{ID: s.id, Number: 1}
	go func() { // end awaits it
		defer close(s.ended)
		s.err = s.send(l)
	}()
	return s
}

func (s *stager) send(l load) error {
	command := &fsm.Command{Begin: &fsm.StageBegin{ID: s.id, Table: l.name, Type: l.typ, Settings: l.settings}}
	for {
		r, err := s.n.apply(s.ctx, command)
		if err == nil {
			err = s.n.statusError(l.name, r)
		}
		if err != nil {
			return err
		}
		chunk, more := <-s.chunks
		if !more {
			return nil
		}
		command = &fsm.Command{Chunk: chunk}
	}
}

// add adds a copy of a block. It waits while a chunk that is full has to wait for the one before.
func (s *stager) add(block []byte) error {
	if len(s.buf) > 0 && len(s.buf)+len(block) > chunkBytes {
		if err := s.flush(); err != nil {
			return err
		}
	}
	if s.buf == nil {
		s.buf = make([]byte, 0, max(chunkBytes, len(block)))
	}
	from := len(s.buf)
	s.buf = append(s.buf, block...)
	s.chunk.Blocks = append(s.chunk.Blocks, s.buf[from:])
	return nil
}

func (s *stager) flush() error {
	select {
	case s.chunks <- s.chunk:
	case <-s.ended:
		return s.err
	}
	s.chunk, s.buf = &fsm.StageChunk{ID: s.id, Number: s.chunk.Number + 1}, nil
	return nil
}

// end sends what is left and returns when everything was applied, or why it was not.
func (s *stager) end() error {
	if len(s.buf) > 0 {
		s.flush() // its error is s.err
	}
	close(s.chunks)
	<-s.ended
	return s.err
}

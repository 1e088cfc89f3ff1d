package cluster

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

const reachEvery = 50 * time.Millisecond

// A Reached is how far a member is on its way to an index.
type Reached struct {
	Name, ID     string
	Alive        string // Alive or Failed; one that has failed is not asked
	AppliedIndex uint64 // 0 when the member has not answered
	Reached      bool   // its tables show the entry, and all before it
	Err          error  // why it has not answered
}

// reachQuestion and reachAnswer are the payloads of askReach.
type reachQuestion struct {
	Index uint64 `json:"index"`
}

type reachAnswer struct {
	AppliedIndex uint64 `json:"applied_index"`
	Reached      bool   `json:"reached"`
}

// Reach waits until this node shows the entry of an index in its tables, or with all every member that is alive
// does, and returns how far each is. It does not fail: when ctx ends first, what it returns says who lags.
func (n *Node) Reach(ctx context.Context, index uint64, all bool) []Reached {
	for {
		list := n.reached(ctx, index, all)
		done := !slices.ContainsFunc(list, func(r Reached) bool { return r.Alive == Alive && !r.Reached })
		if done {
			return list
		}
		select {
		case <-time.After(reachEvery):
		case <-ctx.Done():
			return list
		case <-n.ctx.Done():
			return list
		}
	}
}

// reached asks once.
func (n *Node) reached(ctx context.Context, index uint64, all bool) []Reached {
	own := n.reachHere(index)
	list := []Reached{{Name: n.cfg.Name, ID: n.id, Alive: Alive, AppliedIndex: own.AppliedIndex, Reached: own.Reached}}
	if !all {
		return list
	}
	alive := n.alive()
	var mu sync.Mutex
	var asking sync.WaitGroup
	add := func(r Reached) {
		mu.Lock()
		defer mu.Unlock()
		list = append(list, r)
	}
	for _, s := range n.raft.GetConfiguration().Configuration().Servers {
		if _, there := alive[string(s.ID)]; !there && string(s.ID) != n.id {
			add(Reached{Name: nameOf(string(s.ID)), ID: string(s.ID), Alive: Failed})
		}
	}
	slots := make(chan struct{}, censusAsks)
	for id, m := range alive {
		if id == n.id {
			continue
		}
		slots <- struct{}{}
		asking.Go(func() {
			defer func() { <-slots }()
			r := Reached{Name: nameOf(id), ID: id, Alive: Alive}
			a, err := n.askReach(ctx, id, m.meta.Address, index)
			r.AppliedIndex, r.Reached, r.Err = a.AppliedIndex, a.Reached, err
			add(r)
		})
	}
	asking.Wait()
	slices.SortFunc(list, func(a, b Reached) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID)) })
	return list
}

func (n *Node) askReach(ctx context.Context, id, address string, index uint64) (a reachAnswer, err error) {
	asked, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	err = n.peers.askJSON(asked, address+"#"+id, askReach, reachQuestion{index}, &a)
	if errors.Is(err, ErrRefused) { // of a version that does not know the question
		var s peerStatus
		if s, err = n.statusOf(ctx, id, address); err == nil {
			a = reachAnswer{s.AppliedIndex, s.AppliedIndex >= index}
		}
	}
	return a, err
}

func (n *Node) reachAsked(payload []byte) ([]byte, error) {
	var q reachQuestion
	if err := json.Unmarshal(payload, &q); err != nil {
		return nil, errors.Join(ErrRefused, err)
	}
	return json.Marshal(n.reachHere(q.Index))
}

// reachHere tells whether the tables show all up to index. Raft's own entries change no tables, and the state
// machine does not hear of them.
func (n *Node) reachHere(index uint64) reachAnswer {
	shown := n.fsm.State().Index
	a := reachAnswer{AppliedIndex: shown, Reached: shown >= index}
	if a.Reached || n.raft.AppliedIndex() < index {
		return a
	}
	for at := index; at > shown; at-- {
		logs, err := n.logRange(at, at)
		if err != nil || logs[0].Type == raft.LogCommand || logs[0].Type == raft.LogConfiguration {
			return a
		}
	}
	return reachAnswer{AppliedIndex: index, Reached: true}
}

// TablesIndex returns the index of the newest entry that the tables show: all that was answered here before the
// call is in them, and on whichever node has come so far.
func (n *Node) TablesIndex() uint64 { return n.fsm.State().Index }

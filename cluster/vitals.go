package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"postraft/cluster/trust"
)

// strangerMemory is how long a connection that was refused is spoken of in the warnings.
const strangerMemory = 5 * time.Minute

// Vitals are what a node measures of itself.
type Vitals struct {
	Role         string        // RoleVoter, RoleNonvoter; empty while the node is no server of a cluster
	TablesIndex  uint64        // of the newest entry that the tables show
	Behind       uint64        // entries that this node knows to be committed and that the tables do not show
	Staleness    time.Duration // since a leader was heard of, or since the start if none ever was; 0 on the leader
	VotersWanted int           // how many the cluster keeps, if it has so many members that may vote
	Alive        []string      // names of servers that gossip calls alive
	Failed       []string      // names of those that it does not
	GossipHealth int           // memberlist's score of this node: 0 is well, 8 the worst
	Alarms       int           // what this leader has against servers
	Disk         error         // why this node cannot write, nil if it can
	DiskBusy     time.Duration // how long the oldest write under way has taken so far
	DiskSlowest  time.Duration // the slowest write of the last ten seconds
	Certificate  time.Time     // when the operator's certificate ends; zero without one
}

func (n *Node) vitals() Vitals {
	health := n.stores.Disk.Health()
	v := Vitals{
		TablesIndex: n.fsm.State().Index, VotersWanted: n.cfg.Voters, GossipHealth: n.gossip.GetHealthScore(), Alarms: len(n.alarms.all()),
		Disk: n.diskError(), DiskBusy: health.Busy, DiskSlowest: health.Slowest, Certificate: n.identity.CertificateEnd(),
	}
	if commit := n.raft.CommitIndex(); commit > v.TablesIndex {
		v.Behind = commit - v.TablesIndex
	}
	if n.raft.State() != raft.Leader {
		v.Staleness = time.Since(n.began)
		if last := n.raft.LastContact(); !last.IsZero() {
			v.Staleness = time.Since(last)
		}
	}
	alive, mayVote := n.alive(), 0
	for _, s := range n.raft.GetConfiguration().Configuration().Servers {
		id := string(s.ID)
		if id == n.id {
			v.Role = RoleNonvoter
			if s.Suffrage == raft.Voter {
				v.Role = RoleVoter
			}
		}
		m, there := alive[id]
		if there || id == n.id {
			v.Alive = append(v.Alive, nameOf(id))
		} else {
			v.Failed = append(v.Failed, nameOf(id))
		}
		if s.Suffrage == raft.Voter || there && !m.meta.Nonvoter {
			mayVote++
		}
	}
	v.VotersWanted = min(v.VotersWanted, mayVote)
	slices.Sort(v.Alive)
	slices.Sort(v.Failed)
	return v
}

// warnings says what of the vitals somebody should know.
func (v *Vitals) warnings(voters int) []string {
	var list []string
	if len(v.Failed) > 0 {
		list = append(list, fmt.Sprintf("members that do not answer: %s", strings.Join(v.Failed, ", ")))
	}
	switch {
	case voters < v.VotersWanted:
		list = append(list, fmt.Sprintf("%d voters, %d are wanted: the cluster waits for a member that stands by to do well", voters, v.VotersWanted))
	case voters == 2:
		list = append(list, "2 voters: no change is possible while one of them is away; a third member would help")
	case voters > 0 && voters%2 == 0:
		list = append(list, fmt.Sprintf("%d voters: no more of them may be away than with %d; one more member, or --voters %d, would be better", voters, voters-1, voters-1))
	}
	if v.Behind > caughtUp {
		list = append(list, fmt.Sprintf("this node is %d entries behind", v.Behind))
	}
	return list
}

// strangers remember the last one that was refused.
type strangers struct {
	mu   sync.Mutex
	from string
	last time.Time
}

func (s *strangers) note(from string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.from, s.last = from, time.Now()
}

// isStranger reports whether a handshake failed because one end did not believe the other, and not because the
// connection broke off: whoever looks whether the port is open opens it and closes it.
func isStranger(err error) bool {
	var op *net.OpError
	broken := errors.Is(err, io.EOF) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) ||
		errors.As(err, &op) && (op.Op == "read" || op.Op == "write")
	return errors.Is(err, trust.ErrStranger) && !broken
}

// strangersWarning says that somebody without the secret has lately tried to be a node.
func (p *port) strangersWarning() []string {
	p.strangers.mu.Lock()
	defer p.strangers.mu.Unlock()
	if s := &p.strangers; !s.last.IsZero() && time.Since(s.last) < strangerMemory {
		return []string{fmt.Sprintf("a connection from %s was refused at %s: the other end does not have this cluster's secret, or its certificate is of no use here", s.from, s.last.Format(time.TimeOnly))}
	}
	return nil
}

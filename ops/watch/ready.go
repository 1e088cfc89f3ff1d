package watch

import (
	"fmt"
	"time"

	"postraft/ops"
)

// tooFarBehind is how many entries the tables may lack before a node does not count as ready.
const tooFarBehind = 1000

// notReady returns why a node does not do all that a node does, in words for a person; nothing when it does.
func notReady(s ops.Status, v *Vitals) []string {
	var reasons []string
	if !s.Ready {
		reasons = append(reasons, "lookups are not answered: "+s.NotReady)
	}
	if s.Leader == "" {
		since := time.Duration(s.LastContactMS) * time.Millisecond
		reasons = append(reasons, fmt.Sprintf("no leader, for %v: lookups go on, changes wait", since.Round(time.Second)))
	}
	if s.Behind > tooFarBehind {
		reasons = append(reasons, fmt.Sprintf("behind by %d entries", s.Behind))
	}
	if v.DiskFailing {
		reasons = append(reasons, "disk failing: this node cannot write")
	}
	return reasons
}

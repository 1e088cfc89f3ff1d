package chaos

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"time"
)

// A rule says what becomes of the packets on one directed link.
type rule struct {
	cut    bool
	loss   float64       // part of the packets that are lost
	delay  time.Duration // of each packet
	jitter time.Duration // at most so much more; packets overtake each other
	rate   int           // bytes a second; 0 is without limit
}

const (
	mtu       = 1500
	longQueue = time.Second // packets that would wait longer behind others are lost
)

// A network switches packets between the nodes.
type network struct {
	taps  []*os.File
	loops sync.WaitGroup

	mu    sync.Mutex
	rules [][]rule      // by sender, by receiver
	free  [][]time.Time // when the link has sent what was given to it
}

func nodeIP(i int) net.IP { return net.IPv4(10, 77, 0, byte(i+1)) }

// newNetwork makes a device in each keeper's namespace and switches between them.
func newNetwork(keepers []*keeper) (*network, error) {
	n := &network{}
	for i, k := range keepers {
		err := k.do(func() error {
			tap, err := openTun(nodeIP(i))
			n.taps = append(n.taps, tap)
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("network of node %d: %w", i+1, err)
		}
		n.rules = append(n.rules, make([]rule, len(keepers)))
		n.free = append(n.free, make([]time.Time, len(keepers)))
	}
	for i := range n.taps {
		n.loops.Go(func() { n.forward(i) })
	}
	return n, nil
}

func (n *network) close() {
	for _, tap := range n.taps {
		tap.Close()
	}
	n.loops.Wait()
}

// forward sends on what a node sends.
func (n *network) forward(from int) {
	buf := make([]byte, 64<<10)
	for {
		size, err := n.taps[from].Read(buf)
		if errors.Is(err, os.ErrClosed) {
			return
		}
		packet := buf[:size]
		if err != nil || size < 20 || packet[0]>>4 != 4 {
			continue
		}
		to := int(packet[19]) - 1
		if to < 0 || to >= len(n.taps) || to == from || !nodeIP(to).Equal(net.IP(packet[16:20])) {
			continue
		}
		wait, lost := n.fate(from, to, size)
		switch {
		case lost:
		case wait <= 0:
			n.taps[to].Write(packet) // what does not fit is lost, as on any network
		default:
			late := append([]byte(nil), packet...)
			time.AfterFunc(wait, func() { n.taps[to].Write(late) })
		}
	}
}

func (n *network) fate(from, to, size int) (wait time.Duration, lost bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	r := &n.rules[from][to]
	if r.cut || r.loss > 0 && rand.Float64() < r.loss {
		return 0, true
	}
	wait = r.delay
	if r.jitter > 0 {
		wait += rand.N(r.jitter)
	}
	if r.rate > 0 {
		now := time.Now()
		free := n.free[from][to]
		if free.Before(now) {
			free = now
		}
		if free.Sub(now) > longQueue {
			return 0, true
		}
		free = free.Add(time.Duration(size) * time.Second / time.Duration(r.rate))
		n.free[from][to] = free
		wait += free.Sub(now)
	}
	return wait, false
}

// change changes the rule of each link that choose wants.
func (n *network) change(choose func(from, to int) bool, edit func(*rule)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for from := range n.rules {
		for to := range n.rules[from] {
			if from != to && choose(from, to) {
				edit(&n.rules[from][to])
			}
		}
	}
}

// heal ends all rules.
func (n *network) heal() {
	n.change(func(int, int) bool { return true }, func(r *rule) { *r = rule{} })
}

package chaos

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"postraft/ops"
)

// A node is one agent with its disk, network and clock.
type node struct {
	name   string
	number int // from 0
	dir    string
	binary string
	args   []string
	keeper *keeper
	disk   *disk // nil: a plain directory
	clock  clock
	log    *os.File

	mu      sync.Mutex
	process *process
	frozen  bool     // by SIGSTOP
	expects bool     // the process is to end, or may
	away    []outage // when the node need not answer
}

// A process is one life of the agent.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
	err  error         // how, when done is closed
}

// An outage is a time in which a node need not answer; it lasts while until is zero.
type outage struct{ from, until time.Time }

func (n *node) runDir() string  { return filepath.Join(n.dir, "run") }
func (n *node) dataDir() string { return filepath.Join(n.dir, "data") }

func (n *node) socket(service string) string { return filepath.Join(n.runDir(), service) }

// admin returns a client of the agent's operator API.
func (n *node) admin(timeout time.Duration) *ops.Client {
	return ops.NewClient(n.socket("admin.sock"), timeout)
}

// start starts the agent unless it runs.
func (n *node) start() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.process != nil {
		return nil
	}
	p := &process{cmd: exec.Command(n.binary, n.args...), done: make(chan struct{})}
	p.cmd.Stderr = n.log
	p.cmd.Env = append(os.Environ(), clockVariable+"="+n.clock.path, "GOTRACEBACK=all", "GORACE=halt_on_error=1")
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := n.keeper.do(p.cmd.Start); err != nil {
		return fmt.Errorf("start %s: %w", n.name, err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	n.process, n.frozen, n.expects = p, false, false
	n.presentLocked()
	return nil
}

// awayLocked begins an outage, presentLocked ends it. What was asked just before the end may still be late.
func (n *node) awayLocked() {
	if k := len(n.away); k == 0 || !n.away[k-1].until.IsZero() {
		n.away = append(n.away, outage{from: time.Now()})
	}
}

func (n *node) presentLocked() {
	if k := len(n.away); k > 0 && n.away[k-1].until.IsZero() {
		n.away[k-1].until = time.Now().Add(500 * time.Millisecond)
	}
	if len(n.away) > 64 {
		n.away = n.away[32:]
	}
}

// excused reports whether the node need not have answered at some time between these two.
func (n *node) excused(from, until time.Time) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, o := range n.away {
		if o.from.Before(until) && (o.until.IsZero() || o.until.After(from)) {
			return true
		}
	}
	return false
}

// running returns the process, nil when there is none.
func (n *node) running() *process {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.process
}

// end sends a signal and waits for the end of the process.
func (n *node) end(s syscall.Signal, patience time.Duration) error {
	n.mu.Lock()
	p := n.process
	n.expects = true
	n.awayLocked()
	n.mu.Unlock()
	if p == nil {
		return nil
	}
	err := p.cmd.Process.Signal(s)
	if err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("signal %v to %s: %w", s, n.name, err)
	}
	return n.ended(patience)
}

// ended waits for the end of a process that is about to end.
func (n *node) ended(patience time.Duration) error {
	n.mu.Lock()
	p := n.process
	n.expects = true
	n.mu.Unlock()
	if p == nil {
		return nil
	}
	select {
	case <-p.done:
	case <-time.After(patience):
		return fmt.Errorf("%s still runs after %v", n.name, patience)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.process, n.frozen = nil, false
	n.awayLocked()
	return nil
}

// kill ends the process at once. What its disk withholds from it is given first: a process in the middle of a
// file operation cannot die.
func (n *node) kill() error {
	if n.disk != nil {
		n.disk.ail(ailments{})
	}
	return n.end(syscall.SIGKILL, 20*time.Second)
}

// freeze stops the process, thaw lets it go on.
func (n *node) freeze() error { return n.hold(syscall.SIGSTOP, true) }
func (n *node) thaw() error   { return n.hold(syscall.SIGCONT, false) }

func (n *node) hold(s syscall.Signal, frozen bool) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.process == nil || n.frozen == frozen {
		return nil
	}
	if frozen {
		n.awayLocked()
	} else {
		n.presentLocked()
	}
	n.frozen = frozen
	return n.process.cmd.Process.Signal(s)
}

// died reports how a process ended that nobody ended.
func (n *node) died() (how string, died bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.process == nil || n.expects {
		return "", false
	}
	select {
	case <-n.process.done:
		return fmt.Sprint(n.process.err), true
	default:
		return "", false
	}
}

// wipe empties the disk; the process must have ended.
func (n *node) wipe() error {
	if n.disk != nil {
		return n.disk.wipe()
	}
	return errors.Join(os.RemoveAll(n.dataDir()), os.MkdirAll(n.dataDir(), 0o700))
}

func (n *node) close() error {
	err := n.kill()
	if n.disk != nil {
		err = errors.Join(err, n.disk.unmount())
	}
	n.keeper.close()
	return errors.Join(err, n.log.Close())
}

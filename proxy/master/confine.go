package master

import (
	"fmt"
	"os"
	"os/user"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// An Account is a user to become. It is looked up before the root directory changes.
type Account struct {
	UID, GID int
	Groups   []int
}

// LookupAccount finds a user by name.
func LookupAccount(name string) (Account, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return Account{}, fmt.Errorf("look up user %s: %w", name, err)
	}
	groups, err := u.GroupIds()
	if err != nil {
		return Account{}, fmt.Errorf("look up groups of user %s: %w", name, err)
	}
	var a Account
	ids := append([]string{u.Uid, u.Gid}, groups...)
	numbers := make([]int, len(ids))
	for i, id := range ids {
		if numbers[i], err = strconv.Atoi(id); err != nil {
			return Account{}, fmt.Errorf("look up user %s: bad id %q", name, id)
		}
	}
	a.UID, a.GID, a.Groups = numbers[0], numbers[1], numbers[2:]
	return a, nil
}

// Confine changes the groups of the whole process, then its root directory, then its user, in Postfix's
// order. A nil account keeps the user; an empty root keeps the root directory.
func Confine(account *Account, root string) error {
	if account != nil {
		if err := syscall.Setgroups(account.Groups); err != nil {
			return fmt.Errorf("set groups %v: %w", account.Groups, err)
		}
		if err := syscall.Setgid(account.GID); err != nil {
			return fmt.Errorf("set group %d: %w", account.GID, err)
		}
	}
	if root != "" {
		if err := syscall.Chroot(root); err != nil {
			return fmt.Errorf("change root to %s: %w", root, err)
		}
		if err := syscall.Chdir("/"); err != nil {
			return fmt.Errorf("change directory to the new root: %w", err)
		}
	}
	if account != nil {
		if err := syscall.Setuid(account.UID); err != nil {
			return fmt.Errorf("set user %d: %w", account.UID, err)
		}
	}
	return nil
}

// An Outside is a thread whose root and working directory stay what they were when it was made. Sockets
// outside a chroot, the agent's and syslog's, are reached through it.
//
// What runs there must do its system calls on the calling goroutine and start no others.
type Outside struct {
	calls chan func()
	done  chan struct{}
}

// NewOutside starts the thread. Call it before Confine.
func NewOutside() (*Outside, error) {
	o := &Outside{calls: make(chan func()), done: make(chan struct{})}
	started := make(chan error)
	go o.run(started)
	if err := <-started; err != nil {
		return nil, fmt.Errorf("keep a thread outside the chroot: %w", err)
	}
	return o, nil
}

func (o *Outside) run(started chan<- error) {
	runtime.LockOSThread()
	if unix.Gettid() == os.Getpid() {
		// The main thread's root is what /proc shows of the process: leave it to Confine. While it is
		// held here, the next attempt gets another one.
		again := make(chan error)
		go o.run(again)
		started <- <-again
		runtime.UnlockOSThread()
		return
	}
	// The thread is never unlocked, so it ends with this goroutine and runs nothing else.
	defer close(o.done)
	err := unix.Unshare(unix.CLONE_FS)
	started <- err
	if err != nil {
		return
	}
	for call := range o.calls {
		call()
	}
}

// Do runs call outside and waits for it.
func (o *Outside) Do(call func()) {
	finished := make(chan struct{})
	o.calls <- func() {
		defer close(finished)
		call()
	}
	<-finished
}

// Close ends the thread. No Do may run or follow.
func (o *Outside) Close() {
	close(o.calls)
	<-o.done
}

package master

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// The descriptors that master leaves to a process.
const (
	flowReadFD    = 3
	flowWriteFD   = 4
	statusFD      = 5
	firstListenFD = 6
)

// ErrByHand says that the process was not started by master.
var ErrByHand = errors.New("do not run this command by hand: it belongs in master.cf")

// An Inheritance is what master left on the descriptors. Its owner closes it.
type Inheritance struct {
	Status    *Status
	Listeners []*Listener
}

// Inherit takes over the inherited descriptors and keeps them from programs that this process starts. It
// must be called once, before anything else opens files.
func Inherit(env Environment, opts Options) (*Inheritance, error) {
	if !env.Managed {
		return nil, ErrByHand
	}
	// Without these two the numbers may belong to the Go runtime: touch nothing.
	if typ, err := unix.GetsockoptInt(statusFD, unix.SOL_SOCKET, unix.SO_TYPE); err != nil || typ != unix.SOCK_STREAM {
		return nil, ErrByHand
	}
	for fd := firstListenFD; fd < firstListenFD+opts.Sockets; fd++ {
		if listening, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN); err != nil || listening != 1 {
			return nil, fmt.Errorf("take over descriptor %d: not a listening socket: %w", fd, ErrByHand)
		}
	}
	for _, fd := range []int{flowReadFD, flowWriteFD} {
		if err := unix.Close(fd); err != nil && err != unix.EBADF {
			return nil, fmt.Errorf("close descriptor %d: %w", fd, err)
		}
	}
	status, err := adopt(statusFD, "master status")
	if err != nil {
		return nil, err
	}
	in := &Inheritance{}
	for fd := firstListenFD; fd < firstListenFD+opts.Sockets; fd++ {
		file, err := adopt(fd, "listening socket")
		if err != nil {
			return nil, err
		}
		in.Listeners = append(in.Listeners, &Listener{file})
	}
	in.Status = newStatus(status, os.Getpid(), env.Generation)
	return in, nil
}

// adopt makes an inherited descriptor close-on-exec and non-blocking, so that the runtime polls it.
func adopt(fd int, name string) (*os.File, error) {
	unix.CloseOnExec(fd)
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, fmt.Errorf("take over descriptor %d (%s): %w", fd, name, err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

// Close closes the listening sockets, which live on in master, and the status socket.
func (in *Inheritance) Close() error {
	var errs []error
	for _, l := range in.Listeners {
		errs = append(errs, l.Close())
	}
	return errors.Join(append(errs, in.Status.Close())...)
}

// A Listener accepts connections on a socket that master made. The connections are bare descriptors, in
// non-blocking mode and unknown to the runtime's poller, because most of them go to another process.
type Listener struct{ file *os.File }

// Accept waits for a connection. It returns io.EOF once the listener is closed. Other errors concern this
// one attempt; the caller should pause before it tries again, since some (too many open files) last.
func (l *Listener) Accept() (fd int, err error) {
	raw, err := l.file.SyscallConn()
	if err != nil {
		return -1, io.EOF
	}
	var failed error
	err = raw.Read(func(listening uintptr) bool {
		for {
			fd, _, failed = unix.Accept4(int(listening), unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
			switch failed {
			case unix.EINTR, unix.ECONNABORTED:
			case unix.EAGAIN: // nothing yet, or another process was faster
				return false
			default:
				return true
			}
		}
	})
	if err != nil {
		return -1, io.EOF
	}
	if failed != nil {
		return -1, fmt.Errorf("accept connection: %w", failed)
	}
	return fd, nil
}

// Close ends the accepting of this process. The socket itself stays with master.
func (l *Listener) Close() error { return l.file.Close() }

package chaos

import (
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// A keeper is an OS thread in a network and mount namespace of its own. Processes that it starts live there;
// mounts that it makes are gone when the test's process is.
type keeper struct {
	calls chan func()
	done  chan struct{}
}

// newKeeper starts a keeper; isolated puts it into its namespaces.
func newKeeper(isolated bool) (*keeper, error) {
	k := &keeper{calls: make(chan func()), done: make(chan struct{})}
	ready := make(chan error, 1)
	go func() {
		defer close(k.done)
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		err := error(nil)
		if isolated {
			err = isolate()
		}
		ready <- err
		if err != nil {
			return
		}
		for call := range k.calls {
			call()
		}
	}()
	return k, <-ready
}

func isolate() error {
	if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS | unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("unshare namespaces: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	return nil
}

// do runs f on the thread.
func (k *keeper) do(f func() error) error {
	errs := make(chan error, 1)
	k.calls <- func() { errs <- f() }
	return <-errs
}

// close ends the thread, and with it processes that ask for that.
func (k *keeper) close() {
	close(k.calls)
	<-k.done
}

// openTun makes the device through which the calling thread's namespace reaches others, with this address.
func openTun(address net.IP) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open /dev/net/tun: %w", err)
	}
	const device = "tun0"
	ifr, err := unix.NewIfreq(device)
	if err == nil {
		ifr.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr)
	}
	if err == nil {
		err = errors.Join(up("lo", nil), up(device, address))
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("set up %s: %w", device, err)
	}
	return os.NewFile(uintptr(fd), device), nil
}

// up gives a device an address, unless that is nil, and switches it on.
func up(device string, address net.IP) error {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	if address != nil {
		for _, set := range []struct {
			request uint
			to      net.IP
		}{{unix.SIOCSIFADDR, address}, {unix.SIOCSIFNETMASK, net.IPv4(255, 255, 255, 0)}} {
			ifr, err := unix.NewIfreq(device)
			if err != nil {
				return err
			}
			if err := ifr.SetInet4Addr(set.to.To4()); err != nil {
				return err
			}
			if err := unix.IoctlIfreq(s, set.request, ifr); err != nil {
				return err
			}
		}
	}
	ifr, err := unix.NewIfreq(device)
	if err != nil {
		return err
	}
	ifr.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(s, unix.SIOCSIFFLAGS, ifr)
}

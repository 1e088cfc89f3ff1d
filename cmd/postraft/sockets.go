package main

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/user"
	"strconv"
	"syscall"
	"time"

	"postraft/dict"
	"postraft/ops"
	"postraft/proxy"
)

// fallbackVersion is the Postfix whose dialect the direct sockets speak where no Postfix says otherwise.
const fallbackVersion = "3.7"

// A direct is the proxymap or proxywrite service on the agent's own sockets.
type direct struct {
	service proxy.Service
	stock   *proxy.Stock // nil without passthrough
	sockets []net.Listener
}

func newDirect(name string, write bool, passthrough string, logger *slog.Logger) *direct {
	d := &direct{service: proxy.Service{
		Name: name, Write: write, Logger: logger,
		Hint: "keep the stock proxymap(8) in master.cf under another service name and name its socket with --passthrough-read or --passthrough-write",
	}}
	if passthrough != "" {
		d.stock = &proxy.Stock{Dial: func(ctx context.Context) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", passthrough)
		}}
		d.service.Passthrough = d.stock
	}
	return d
}

// listen opens the sockets. Where the agent is root they also belong to the group of Postfix's mail_owner,
// which must not be more than that: who may write there changes tables.
func (d *direct) listen(paths []string, owner *user.User) error {
	for _, path := range paths {
		path = dict.Unbrace(path)
		ln, err := ops.ListenUnix(path, 0o660)
		if err != nil {
			return configError("listen on %s: %v", path, err)
		}
		d.sockets = append(d.sockets, ln)
		if owner == nil || os.Geteuid() != 0 {
			continue
		}
		gid, err := strconv.Atoi(owner.Gid)
		if err == nil {
			err = os.Lchown(path, -1, gid) // not that of a link that somebody put there
		}
		if err != nil {
			return configError("give %s to the group of %s: %v", path, owner.Username, err)
		}
	}
	return nil
}

func (d *direct) close() {
	for _, ln := range d.sockets {
		ln.Close()
	}
	if d.stock != nil {
		d.stock.Close()
	}
}

// askPostfix asks the Postfix instance of this host. Where there is none to ask it returns the zero Instance.
func askPostfix(ctx context.Context, s *settings) (proxy.Instance, error) {
	command := ops.PostfixCommand("postconf")
	if _, err := os.Stat(command); err != nil {
		if s.postfixConfig != "" {
			return proxy.Instance{}, configError("ask Postfix in %s: no postconf command on this host", s.postfixConfig)
		}
		return proxy.Instance{}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	instance, err := proxy.AskPostfix(ctx, command, s.postfixConfig, nil)
	switch {
	case err == nil:
		return instance, nil
	case s.postfixConfig == "":
		return proxy.Instance{}, nil // Postfix is installed and not set up
	default:
		return proxy.Instance{}, configError("%v", err)
	}
}

// makeRunDir makes the directory of the sockets, which everybody may enter whatever the umask. It sees to it that
// nobody else can put a socket in the place of ours: those who ask there, among them root, would tell and believe
// a stranger.
func makeRunDir(dir string) error {
	_, before := os.Stat(dir)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return configError("make run directory: %v", err)
	}
	if errors.Is(before, fs.ErrNotExist) {
		if err := os.Chmod(dir, 0o755); err != nil {
			return configError("make run directory: %v", err)
		}
	}
	info, err := os.Stat(dir)
	if err != nil {
		return configError("run directory: %v", err)
	}
	if info.Mode().Perm()&0o002 != 0 {
		return configError("everybody may write the run directory %s", dir).Advise("run: chmod o-w %s, or choose another with --run-dir", dir)
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if owner := int(stat.Uid); ok && owner != 0 && owner != os.Geteuid() {
		return configError("the run directory %s belongs to user %d, not to root or to the user of the agent", dir, owner).
			Advise("run the agent as its owner, as in: runuser -u postraft -- postraft agent; or choose another with --run-dir")
	}
	return nil
}

// userIDs returns the ids of users, without those that are nil.
func userIDs(users ...*user.User) []int {
	var ids []int
	for _, u := range users {
		if u == nil {
			continue
		}
		if id, err := strconv.Atoi(u.Uid); err == nil {
			ids = append(ids, id)
		}
	}
	return ids
}

// mailOwner returns the user that Postfix's daemons run as, nil where there is none.
func mailOwner(instance proxy.Instance) *user.User {
	if instance.MailOwner == "" {
		return nil
	}
	u, err := user.Lookup(instance.MailOwner)
	if err != nil {
		return nil
	}
	return u
}

// speak sets the dialect of the service, before its first connection.
func (d *direct) speak(s *settings, instance proxy.Instance) {
	d.service.SetVersion(cmp.Or(s.mailVersion, instance.MailVersion, fallbackVersion))
	d.service.SMTPUTF8 = instance.SMTPUTF8
	if d.stock != nil {
		d.stock.Announce = d.service.Announce
	}
}

// approve says which tables the service may open, and returns how many; all raft tables count as one.
func (d *direct) approve(s *settings, instance proxy.Instance) int {
	list := cmp.Or(s.readMaps, instance.ReadMaps)
	if d.service.Write {
		list = cmp.Or(s.writeMaps, instance.WriteMaps)
	}
	if s.approveRaft {
		d.service.Approve(proxy.ApproveAllRaft())
		return 1
	}
	approval := proxy.ParseApproval(list)
	d.service.Approve(approval)
	return len(approval.Tables())
}

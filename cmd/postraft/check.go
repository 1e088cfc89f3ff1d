package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"postraft/cluster"
	"postraft/cluster/trust"
	"postraft/dict"
	"postraft/proxy"
)

const resolveTimeout = 3 * time.Second

// A checker looks at all that settings name without starting or changing anything.
type checker struct {
	s        *settings
	errs     []error
	warnings []string
}

// checkConfig prints the settings in effect and where they come from, and then what is wrong with them. unusable is
// what was wrong with their form.
func (a *app) checkConfig(ctx context.Context, s *settings, unusable error) error {
	c := &checker{s: s, warnings: s.warnings}
	c.errs = flatten(unusable)
	c.keys()
	c.directories()
	c.addresses(ctx)
	c.sockets(ctx)
	c.cluster()
	c.watched()
	c.log()
	if err := printSettings(a.out, s); err != nil {
		return err
	}
	for _, w := range c.warnings {
		fmt.Fprintf(a.out, "warning: %s\n", w)
	}
	var texts []string
	for _, err := range c.errs {
		texts = append(texts, err.Error())
		fmt.Fprintf(a.out, "error: %s\n", err)
	}
	if len(texts) > 0 {
		return configError("errors in the configuration: %d: %s", len(texts), strings.Join(texts, "; "))
	}
	_, err := fmt.Fprintf(a.out, "the configuration can be used by user %s\n", userName())
	return err
}

func userName() string {
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return fmt.Sprint(os.Geteuid())
}

// flatten returns the errors that were joined.
func flatten(err error) []error {
	if err == nil {
		return nil
	}
	if list, ok := err.(interface{ Unwrap() []error }); ok {
		return slices.Clone(list.Unwrap())
	}
	return []error{err}
}

// printSettings prints each setting as the configuration file would have it, and where it comes from.
func printSettings(w io.Writer, s *settings) error {
	var rows [][]any
	s.flags.VisitAll(func(f *pflag.Flag) {
		if commandLineOnly(f.Name) {
			return
		}
		value := strings.Join(strings.Fields(f.Value.String()), " ")
		rows = append(rows, []any{strings.ReplaceAll(f.Name, "-", "_") + " = " + value, "# " + cmp.Or(s.origin[f.Name], "default")})
	})
	return columns(w, rows)
}

func (c *checker) fail(format string, args ...any) {
	c.errs = append(c.errs, configError(format, args...))
}
func (c *checker) warn(format string, args ...any) {
	c.warnings = append(c.warnings, fmt.Sprintf(format, args...))
}

func (c *checker) add(err error) {
	if err != nil {
		c.errs = append(c.errs, err)
	}
}

// keys checks the secret and the certificates.
func (c *checker) keys() {
	s := c.s
	secrets, err := trust.ReadSecretFile(s.secretFile)
	if err != nil {
		c.add(err)
		secrets = trust.Secrets{trust.NewSecret()} // the certificates are looked at all the same
	}
	files := trust.Files{Cert: s.tlsCert, Key: s.tlsKey, CA: s.tlsCA}
	if files != (trust.Files{}) && (files.Cert == "" || files.Key == "" || files.CA == "") {
		return // it was told already
	}
	identity, err := trust.New(trust.Config{ID: s.name + "/check", Secrets: secrets, Files: files})
	if err != nil {
		c.add(err)
		return
	}
	end := identity.CertificateEnd()
	for _, w := range identity.Warnings() {
		if time.Now().After(end) {
			c.fail("%s", w)
		} else {
			c.warn("%s", w)
		}
	}
}

func (c *checker) directories() {
	s := c.s
	c.directory("data_dir", s.dataDir, true)
	c.add(cluster.CheckDataDir(s.dataDir, s.name))
	c.directory("run_dir", s.runDir, true)
	if info, err := os.Stat(s.runDir); err == nil && info.Mode().Perm()&0o002 != 0 {
		c.fail("everybody may write the run directory %s; run: chmod o-w %s", s.runDir, s.runDir)
	}
	if s.snapshotDir != "" {
		c.directory("snapshot_dir", s.snapshotDir, false)
	}
}

// directory checks that a directory can be written to, or can be made where the agent makes it.
func (c *checker) directory(what, dir string, made bool) {
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist) && made:
		for dir = filepath.Dir(dir); ; dir = filepath.Dir(dir) {
			if info, err = os.Stat(dir); !errors.Is(err, fs.ErrNotExist) || dir == filepath.Dir(dir) {
				break
			}
		}
		what += ": it is not there, and to be made in " + dir
	case err == nil:
		what += " " + dir
	}
	switch {
	case err != nil:
		c.fail("%s: %v", what, err)
	case !info.IsDir():
		c.fail("%s: %s is not a directory", what, dir)
	default:
		if err := unix.Access(dir, unix.W_OK|unix.X_OK); err != nil {
			c.fail("%s: user %s may not write there: %v", what, userName(), err)
		}
	}
}

// addresses checks that what is bound is of this host and nothing twice, and that names have addresses.
func (c *checker) addresses(ctx context.Context) {
	s := c.s
	type listener struct{ what, host, port string }
	var listeners []listener
	for _, l := range []struct{ what, address string }{{"bind", s.bind}, {"gossip", s.gossip}, {"http", s.http}} {
		host, port, err := net.SplitHostPort(l.address)
		if err != nil {
			continue // http is off; the form was checked before
		}
		for _, ip := range c.resolve(ctx, l.what, host) {
			if !ip.IsUnspecified() && !ofThisHost(ip) {
				c.fail("%s = %s: this host does not have the address %s", l.what, l.address, ip)
			}
		}
		for _, other := range listeners {
			if other.port == port && (other.host == host || wildcard(other.host) || wildcard(host)) {
				c.fail("%s and %s have the same port %s", other.what, l.what, port)
			}
		}
		listeners = append(listeners, listener{l.what, host, port})
	}
	if s.advertise != "" {
		for _, ip := range c.resolve(ctx, "advertise", s.advertise) {
			if ip.IsUnspecified() {
				c.fail("advertise = %s: the other nodes cannot use that", s.advertise)
			}
		}
	}
	for _, member := range s.join {
		host := member
		if h, _, err := net.SplitHostPort(member); err == nil {
			host = h
		}
		if _, err := lookup(ctx, strings.Trim(host, "[]")); err != nil {
			c.warn("join: no address of %s now: %v", host, err)
		}
	}
}

func wildcard(host string) bool {
	ip := net.ParseIP(host)
	return host == "" || ip != nil && ip.IsUnspecified()
}

func lookup(ctx context.Context, host string) ([]net.IP, error) {
	if host == "" {
		return []net.IP{net.IPv4zero}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	return net.DefaultResolver.LookupIP(ctx, "ip", host)
}

func (c *checker) resolve(ctx context.Context, what, host string) []net.IP {
	ips, err := lookup(ctx, host)
	if err != nil {
		c.fail("%s: no address of %s: %v", what, host, err)
	}
	return ips
}

func ofThisHost(ip net.IP) bool {
	addresses, err := net.InterfaceAddrs()
	return ip.IsLoopback() || err != nil || slices.ContainsFunc(addresses, func(a net.Addr) bool {
		n, ok := a.(*net.IPNet)
		return ok && n.IP.Equal(ip)
	})
}

// sockets checks the sockets without master(8), and asks Postfix.
func (c *checker) sockets(ctx context.Context) {
	s := c.s
	for what, paths := range map[string][]string{"proxymap_socket": s.proxymapSockets, "proxywrite_socket": s.proxywriteSockets} {
		for _, path := range paths {
			path = dict.Unbrace(path)
			if len(path) > 107 {
				c.fail("%s = %s: longer than 107 bytes, which is all that the address of a socket may have", what, path)
			}
			c.directory(what, filepath.Dir(path), false)
			if info, err := os.Lstat(path); err == nil && info.Mode().Type() != os.ModeSocket {
				c.fail("%s: %s is there and is not a socket", what, path)
			}
		}
	}
	for what, path := range map[string]string{"passthrough_read": s.passthroughRead, "passthrough_write": s.passthroughWrite} {
		if _, err := os.Stat(path); path != "" && err != nil {
			c.warn("%s: %v: local tables get RETRY until it is there", what, err)
		}
	}
	instance, err := askPostfix(ctx, s)
	c.add(err)
	for _, d := range []struct {
		what, list string
		sockets    []string
	}{
		{"proxy_read_maps", cmp.Or(s.readMaps, instance.ReadMaps), s.proxymapSockets},
		{"proxy_write_maps", cmp.Or(s.writeMaps, instance.WriteMaps), s.proxywriteSockets},
	} {
		if len(d.sockets) > 0 && !s.approveRaft && len(proxy.ParseApproval(d.list).Tables()) == 0 {
			c.warn("%s approves no table: every request on %s will be denied", d.what, strings.Join(d.sockets, " "))
		}
	}
}

// cluster checks what makes no cluster, or a poor one.
func (c *checker) cluster() {
	s := c.s
	if s.bootstrapExpect > 1 && len(s.join) == 0 {
		c.warn("bootstrap_expect = %d without join: this node will see others only if they name it", s.bootstrapExpect)
	}
	if s.bootstrapExpect > 0 && s.bootstrapExpect%2 == 0 {
		c.warn("bootstrap_expect = %d: an even number of voters is no safer than one less", s.bootstrapExpect)
	}
	if s.voters%2 == 0 {
		c.warn("voters = %d: an even number of voters is no safer than one less", s.voters)
	}
}

// watched checks that the files which the agent imports can be read.
func (c *checker) watched() {
	for _, word := range c.s.watchFiles {
		w, err := parseWatchFile(word)
		if err != nil {
			continue // that was said already
		}
		file, err := os.OpenFile(w.path, os.O_RDONLY|unix.O_NONBLOCK, 0) // a pipe is not waited for
		if err != nil {
			c.warn("watch_file: %v: table %s stays as it is until the file can be read", err, w.table)
			continue
		}
		file.Close()
	}
}

// log checks that the log has somewhere to go.
func (c *checker) log() {
	_, done, err := newLogger(c.s, &slog.LevelVar{}, io.Discard)
	if err != nil {
		c.add(err)
		return
	}
	done()
}

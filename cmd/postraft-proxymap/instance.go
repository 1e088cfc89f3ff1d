package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"postraft/dict"
	"postraft/proxy"
	"postraft/proxy/handoff"
	"postraft/proxy/master"
)

const (
	defaultRunDir = "/run/postraft"
	askTime       = 20 * time.Second // for postconf

	// passthroughArg is the one -o that is ours and not a parameter of main.cf.
	passthroughArg = "passthrough_service"
)

// ask asks postconf about the Postfix instance, with the -o of this service.
func (s *service) ask(ctx context.Context) (proxy.Instance, error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	var overrides []string
	for _, p := range s.opts.Parameters {
		if p.Name != passthroughArg {
			overrides = append(overrides, p.Name+"="+p.Value)
		}
	}
	return proxy.AskPostfix(ctx, postconf(s.env.ConfigDir), s.env.ConfigDir, overrides)
}

// postconf returns the path of postconf(1): there is no PATH here, and main.cf says where Postfix keeps its
// commands only if that was moved.
func postconf(configDir string) string {
	dir := "/usr/sbin"
	if f, err := os.Open(filepath.Join(configDir, "main.cf")); err == nil {
		defer f.Close()
		for line, err := range dict.LogicalLines(f) {
			if err != nil || line.Comment || line.Orphan {
				continue
			}
			name, value, _ := strings.Cut(string(line.Text), "=")
			if value = strings.TrimSpace(value); strings.TrimSpace(name) == "command_directory" && filepath.IsAbs(value) {
				dir = value
			}
		}
	}
	return filepath.Join(dir, "postconf")
}

// frontEnd makes the front end of the service.
func (s *service) frontEnd(instance proxy.Instance, status *master.Status) (*handoff.FrontEnd, error) {
	hello := handoff.Hello{
		Service:     s.opts.Name,
		PID:         os.Getpid(),
		Write:       s.opts.Name == instance.ProxywriteService,
		MailVersion: instance.MailVersion,
		SMTPUTF8:    instance.SMTPUTF8,
		ConfigDir:   s.env.ConfigDir,
	}
	list := instance.ReadMaps
	if hello.Write {
		list = instance.WriteMaps
	}
	hello.Approve(proxy.ParseApproval(list))
	dial, err := s.stock()
	if err != nil {
		return nil, err
	}
	hello.Passthrough = dial != nil
	maxIdle, maxUse, err := s.limits()
	if err != nil {
		return nil, err
	}
	locals := &handoff.AwayLocals{Passthrough: hello.Passthrough}
	server := proxy.New(proxy.Config{Tables: handoff.Away{}, Locals: locals, Logger: s.log})
	own := handoff.NewService(server, hello, dial, s.log)
	return handoff.NewFrontEnd(handoff.FrontEndConfig{
		Path:      filepath.Join(s.runDir(), "handoff.sock"),
		Hello:     hello,
		Connect:   s.connect,
		Stopped:   s.stopped,
		Serve:     own.ServeConn,
		DialStock: dial,
		Agents:    func(table string) bool { return locals.Open(table, proxy.LocalOptions{}) != nil },
		Aliases: func(names []string) {
			aliases := proxy.Aliases{}
			for _, name := range names {
				aliases[name] = "alias" // which table it is makes no difference: the agent is away
			}
			locals.Alias(names)
			server.Alias(aliases)
		},
		Served: func() {
			if err := status.Served(); err != nil {
				s.log.Debug("status not reported", "err", err) // master has gone: Gone says so too
			}
		},
		MaxIdle: maxIdle,
		MaxUse:  maxUse,
		Logger:  s.log,
	}), nil
}

func (s *service) runDir() string {
	if dir := s.opts.Own["run-dir"]; dir != "" {
		return dir
	}
	if dir := os.Getenv("POSTRAFT_RUN_DIR"); dir != "" {
		return dir
	}
	return defaultRunDir
}

// connect opens a connection to the agent, from outside the chroot if there is one.
func (s *service) connect(path string) (conn *net.UnixConn, err error) {
	if s.outside == nil {
		return handoff.Connect(path)
	}
	s.outside.Do(func() { conn, err = handoff.Connect(path) })
	return conn, err
}

// stopped reads /proc, from outside the chroot if there is one.
func (s *service) stopped(pid int) (stopped bool) {
	if s.outside == nil {
		return handoff.Stopped(pid)
	}
	s.outside.Do(func() { stopped = handoff.Stopped(pid) })
	return stopped
}

// stock returns how to connect to the stock proxymap service, nil if the operator names none. The working
// directory is queue_directory, in a chroot too.
func (s *service) stock() (func(context.Context) (net.Conn, error), error) {
	name, ok := s.opts.Parameter(passthroughArg)
	if !ok || name == "" {
		return nil, nil
	}
	if strings.Contains(name, "/") || name == s.opts.Name {
		return nil, fmt.Errorf("%s = %s: want the name of another service in master.cf", passthroughArg, name)
	}
	path := filepath.Join("private", name)
	return func(ctx context.Context) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, "unix", path)
		if err != nil {
			return nil, fmt.Errorf("connect to the stock service %s: %w", name, err)
		}
		return conn, nil
	}, nil
}

// limits returns after what idle time and how many clients the process ends. Unless the service's own line
// says so, it stays: starting it again costs clients time and gains nothing, since reload ends it anyway.
func (s *service) limits() (maxIdle time.Duration, maxUse int, err error) {
	maxIdle, maxUse = s.opts.MaxIdle, s.opts.MaxUse
	if value, ok := s.opts.Parameter("max_idle"); ok && maxIdle == 0 {
		if maxIdle, err = parseTime(value); err != nil {
			return 0, 0, fmt.Errorf("max_idle = %s: %w", value, err)
		}
	}
	if value, ok := s.opts.Parameter("max_use"); ok && maxUse == 0 {
		if maxUse, err = strconv.Atoi(value); err != nil || maxUse < 0 {
			return 0, 0, fmt.Errorf("max_use = %s: want a number", value)
		}
	}
	return maxIdle, maxUse, nil
}

// parseTime reads a time of main.cf: a number and a unit, seconds if there is none.
func parseTime(s string) (time.Duration, error) {
	units := map[string]time.Duration{
		"": time.Second, "s": time.Second, "m": time.Minute, "h": time.Hour, "d": 24 * time.Hour, "w": 7 * 24 * time.Hour,
	}
	digits := strings.TrimRight(s, "smhdw")
	n, err := strconv.ParseUint(digits, 10, 31)
	unit, ok := units[s[len(digits):]]
	if err != nil || !ok {
		return 0, fmt.Errorf("want a number of seconds, or one with a unit of s, m, h, d, w")
	}
	return time.Duration(n) * unit, nil
}

// confine obeys -u and -c.
func (s *service) confine(instance proxy.Instance) error {
	var account *master.Account
	if s.opts.Unprivileged {
		a, err := master.LookupAccount(instance.MailOwner)
		if err != nil {
			return err
		}
		account = &a
	}
	root := ""
	if s.opts.Chroot {
		root = instance.QueueDirectory
	}
	return master.Confine(account, root)
}

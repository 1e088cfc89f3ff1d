package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"postraft/cluster"
	"postraft/cluster/trust"
	"postraft/dict/local"
	"postraft/ops"
	"postraft/proxy"
	"postraft/proxy/handoff"
)

const (
	// stopTime is what a clean stop may take. Each part of it is bounded; this is the last resort.
	stopTime = 4800 * time.Millisecond

	// spareProcs is how many goroutines more than there are processors may run. A loop of package proxy that comes
	// back from waiting for requests needs a place to run; while an import and the garbage collector keep all of them
	// busy it would wait for one for up to 10 ms, a time slice of Go's scheduler. The kernel's is shorter, and fairer.
	spareProcs = 2

	// settleTime is how long front ends wait at most until a node that has started has heard from the leader
	// what became of the newest entries on its disk. Without a leader it serves with what is certain.
	settleTime = 700 * time.Millisecond
)

func (a *app) agentCmd() *cobra.Command {
	s := newSettings()
	cmd := &cobra.Command{
		Use:   "agent",
		Short: "Run the agent of this host",
		Long: `Runs the agent of this host until SIGTERM or SIGINT. Each flag is also a line "flag_name = value" of the
configuration file, in the syntax of main.cf, and an environment variable POSTRAFT_FLAG_NAME; the command line
comes before the environment, and that before the file. SIGHUP reads the file again: the log level and the tables
that are approved on the sockets change at once, and so do the secrets in the secret file and the certificates.`,
		Args: want(0, 0),
		RunE: action(func(ctx context.Context, _ []string) error {
			err := s.load(a.environ)
			if s.checkConfig {
				return a.checkConfig(ctx, s, err)
			}
			if err != nil {
				return err
			}
			return a.runAgent(ctx, s)
		}),
	}
	cmd.Flags().AddFlagSet(s.flags)
	for _, name := range []string{"json", "timeout"} { // they mean nothing here
		cmd.Flags().String(name, "", "")
		cmd.Flags().MarkHidden(name)
	}
	return cmd
}

// An agent is everything that runs in an agent's process.
type agent struct {
	app      *app
	settings *settings
	level    *slog.LevelVar
	log      *slog.Logger

	node    *cluster.Node
	admin   *ops.Server
	handoff *handoff.Server
	proxy   *proxy.Server
	read    *direct
	write   *direct
	auto    *ops.AutoSnapshots // nil: off
	aliases inEffect
	locals  *local.Set
	mirrors []*ops.Mirror
	watches atomic.Pointer[[]*ops.FileWatch] // nil before they run
	web     *web                             // of all lives of the process; nil: off

	tasks  sync.WaitGroup
	failed chan error // why something that should run for ever ended
}

func (a *app) runAgent(ctx context.Context, s *settings) error {
	g := &agent{app: a, settings: s, level: &slog.LevelVar{}, failed: make(chan error, 8)}
	g.level.Set(s.logLevel)
	log, closeLog, err := newLogger(s, g.level, a.err)
	if err != nil {
		return err
	}
	defer closeLog()
	g.log = log
	for _, w := range s.warnings {
		log.Warn("configuration", "warning", w)
	}
	if _, ok := a.lookup("GOMAXPROCS"); !ok && a.procs > 0 {
		runtime.GOMAXPROCS(a.procs + spareProcs)
	}
	if _, ok := a.lookup("GOGC"); !ok {
		new(collector).keep()
	}
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	if s.reset {
		if err := cluster.Discard(s.dataDir, "asked for with --reset"); err != nil {
			return configError("%v", err)
		}
	}
	if g.web, err = openWeb(s, log); err != nil {
		return err
	}
	defer g.web.close()
	for {
		if err = g.live(ctx, hup); !errors.Is(err, cluster.ErrRestart) || ctx.Err() != nil {
			return err
		}
		log.Warn("agent begins anew", "reason", err)
		g = &agent{app: a, settings: s, level: g.level, log: log, web: g.web, failed: make(chan error, 8)}
	}
}

// live is the agent's life, from the start of its node to its end.
func (g *agent) live(ctx context.Context, hup <-chan os.Signal) error {
	if err := g.open(ctx); err != nil {
		g.closeAll()
		return err
	}
	serving, stopServing := context.WithCancel(context.Background())
	defer stopServing()
	g.serve(serving)
	g.web.show(&watched{g.node, g.proxy, g.auto, g.operated()})
	g.log.Info("agent runs", "node", g.settings.name, "version", version, "run_dir", g.settings.runDir)
	g.notify("READY=1")
	err := g.wait(ctx, hup)
	if !errors.Is(err, cluster.ErrRestart) {
		g.notify("STOPPING=1")
		signal.Reset(os.Interrupt, syscall.SIGTERM) // the second one ends the process at once
	}
	err = errors.Join(err, g.stop(stopServing))
	g.web.hide()
	return err
}

// open starts the node and opens all sockets.
func (g *agent) open(ctx context.Context) error {
	s := g.settings
	if _, err := trust.ReadSecretFile(s.secretFile); err != nil {
		return configError("%v", err)
	}
	var err error
	if err := makeRunDir(s.runDir); err != nil {
		return err
	}
	if err := g.openNode(ctx); err != nil {
		return err
	}
	g.mirrors = g.newMirrors()
	if g.admin, err = ops.Listen(ops.ServerConfig{Path: filepath.Join(s.runDir, adminSocket), Agent: g.operated(), Logger: g.log}); err != nil {
		return configError("%v", err)
	}
	instance, err := askPostfix(ctx, s)
	if err != nil {
		return err
	}
	owner := mailOwner(instance)
	g.locals = newLocals(g)
	g.proxy = proxy.New(proxy.Config{Tables: served{g.node}, Locals: locals{g.locals}, Logger: g.log})
	if g.handoff, err = handoff.Listen(handoff.Config{
		Path: filepath.Join(s.runDir, handoffSocket), UIDs: userIDs(owner), Open: handoff.Sessions(g.proxy), Logger: g.log,
	}); err != nil {
		return configError("%v", err)
	}
	g.alias(s)
	g.read = newDirect("proxymap", false, s.passthroughRead, g.log)
	g.write = newDirect("proxywrite", true, s.passthroughWrite, g.log)
	g.read.speak(s, instance)
	g.write.speak(s, instance)
	g.approve(s, instance)
	if err := g.read.listen(s.proxymapSockets, owner); err != nil {
		return err
	}
	return g.write.listen(s.proxywriteSockets, owner)
}

// approve sets which tables the agent's own sockets serve.
func (g *agent) approve(s *settings, instance proxy.Instance) {
	for _, d := range []*direct{g.read, g.write} {
		if n := d.approve(s, instance); n == 0 && len(d.sockets) > 0 {
			g.log.Warn("no table is approved on the sockets of the service: set proxy_read_maps or proxy_write_maps", "service", d.service.Name)
		}
	}
}

// serve starts the tasks that end with ctx.
func (g *agent) serve(ctx context.Context) {
	g.tasks.Go(func() { trim(ctx) })
	g.tasks.Go(func() { g.locals.Run(ctx) })
	if s := g.settings; s.snapshotDir != "" {
		g.auto = &ops.AutoSnapshots{Dir: s.snapshotDir, Every: s.snapshotEvery, Keep: s.snapshotKeep, Source: g.operated(), Logger: g.log}
		g.tasks.Go(func() { g.auto.Run(ctx) })
	}
	g.watchFiles(ctx)
	g.mirror(ctx)
	g.task(g.admin.Serve)
	g.task(func() error {
		settling, cancel := context.WithTimeout(ctx, settleTime)
		defer cancel()
		if err := g.node.ReadIndex(settling); err != nil {
			g.log.Debug("not settled with the leader", "err", err)
		}
		return g.handoff.Serve(ctx)
	})
	for _, d := range []*direct{g.read, g.write} {
		for _, ln := range d.sockets {
			g.task(func() error { return g.proxy.Serve(ctx, ln, &d.service) })
		}
	}
}

func (g *agent) task(f func() error) {
	g.tasks.Go(func() {
		if err := f(); err != nil {
			g.failed <- err
		}
	})
}

// wait returns when the agent shall stop: nil when it was told to.
func (g *agent) wait(ctx context.Context, hup <-chan os.Signal) error {
	for {
		select {
		case <-ctx.Done():
			g.log.Info("agent stops")
			return nil
		case <-g.node.Done():
			if err := g.node.Err(); errors.Is(err, cluster.ErrRestart) {
				return err
			} else if err != nil {
				return ops.Errorf(ops.Internal, "the node has ended: %v", err).Advise("the log says more")
			}
			g.log.Info("agent stops: its node has left the cluster")
			return nil
		case err := <-g.failed:
			return ops.Errorf(ops.Internal, "%v", err)
		case <-hup:
			g.reload(ctx)
		}
	}
}

// reload takes over what can change at run time.
func (g *agent) reload(ctx context.Context) {
	if err := g.node.Reload(); err != nil { // whatever the configuration says: keys may be urgent
		g.log.Error("keys not taken over", "err", err)
	}
	next, err := g.settings.reload(g.app.environ)
	if err != nil {
		g.log.Error("configuration not taken over", "err", err)
		return
	}
	for _, w := range next.warnings {
		g.log.Warn("configuration", "warning", w)
	}
	instance, err := askPostfix(ctx, next)
	if err != nil {
		g.log.Error("configuration not taken over", "err", err)
		return
	}
	g.level.Set(next.logLevel)
	g.alias(next)
	g.approve(next, instance)
	if names := g.settings.fixed(next); len(names) > 0 {
		g.log.Warn("changed settings wait for a restart of the agent", "settings", names)
	}
	g.settings.take(next)
	g.log.Info("configuration read again")
}

// stop ends everything: first this node's leadership, while lookups go on; then what asks the node, so that
// writes at hand are answered; then the node.
func (g *agent) stop(stopServing func()) error {
	done := make(chan struct{})
	go func() { // its owner is the select below; past the deadline the process ends with it
		defer close(done)
		if s := g.node.Status(); s.State == "leader" && len(s.Voters) > 1 {
			bounded(time.Second, func(ctx context.Context) {
				if err := g.node.TransferLeader(ctx, ""); err != nil {
					g.log.Warn("leadership not handed over yet", "err", err)
				}
			})
		}
		stopServing()
		bounded(time.Second, func(ctx context.Context) {
			if err := g.admin.Shutdown(ctx); err != nil {
				g.log.Warn("operators were cut off", "err", err)
			}
		})
		served := make(chan struct{})
		go func() { g.tasks.Wait(); close(served) }()
		select {
		case <-served:
		case <-time.After(time.Second): // writes that wait for a leader: they end with the node
		}
		bounded(time.Second, func(ctx context.Context) {
			if err := g.node.Close(ctx); err != nil {
				g.log.Warn("node did not end cleanly", "err", err)
			}
		})
		<-served
		g.closeAll()
	}()
	select {
	case <-done:
		return nil
	case <-time.After(stopTime):
		return ops.Errorf(ops.Internal, "not everything ended within %v", stopTime)
	}
}

func bounded(d time.Duration, f func(context.Context)) {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	f(ctx)
}

// closeAll closes what is open.
func (g *agent) closeAll() {
	for _, d := range []*direct{g.read, g.write} {
		if d != nil {
			d.close()
		}
	}
	if g.proxy != nil {
		g.proxy.Close()
	}
	if g.admin != nil {
		bounded(time.Second, func(ctx context.Context) { g.admin.Shutdown(ctx) })
	}
	if g.node != nil {
		bounded(3*time.Second, func(ctx context.Context) { g.node.Close(ctx) })
	}
}

func (g *agent) notify(state string) {
	if err := g.app.notify(state); err != nil {
		g.log.Warn("systemd not told", "err", err)
	}
}

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"postraft/proxy/handoff"
	"postraft/proxy/master"
)

const (
	acceptPause   = 100 * time.Millisecond // after an accept that failed
	complainEvery = 10 * time.Second       // while it goes on failing
)

// A service is one process of a master.cf line.
type service struct {
	env     master.Environment
	opts    master.Options
	outside *master.Outside // nil without chroot
	log     *slog.Logger
}

// openLog makes the log of this process look like that of Postfix's own.
func (s *service) openLog() *master.Log {
	cfg := master.LogConfig{
		Tag: s.env.LogTag, Process: "postraft-proxymap", PID: os.Getpid(),
		PostlogPath: s.env.PostlogPath, PostlogHost: s.env.PostlogHost, Outside: s.outside,
	}
	if s.opts.Program != "" {
		cfg.Process = s.opts.Process()
	}
	if tag, ok := s.opts.Parameter("syslog_name"); ok && tag != "" && !strings.Contains(tag, "$") {
		cfg.Tag = tag
	}
	if s.opts.Verbose > 0 {
		cfg.Level = slog.LevelDebug
	}
	if s.opts.StandardErr {
		cfg.Mirror = os.Stderr
	}
	return master.NewLog(cfg)
}

// run serves until master says so.
func (s *service) run() error {
	if s.opts.Stream {
		return errors.New("option -S: a service on standard input is not supported")
	}
	if len(s.opts.Args) > 0 {
		return fmt.Errorf("unexpected argument %q", s.opts.Args[0])
	}
	in, err := master.Inherit(s.env, s.opts)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	instance, err := s.ask(ctx)
	if err != nil {
		return err
	}
	front, err := s.frontEnd(instance, in.Status)
	if err != nil {
		return err
	}
	if err := s.confine(instance); err != nil {
		return err
	}
	var running sync.WaitGroup
	running.Go(func() { front.Run(ctx) })
	<-front.Tried()
	for _, l := range in.Listeners {
		running.Go(func() { s.accept(ctx, l, front) })
	}
	select {
	case <-in.Status.Gone():
	case <-front.Spent():
	}
	err = in.Close() // the listeners first: who waits there is for the next process
	cancel()
	running.Wait()
	return err
}

// accept takes connections until the listener is closed.
func (s *service) accept(ctx context.Context, l *master.Listener, front *handoff.FrontEnd) {
	var said time.Time
	for {
		fd, err := l.Accept()
		switch {
		case err == io.EOF:
			return
		case err == nil:
			front.Take(fd)
			continue
		}
		if time.Since(said) >= complainEvery {
			what := "connection not accepted"
			if errors.Is(err, syscall.EMFILE) {
				what = "connection not accepted: raise the limit of open files of Postfix's master(8) (LimitNOFILE= in its unit, ulimit -n)"
			}
			s.log.Warn(what, "err", err)
			said = time.Now()
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(acceptPause):
		}
	}
}

package handoff

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"strings"

	"postraft/proxy"
)

// Sessions returns the Open of a Config: each link becomes a service of server.
func Sessions(server *proxy.Server) func(Hello, Peer) (Session, error) {
	return func(h Hello, peer Peer) (Session, error) {
		if h.Service == "" || h.MailVersion == "" {
			return nil, fmt.Errorf("hello of pid %d lacks service or mail_version", h.PID)
		}
		var dial func(context.Context) (net.Conn, error)
		if h.Passthrough {
			dial = peer.DialStock
		}
		return NewService(server, h, dial, peer.Logger()), nil
	}
}

// A Service is a proxymap service of one Postfix instance as hello describes it, and the server of its
// connections. It implements Session.
type Service struct {
	server *proxy.Server
	svc    *proxy.Service
	stock  *proxy.Stock // nil without passthrough
}

// NewService makes the service of a hello. dial opens connections to the stock service; nil when there is
// none.
func NewService(server *proxy.Server, h Hello, dial func(context.Context) (net.Conn, error), logger *slog.Logger) *Service {
	s := &Service{server: server, svc: &proxy.Service{
		Name: h.Service, Write: h.Write, SMTPUTF8: h.SMTPUTF8, Logger: logger,
		Hint: "keep the stock proxymap(8) under another service name and add -o passthrough_service=NAME to " + h.Service + " in master.cf",
	}}
	s.svc.SetVersion(h.MailVersion)
	s.svc.Approve(proxy.ParseApproval(h.approved()...))
	if dial != nil {
		s.stock = &proxy.Stock{Dial: dial, Announce: s.svc.Announce}
		s.svc.Passthrough = s.stock
	}
	return s
}

// ServeConn implements Session.
func (s *Service) ServeConn(ctx context.Context, fd int, h *proxy.Handover) (clean bool) {
	clean = s.server.ServeHandover(ctx, fd, s.svc, proxy.PeerPID(fd), h)
	return clean && h.Gate != nil
}

// Close implements Session.
func (s *Service) Close() {
	if s.stock != nil {
		s.stock.Close()
	}
}

// Approve says which tables the service may open: the words of main.cf that begin with "proxy:".
func (h *Hello) Approve(a *proxy.Approval) {
	tables := a.Tables()
	for i, table := range tables {
		tables[i] = "proxy:" + table
	}
	h.Approved = strings.Join(tables, "\x00")
}

func (h *Hello) approved() []string { return strings.Split(h.Approved, "\x00") }

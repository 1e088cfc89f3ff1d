package watch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

const (
	headerTimeout = 5 * time.Second
	readTimeout   = 10 * time.Second
	writeTimeout  = 20 * time.Second
	idleTimeout   = time.Minute
	maxHeader     = 8 << 10
	maxConns      = 128 // at once; a client too many waits
	maxScrapes    = 4   // at once
)

// Config says what a Server needs.
type Config struct {
	Address string // HOST:PORT; port 0 chooses one
	Version string // of the program
	Logger  *slog.Logger

	// HeaderTimeout is how long a client may take to say what it wants; 0 is 5 s.
	HeaderTimeout time.Duration
}

// A Server shows an agent over HTTP.
type Server struct {
	cfg     Config
	ln      net.Listener
	http    *http.Server
	subject atomic.Pointer[subject]
	members membersCache
	page    *page
}

// A subject is what is watched now.
type subject struct {
	agent Agent  // nil: there is none
	why   string // why there is none
}

// Listen binds the address. Shutdown frees it.
func Listen(cfg Config) (*Server, error) {
	ln, err := net.Listen("tcp", cfg.Address)
	if err != nil {
		return nil, fmt.Errorf("listen for HTTP: %w", err)
	}
	s := &Server{cfg: cfg, ln: &limited{Listener: ln, slots: make(chan struct{}, maxConns), closed: make(chan struct{})}, page: newPage()}
	s.Unwatch("the agent starts: its tables are being read from disk")
	s.http = &http.Server{
		Handler:           s.handler(),
		ReadHeaderTimeout: cmp.Or(cfg.HeaderTimeout, headerTimeout),
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(cfg.Logger.Handler(), slog.LevelDebug),
	}
	return s, nil
}

// Address returns where the server listens.
func (s *Server) Address() string { return s.ln.Addr().String() }

// Watch makes the server show an agent, until Unwatch.
func (s *Server) Watch(a Agent) { s.subject.Store(&subject{agent: a}) }

// Unwatch makes the server say why there is nothing to show.
func (s *Server) Unwatch(why string) { s.subject.Store(&subject{why: why}) }

func (s *Server) agent() Agent { return s.subject.Load().agent }

// Serve answers until Shutdown.
func (s *Server) Serve() error {
	if err := s.http.Serve(s.ln); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve HTTP: %w", err)
	}
	return nil
}

// Shutdown takes no new requests and waits for those at hand. When ctx ends first they are cut off.
func (s *Server) Shutdown(ctx context.Context) error {
	defer s.ln.Close() // Shutdown leaves it open when there was no Serve
	if err := s.http.Shutdown(ctx); err != nil {
		s.http.Close()
		return fmt.Errorf("finish HTTP requests: %w", err)
	}
	return nil
}

func (s *Server) handler() http.Handler {
	metrics := promhttp.HandlerFor(newRegistry(s.cfg.Version, s.agent), promhttp.HandlerOpts{
		ErrorLog:            slog.NewLogLogger(s.cfg.Logger.Handler(), slog.LevelWarn),
		MaxRequestsInFlight: maxScrapes,
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
		h.Set("Cache-Control", "no-store")
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			h.Set("Allow", "GET, HEAD")
			h.Set("Connection", "close") // what it sends is not read
			text(w, http.StatusMethodNotAllowed, "only GET and HEAD are answered here; change things with the postraft command")
			return
		}
		switch r.URL.Path {
		case "/metrics":
			metrics.ServeHTTP(w, r)
		case "/livez":
			text(w, http.StatusOK, "alive")
		case "/readyz":
			s.ready(w)
		case "/":
			s.servePage(w, r)
		default:
			text(w, http.StatusNotFound, "there are: / /metrics /livez /readyz")
		}
	})
}

func (s *Server) ready(w http.ResponseWriter) {
	now := s.subject.Load()
	if now.agent == nil {
		text(w, http.StatusServiceUnavailable, now.why)
		return
	}
	v := now.agent.Vitals()
	if reasons := notReady(now.agent.Status(), &v); len(reasons) > 0 {
		text(w, http.StatusServiceUnavailable, strings.Join(reasons, "\n"))
		return
	}
	text(w, http.StatusOK, "ready")
}

func text(w http.ResponseWriter, status int, words string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	io.WriteString(w, words+"\n") // who does not take it has gone
}

// limited bounds how many connections there are.
type limited struct {
	net.Listener
	slots  chan struct{}
	closed chan struct{}
	once   sync.Once
}

// Accept implements net.Listener.
func (l *limited) Accept() (net.Conn, error) {
	select {
	case l.slots <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.slots
		return nil, err
	}
	return &limitedConn{Conn: c, free: sync.OnceFunc(func() { <-l.slots })}, nil
}

// Close implements net.Listener.
func (l *limited) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

type limitedConn struct {
	net.Conn
	free func()
}

// Close implements net.Conn.
func (c *limitedConn) Close() error {
	defer c.free()
	return c.Conn.Close()
}

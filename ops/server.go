package ops

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// apiVersion is the version of the API, in the header apiHeader of every reply.
const apiVersion = "1"

const (
	apiHeader     = "Postraft-Api"
	timeoutHeader = "Postraft-Timeout"

	defaultTimeout = 10 * time.Second
	maxTimeout     = time.Hour

	// stallTimeout is how long a stream may stand still.
	stallTimeout = 30 * time.Second
)

// ServerConfig says what a Server needs.
type ServerConfig struct {
	Path   string // of the socket
	Agent  Agent
	Logger *slog.Logger

	// Allowed decides who may ask, by user id. Nil allows root and the user of this process.
	Allowed func(uid int) bool
}

// A Server answers operators on a unix socket.
type Server struct {
	cfg  ServerConfig
	ln   net.Listener
	http *http.Server

	ending context.Context // until Shutdown
	end    context.CancelFunc
}

// Listen makes the socket, in place of one that a dead agent left. Shutdown closes it.
func Listen(cfg ServerConfig) (*Server, error) {
	ln, err := ListenUnix(cfg.Path, 0o600)
	if err != nil {
		return nil, fmt.Errorf("listen for operators on %s: %w", cfg.Path, err)
	}
	if cfg.Allowed == nil {
		own := os.Geteuid()
		cfg.Allowed = func(uid int) bool { return uid == 0 || uid == own }
	}
	s := &Server{cfg: cfg, ln: ln}
	s.ending, s.end = context.WithCancel(context.Background())
	s.http = &http.Server{
		Handler:           s.handler(),
		ReadHeaderTimeout: 5 * time.Second,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(cfg.Logger.Handler(), slog.LevelDebug),
		ConnContext: func(ctx context.Context, conn net.Conn) context.Context {
			return context.WithValue(ctx, peerKey{}, peerUID(conn))
		},
	}
	return s, nil
}

// ListenUnix listens on a Unix stream socket with this mode, in place of one that a dead process left.
func ListenUnix(path string, mode os.FileMode) (net.Listener, error) {
	if conn, err := net.DialTimeout("unix", path, time.Second); err == nil {
		conn.Close()
		return nil, errors.New("another process answers there")
	}
	if info, err := os.Lstat(path); err == nil && info.Mode().Type() == os.ModeSocket {
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("replace the socket of a dead agent: %w", err)
		}
	}
	ln, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	if err := chmodSocket(path, mode); err != nil {
		ln.Close()
		return nil, err
	}
	return ln, nil
}

// chmodSocket changes the mode of a socket and of nothing else: where root listens in a directory of another
// user, as Postfix's are, that user could put a link to any file there meanwhile.
func chmodSocket(path string, mode os.FileMode) error {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open socket %s: %w", path, err)
	}
	defer unix.Close(fd)
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return fmt.Errorf("look at socket %s: %w", path, err)
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return fmt.Errorf("%s is not the socket that was made there", path)
	}
	return os.Chmod(fmt.Sprintf("/proc/self/fd/%d", fd), mode)
}

// Serve answers until Shutdown.
func (s *Server) Serve() error {
	if err := s.http.Serve(s.ln); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve operators: %w", err)
	}
	return nil
}

// Shutdown takes no new requests and waits for those at hand. When ctx ends first they are cut off.
func (s *Server) Shutdown(ctx context.Context) error {
	s.end()
	defer s.ln.Close() // Shutdown leaves it open when there was no Serve
	if err := s.http.Shutdown(ctx); err != nil {
		s.http.Close()
		return fmt.Errorf("finish the requests of operators: %w", err)
	}
	return nil
}

type peerKey struct{}

// peerUID returns the user at the other end, or -1.
func peerUID(conn net.Conn) int {
	raw, ok := conn.(*net.UnixConn)
	if !ok {
		return -1
	}
	sc, err := raw.SyscallConn()
	if err != nil {
		return -1
	}
	uid := -1
	sc.Control(func(fd uintptr) {
		if cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			uid = int(cred.Uid)
		}
	})
	return uid
}

// A handlerFunc answers one request: it writes its reply, or returns an error before it has written anything.
type handlerFunc func(w http.ResponseWriter, r *http.Request) error

func (s *Server) handler() http.Handler {
	h := &handlers{agent: s.cfg.Agent, ending: s.ending}
	mux := http.NewServeMux()
	for pattern, f := range map[string]handlerFunc{
		"GET /v1/status":           h.status,
		"GET /v1/members":          h.members,
		"GET /v1/reach":            h.reach,
		"POST /v1/join":            h.join,
		"POST /v1/leave":           h.leave,
		"POST /v1/remove":          h.remove,
		"POST /v1/transfer-leader": h.transferLeader,
		"GET /v1/keyring":          h.keyring,
		"POST /v1/keyring/reload":  h.reloadKeyring,
		"POST /v1/keyring/use":     h.useKey,
		"POST /v1/keyring/remove":  h.removeKey,
		"GET /v1/tables":           h.tables,
		"GET /v1/table":            h.table,
		"POST /v1/table/settings":  h.settings,
		"POST /v1/table":           h.createTable,
		"DELETE /v1/table":         h.dropTable,
		"POST /v1/table/get":       h.get,
		"POST /v1/table/lookup":    h.lookup,
		"POST /v1/table/put":       h.put,
		"POST /v1/table/delete":    h.delete,
		"GET /v1/table/entries":    h.entries,
		"POST /v1/table/import":    h.importTable,
		"POST /v1/table/diff":      h.diff,
		"GET /v1/table/watch":      h.watch,
		"GET /v1/table/history":    h.history,
		"POST /v1/table/explain":   h.explain,
		"POST /v1/table/restore":   h.restoreVersion,
		"GET /v1/snapshot":         h.saveSnapshot,
		"POST /v1/snapshot":        h.restoreSnapshot,
		"/":                        h.unknown,
	} {
		mux.Handle(pattern, s.guard(f))
	}
	return mux
}

type endlessKey struct{}

// endless returns the context of a request that lasts as long as its connection and the server.
func endless(r *http.Request, ending context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(r.Context().Value(endlessKey{}).(context.Context))
	stop := context.AfterFunc(ending, func() { cancel(Errorf(Retry, "the agent stops")) })
	return ctx, func() { stop(); cancel(nil) }
}

// guard admits a request, bounds its time, and sends its error.
func (s *Server) guard(f handlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(apiHeader, apiVersion)
		uid, _ := r.Context().Value(peerKey{}).(int)
		if !s.cfg.Allowed(uid) {
			s.cfg.Logger.Warn("operator turned away", "uid", uid, "request", r.Method+" "+r.URL.Path)
			sendError(w, Errorf(Denied, "user %d may not operate this agent", uid).Advise("run it as root or as the user of the agent"))
			return
		}
		timeout := defaultTimeout
		if text := r.Header.Get(timeoutHeader); text != "" {
			d, err := time.ParseDuration(text)
			if err != nil || d <= 0 {
				sendError(w, Errorf(Usage, "timeout %q: want a duration such as 10s", text))
				return
			}
			timeout = min(d, maxTimeout)
		}
		ctx, cancel := context.WithTimeoutCause(context.WithValue(r.Context(), endlessKey{}, r.Context()), timeout, timeoutError(timeout))
		defer cancel()
		switch err := f(w, r.WithContext(ctx)); {
		case err == nil:
			s.cfg.Logger.Debug("operator request", "request", r.Method+" "+r.URL.Path, "uid", uid)
		default:
			e := Classify(err)
			level := slog.LevelInfo
			switch e.Kind {
			case Internal:
				level = slog.LevelError
			case NotFound, NoTable, Exists, BadData, Usage: // the operator's affair
				level = slog.LevelDebug
			}
			s.cfg.Logger.Log(ctx, level, "operator request failed", "request", r.Method+" "+r.URL.Path, "uid", uid, "err", err)
			sendError(w, e)
		}
	})
}

// timeoutError says that a request took longer than it may. It is a context.DeadlineExceeded.
type timeoutError time.Duration

func (e timeoutError) Error() string        { return "gave up after " + time.Duration(e).String() }
func (e timeoutError) Is(target error) bool { return target == context.DeadlineExceeded }

func sendError(w http.ResponseWriter, e *Error) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(e.Kind.status())
	json.NewEncoder(w).Encode(e) // who does not take it has gone
}

func sendJSON(w http.ResponseWriter, v any) error {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(v) // who does not take it has gone
	return nil
}

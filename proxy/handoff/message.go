package handoff

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// The versions of the link's messages that this program speaks; see the package comment.
const (
	oldest  = 1 // connections end with the agent
	version = 2 // connections outlive the agent
)

// The kinds of messages; see the package comment.
const (
	kindList    = "list"
	kindHello   = "hello"
	kindWelcome = "welcome"
	kindRefuse  = "refuse"
	kindConn    = "conn"
	kindDone    = "done"
	kindBack    = "back"
	kindPing    = "ping"
	kindPong    = "pong"
	kindDial    = "dial"
	kindDialed  = "dialed"
	kindLog     = "log"
	kindBye     = "bye"
	kindAliases = "aliases"
)

// A message is one packet. Which fields count depends on the kind.
type message struct {
	Kind    string   `json:"kind"`
	Version int      `json:"version,omitempty"` // hello: the oldest that the front end speaks; welcome: the one to speak
	Newest  int      `json:"newest,omitempty"`  // hello: the newest that the front end speaks; absent if it is Version
	Hello   *Hello   `json:"hello,omitempty"`
	ID      uint64   `json:"id,omitempty"`   // conn, done, back, dial, dialed
	Text    string   `json:"text,omitempty"` // log; refuse, dialed: the reason
	List    []byte   `json:"list,omitempty"` // list: bytes, because main.cf text need not be UTF-8
	Level   int      `json:"level,omitempty"`
	Attrs   []string `json:"attrs,omitempty"` // log: names and values in turn; welcome, aliases: the names

	Slot      int    `json:"slot,omitempty"`      // conn: of the mark in the page
	Announced bool   `json:"announced,omitempty"` // conn: the client has had the announcement
	Rest      []byte `json:"rest,omitempty"`      // conn, back: what was received and not answered
}

// A Hello says what service the connections of a link belong to.
type Hello struct {
	Service     string `json:"service"`      // name in master.cf
	PID         int    `json:"pid"`          // of the front end
	Write       bool   `json:"write"`        // a proxywrite service: updates and deletes
	MailVersion string `json:"mail_version"` // of the Postfix instance: decides the dialect
	SMTPUTF8    bool   `json:"smtputf8"`     // smtputf8_enable
	ConfigDir   string `json:"config_dir"`   // of the Postfix instance, for logs
	Passthrough bool   `json:"passthrough"`  // dial is answered with the stock service

	// Approved names the approved tables, each behind "proxy:", with NUL bytes between them. It travels
	// apart, in parts.
	Approved string `json:"-"`
}

const (
	maxPacket   = 64 << 10
	maxPart     = 32 << 10 // base64 makes four bytes of three
	maxRest     = maxPart
	maxApproved = 4 << 20

	// MaxAliases bounds the names of all aliases together, in bytes: they travel in one packet.
	MaxAliases = 8 << 10
)

// A link sends and receives messages on one SEQPACKET connection. send may be called from any goroutine,
// receive from one at a time.
type link struct {
	conn *net.UnixConn

	sendMu  sync.Mutex // one packet at a time
	timeout time.Duration

	packet []byte // receive's buffers
	oob    []byte
}

func newLink(conn *net.UnixConn, timeout time.Duration) *link {
	return &link{conn: conn, timeout: timeout, packet: make([]byte, maxPacket), oob: make([]byte, unix.CmsgSpace(4*4))}
}

// send writes m, with a copy of fd beside it unless fd is negative. After an error the
// link is of no more use.
func (l *link) send(m message, fd int) error {
	packet, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("send %s message: %w", m.Kind, err)
	}
	if len(packet) > maxPacket {
		return fmt.Errorf("send %s message: %d bytes, the limit is %d", m.Kind, len(packet), maxPacket)
	}
	var oob []byte
	if fd >= 0 {
		oob = unix.UnixRights(fd)
	}
	l.sendMu.Lock()
	defer l.sendMu.Unlock()
	l.conn.SetWriteDeadline(time.Now().Add(l.timeout))
	if _, _, err := l.conn.WriteMsgUnix(packet, oob, nil); err != nil {
		return fmt.Errorf("send %s message: %w", m.Kind, err)
	}
	return nil
}

// receive returns the next message and the descriptor beside it, or -1 if there is none, or if this process has too many
// to take it; the caller owns the descriptor.
func (l *link) receive() (m message, fd int, err error) {
	n, oobn, flags, _, err := l.conn.ReadMsgUnix(l.packet, l.oob)
	fd = -1
	if oobn > 0 {
		fd, err = oneDescriptor(l.oob[:oobn], err)
	}
	switch {
	case err != nil:
	case n == 0:
		err = io.EOF
	case flags&unix.MSG_TRUNC != 0: // MSG_CTRUNC: the kernel has found no place for the descriptor, the message is whole
		err = errors.New("packet longer than agreed")
	default:
		err = json.Unmarshal(l.packet[:n], &m)
	}
	if err != nil {
		closeFD(fd)
		return message{}, -1, fmt.Errorf("receive message: %w", err)
	}
	return m, fd, nil
}

// oneDescriptor returns the first descriptor in oob and closes any others.
func oneDescriptor(oob []byte, failed error) (int, error) {
	found := -1
	controls, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return found, errors.Join(failed, err)
	}
	for i := range controls {
		fds, err := unix.ParseUnixRights(&controls[i])
		if err != nil {
			continue // another kind of control message
		}
		for _, fd := range fds {
			unix.CloseOnExec(fd)
			if found < 0 {
				found = fd
			} else {
				unix.Close(fd)
			}
		}
	}
	return found, failed
}

func (l *link) close() { l.conn.Close() }

func closeFD(fd int) {
	if fd >= 0 {
		unix.Close(fd)
	}
}

var errNoDescriptor = errors.New("no descriptor came with the message: the limit of open files may be reached (LimitNOFILE= in the unit, ulimit -n)")

// connOf makes a net.Conn of a descriptor, which it consumes in any case.
func connOf(fd int) (net.Conn, error) {
	if fd < 0 {
		return nil, errNoDescriptor
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("take over connection: %w", err)
	}
	file := os.NewFile(uintptr(fd), "connection")
	defer file.Close()
	conn, err := net.FileConn(file)
	if err != nil {
		return nil, fmt.Errorf("take over connection: %w", err)
	}
	return conn, nil
}

// peerOf returns the credentials of who opened conn.
func peerOf(conn *net.UnixConn) (*unix.Ucred, error) {
	rc, err := conn.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("ask for the peer of a connection: %w", err)
	}
	var cred *unix.Ucred
	var failed error
	if err := rc.Control(func(fd uintptr) {
		cred, failed = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		failed = err
	}
	if failed != nil {
		return nil, fmt.Errorf("ask for the peer of a connection: %w", failed)
	}
	return cred, nil
}

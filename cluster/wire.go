package cluster

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

// The two protocols on the node's TCP port, told apart by ALPN. Each carries its version.
const (
	raftProtocol = "postraft-raft/1"
	nodeProtocol = "postraft-node/1"
)

// A node request is a frame: length uint32 (little endian, of what follows), kind byte, payload. Its answer
// is a frame with an answer kind. A connection carries one request at a time.
const (
	askPropose   = 1 // encoded command; answer: position
	askReadIndex = 2 // nothing; answer: position
	askStatus    = 3 // JSON statusQuestion; answer: JSON peerStatus
	askPledge    = 4 // JSON pledge; answer: nothing
	askRemove    = 5 // JSON removal; answer: nothing
	askTransfer  = 6 // JSON transfer; answer: nothing

	askCheckpoints = 7 // nothing; answer: JSON []fsm.Checkpoint
	askDiscard     = 8 // JSON discardOrder; answer: nothing

	askReach = 9 // JSON reachQuestion; answer: JSON reachAnswer

	askKeyring = 16 // JSON keyringOrder; answer: JSON KeyringMember

	answerOK        = 0
	answerNotLeader = 1 // surely nothing was done
	answerUnknown   = 2 // it may have been done; text
	answerRefused   = 3 // surely nothing was done, and trying again is no use; text
)

const (
	maxFrame       = 4 << 20
	trustedFrame   = 64 << 10         // its memory is taken before it has come
	requestTimeout = 10 * time.Second // of a request whose caller sets no deadline
	idleTimeout    = 2 * time.Minute  // of a connection in the pool
	dialTimeout    = 2 * time.Second
)

// A position is a committed entry: its index and term, encoded as two uint64.
type position struct{ Index, Term uint64 }

func (p position) encode() []byte {
	return binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(nil, p.Index), p.Term)
}

func decodePosition(b []byte) (position, error) {
	if len(b) != 16 {
		return position{}, fmt.Errorf("answer of %d bytes, want 16", len(b))
	}
	return position{binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:])}, nil
}

// errNotLeader and errUnknown are how a request can fail: surely not done, or perhaps done.
var (
	errNotLeader = errors.New("not the leader")
	errUnknown   = errors.New("outcome unknown")
)

func writeFrame(w io.Writer, kind byte, payload []byte) error {
	head := make([]byte, 5, 5+len(payload))
	binary.LittleEndian.PutUint32(head, uint32(len(payload)+1))
	head[4] = kind
	_, err := w.Write(append(head, payload...))
	return err
}

func readFrame(r io.Reader) (kind byte, payload []byte, err error) {
	var head [5]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	n := binary.LittleEndian.Uint32(head[:])
	if n < 1 || n > maxFrame {
		return 0, nil, fmt.Errorf("frame of %d bytes", n)
	}
	if n <= trustedFrame {
		payload = make([]byte, n-1)
		_, err = io.ReadFull(r, payload)
		return head[4], payload, err
	}
	var grows bytes.Buffer // with what comes, for the length alone is cheap to send
	if _, err := io.CopyN(&grows, r, int64(n-1)); err != nil {
		return 0, nil, err
	}
	return head[4], grows.Bytes(), nil
}

// peers sends requests to other nodes over pooled connections.
type peers struct {
	port *port

	dialing sync.WaitGroup

	mu      sync.Mutex
	idle    map[string][]*peerConn
	warming map[string]bool
	closed  bool
}

type peerConn struct {
	*session
	r    *bufio.Reader
	used time.Time
}

func newPeers(p *port) *peers {
	return &peers{port: p, idle: map[string][]*peerConn{}, warming: map[string]bool{}}
}

// ask sends a request to the node at address, which is as in port.dial. An error is errNotLeader or ErrRefused where nothing was done,
// errUnknown where something may have been. A connection from the pool may have been closed by the other end;
// every request may arrive twice without harm, so it is then sent again over a new one.
func (p *peers) ask(ctx context.Context, address string, kind byte, payload []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	defer func() {
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			p.warm(address)
		}
	}()
	var unknown error // of the first try: what a second one says does not undo it
	if c := p.take(address); c != nil {
		body, err := p.roundtrip(ctx, c, address, kind, payload)
		if !errors.Is(err, errUnknown) || ctx.Err() != nil {
			return body, err
		}
		unknown = err
	}
	c, err := p.port.dial(ctx, address, nodeProtocol)
	if err != nil {
		if unknown != nil {
			return nil, fmt.Errorf("%w; then %w", unknown, err)
		}
		return nil, fmt.Errorf("%w: %w", errNotLeader, err)
	}
	body, err := p.roundtrip(ctx, &peerConn{session: c, r: bufio.NewReader(c)}, address, kind, payload)
	if err != nil && unknown != nil {
		return nil, fmt.Errorf("%w; then %v", unknown, err)
	}
	return body, err
}

// warm opens a connection for the pool, unless there is one or one is being opened. It is for requests that ran out of time:
// a new connection takes three times as long as a request, and where the way is long, requests with short deadlines would
// never get there if each of them began anew.
func (p *peers) warm(address string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.warming[address] || len(p.idle[address]) > 0 {
		return
	}
	p.warming[address] = true
	p.dialing.Go(func() {
		ctx, cancel := context.WithTimeout(p.port.ctx, 2*dialTimeout)
		defer cancel()
		c, err := p.port.dial(ctx, address, nodeProtocol)
		p.mu.Lock()
		delete(p.warming, address)
		p.mu.Unlock()
		if err == nil {
			p.give(address, &peerConn{session: c, r: bufio.NewReader(c)})
		}
	})
}

func (p *peers) roundtrip(ctx context.Context, c *peerConn, address string, kind byte, payload []byte) ([]byte, error) {
	deadline, _ := ctx.Deadline()
	c.SetDeadline(deadline)
	stop := context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })
	err := writeFrame(c, kind, payload)
	var answer byte
	var body []byte
	if err == nil {
		answer, body, err = readFrame(c.r)
	}
	if !stop() || err != nil {
		c.Close()
		if err == nil {
			err = context.Cause(ctx)
		}
		return nil, fmt.Errorf("%w: ask %s: %w", errUnknown, address, err)
	}
	p.give(address, c)
	switch answer {
	case answerOK:
		return body, nil
	case answerNotLeader:
		return nil, errNotLeader
	case answerRefused:
		return nil, fmt.Errorf("%w: %s", ErrRefused, body)
	default:
		return nil, fmt.Errorf("%w: %s", errUnknown, body)
	}
}

// askJSON asks with a JSON request and reads a JSON answer where want is not nil.
func (p *peers) askJSON(ctx context.Context, address string, kind byte, request, want any) error {
	payload, err := json.Marshal(request)
	if err != nil {
		return err
	}
	body, err := p.ask(ctx, address, kind, payload)
	if err != nil || want == nil {
		return err
	}
	if err := json.Unmarshal(body, want); err != nil {
		return fmt.Errorf("answer of %s: %w", address, err)
	}
	return nil
}

// take returns an idle connection, nil if there is none.
func (p *peers) take(address string) *peerConn {
	p.mu.Lock()
	defer p.mu.Unlock()
	for list := p.idle[address]; len(list) > 0; list = p.idle[address] {
		c := list[len(list)-1]
		p.idle[address] = list[:len(list)-1]
		if time.Since(c.used) < idleTimeout && !c.ended() {
			return c
		}
		c.Close()
	}
	return nil
}

func (p *peers) give(address string, c *peerConn) {
	const most = 4
	c.used = time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || len(p.idle[address]) >= most {
		c.Close()
		return
	}
	p.idle[address] = append(p.idle[address], c)
}

// close is called when the port is closed, which ends what dials.
func (p *peers) close() {
	defer p.dialing.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, list := range p.idle {
		for _, c := range list {
			c.Close()
		}
	}
	p.idle = nil
}

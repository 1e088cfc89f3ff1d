package handoff

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A crowd is many Postfix processes that ask all the time.
type crowd struct {
	t *testing.T
	f *front

	stop    atomic.Bool
	wg      sync.WaitGroup
	asked   atomic.Int64
	retries atomic.Int64
	broken  atomic.Int64 // connections
	worst   atomic.Int64 // nanoseconds
}

// gather starts n clients. Each sends its requests in two parts, or two and a half at once, or whole, and wants
// its own answers in order.
func gather(t *testing.T, f *front, n int) *crowd {
	c := &crowd{t: t, f: f}
	for i := range n {
		c.wg.Go(func() { c.client(i) })
	}
	t.Cleanup(c.end)
	return c
}

func (c *crowd) end() {
	c.stop.Store(true)
	c.wg.Wait()
}

func (c *crowd) client(i int) {
	var conn *testClient
	var err error
	defer func() {
		if conn != nil {
			conn.Close()
		}
	}()
	for n := 0; !c.stop.Load(); n++ {
		began := time.Now()
		for {
			if conn == nil {
				if conn, err = c.f.connect(); err != nil {
					c.t.Error(err)
					return
				}
			}
			if err = c.exchange(conn, i, n); err == nil {
				break
			}
			if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, errWrong) {
				c.t.Errorf("client %d: request %d: %v", i, n, err)
				return
			}
			if c.broken.Add(1) < 5 {
				c.t.Logf("client %d: request %d: after %v: %v", i, n, time.Since(began), err)
			}
			conn.Close()
			conn = nil
		}
		took := int64(time.Since(began))
		for worst := c.worst.Load(); took > worst && !c.worst.CompareAndSwap(worst, took); worst = c.worst.Load() {
		}
	}
}

var errWrong = errors.New("wrong answer")

// exchange sends one or more requests and reads their answers.
func (c *crowd) exchange(conn *testClient, i, n int) error {
	keys := []string{fmt.Sprintf("a%d-%d", i, n), fmt.Sprintf("b%d-%d", i, n), fmt.Sprintf("c%d-%d", i, n)}
	text := lookup(keys[0])
	switch how := (i + n) % 4; how {
	case 0, 1:
		keys = keys[:1]
	case 2:
		text += lookup(keys[1])
		keys = keys[:2]
	case 3:
		text += lookup(keys[1]) + lookup(keys[2])
	}
	cut := len(text)
	if (i+n)%4 != 0 {
		cut -= (i*7 + n) % (len(text) / len(keys))
	}
	if _, err := io.WriteString(conn, text[:cut]); err != nil {
		return err
	}
	if cut < len(text) {
		time.Sleep(time.Duration(n%3) * time.Millisecond) // a slow client
		if _, err := io.WriteString(conn, text[cut:]); err != nil {
			return err
		}
	}
	for _, key := range keys {
		who, err := conn.answer(key)
		switch {
		case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, unix.ECONNRESET) || errors.Is(err, os.ErrDeadlineExceeded):
			return err
		case err != nil:
			return fmt.Errorf("%w: %v", errWrong, err)
		case who == "front":
			c.retries.Add(1)
		}
		c.asked.Add(1)
	}
	return nil
}

// progress waits for answers of an agent.
func (c *crowd) progress(n int64) {
	c.t.Helper()
	from := c.asked.Load()
	within(c.t, 20*time.Second, "answers", func() error {
		if got := c.asked.Load() - from; got < n {
			return fmt.Errorf("%d answers", got)
		}
		return nil
	})
}

func (c *crowd) wantWorst(limit time.Duration) {
	c.t.Helper()
	worst := time.Duration(c.worst.Load())
	c.t.Logf("%d answers, %d of them RETRY, %d connections broken, the slowest answer after %v", c.asked.Load(), c.retries.Load(), c.broken.Load(), worst)
	if worst > limit {
		c.t.Errorf("slowest answer after %v, want %v", worst, limit)
	}
}

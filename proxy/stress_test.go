package proxy_test

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"postraft/dict"
	"postraft/proxy"
)

// TestServeHandover_Random ensures that clients that do as they like, with requests pipelined, cut anywhere and half
// closed behind the last one, get each reply once, in order and right, while two servers take their connections from each
// other at any moment. Some stay with one server: the next one would make up for what it does not wake up for.
func TestServeHandover_Random(t *testing.T) {
	cfg := proxy.Config{WriteTimeout: time.Hour} // it must not make up for a write whose end was missed
	first := serve(t, cfg, nil)
	cfg.Tables = first.tables
	second := serve(t, cfg, nil)
	first.tables.set("t", table{entries: map[string]string{}})
	first.tables.set("bad", table{err: dict.ErrRetry})
	const clients, rounds = 24, 60
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	var all sync.WaitGroup
	for id := range clients {
		r, stays := first.relay(t), id%3 == 0
		random := rand.New(rand.NewPCG(seed, uint64(id)))
		all.Go(func() {
			if err := converse(r, rand.New(rand.NewPCG(seed, uint64(id+clients))), id, rounds, stays); err != nil {
				t.Errorf("client %d: %v", id, err)
				r.Close()
			}
		})
		all.Go(func() {
			// The test holds a descriptor too, so that the end of the last server's is not seen by the client.
			defer unix.Shutdown(r.fd, unix.SHUT_RDWR)
			for turn := 0; ; turn++ {
				r.h = []*harness{first, second}[turn%2]
				end, clean := r.serve()
				var next <-chan time.Time
				if !stays {
					next = time.After(time.Duration(random.IntN(3000)) * time.Microsecond)
				}
				select {
				case <-clean: // the client has sent its last; if not, it will say so
					return
				case <-next:
				}
				end()
				select {
				case ok := <-clean:
					if !ok { // it saw the end first
						return
					}
				case <-time.After(10 * time.Second):
					t.Errorf("client %d: the server does not end", id)
					return
				}
			}
		})
	}
	all.Wait()
}

// converse sends random requests and compares all that comes with what a model says. A patient client sends the next batch
// when it has the replies to the last one.
func converse(r *relay, random *rand.Rand, id, rounds int, patient bool) error {
	has := map[string]string{}
	wanted := make(chan string, rounds)
	sent := make(chan error, 1)
	batches := make([]string, rounds)
	for i := range batches {
		var requests, replies strings.Builder
		for range 1 + random.IntN(1+random.IntN(80)) {
			key := fmt.Sprintf("c%d-%d", id, random.IntN(8))
			switch value, there := has[key]; random.IntN(8) {
			case 0:
				has[key] = strings.Repeat(fmt.Sprint(random.IntN(10)), random.IntN(3000))
				fmt.Fprintf(&requests, "request|update|table|raft:t|flags|0|key|%s|value|%s||", key, has[key])
				replies.WriteString("status|0||")
			case 1:
				delete(has, key)
				fmt.Fprintf(&requests, "request|delete|table|raft:t|flags|0|key|%s||", key)
				replies.WriteString(map[bool]string{true: "status|0||", false: "status|1||"}[there])
			case 2:
				fmt.Fprintf(&requests, "request|lookup|table|raft:bad|flags|0|key|%s||", key)
				replies.WriteString("status|2|value|||")
			default:
				fmt.Fprintf(&requests, "request|lookup|table|raft:t|flags|0|key|%s||", key)
				replies.WriteString(map[bool]string{true: "status|0|value|" + value + "||", false: "status|1|value|||"}[there])
			}
		}
		batches[i] = requests.String()
		wanted <- replies.String()
	}
	close(wanted)
	taken := make(chan struct{}, rounds)
	defer close(taken)
	pauses := rand.New(rand.NewPCG(random.Uint64(), 0))
	go func() {
		for _, batch := range batches {
			for raw := []byte(strings.ReplaceAll(batch, "|", "\x00")); len(raw) > 0; {
				n := 1 + pauses.IntN(len(raw))
				if _, err := r.Write(raw[:n]); err != nil {
					sent <- err
					return
				}
				if raw = raw[n:]; pauses.IntN(4) == 0 {
					time.Sleep(time.Duration(pauses.IntN(1500)) * time.Microsecond)
				}
			}
			if patient {
				<-taken
			}
		}
		sent <- r.Conn.(*net.UnixConn).CloseWrite()
	}()
	if err := expect(r, "protocol|proxymap_protocol||"); err != nil {
		return err
	}
	i := 0
	for want := range wanted {
		if err := expect(r, want); err != nil {
			return fmt.Errorf("batch %d: %w", i, err)
		}
		i++
		taken <- struct{}{}
	}
	if err := <-sent; err != nil {
		return err
	}
	r.SetReadDeadline(time.Now().Add(10 * time.Second))
	if n, _ := r.Read(make([]byte, 1)); n > 0 || len(r.buf) > 0 {
		return fmt.Errorf("more came than was asked for")
	}
	return nil
}

func expect(r *relay, want string) error {
	r.SetReadDeadline(time.Now().Add(10 * time.Second))
	for len(r.buf) < len(want) {
		b := make([]byte, 4096)
		n, err := r.Read(b)
		r.buf = append(r.buf, b[:n]...)
		if err != nil {
			return fmt.Errorf("%d bytes of %d came: %w", len(r.buf), len(want), err)
		}
	}
	got := strings.ReplaceAll(string(r.buf[:len(want)]), "\x00", "|")
	r.buf = r.buf[len(want):]
	if got != want {
		at := 0
		for got[at] == want[at] {
			at++
		}
		return fmt.Errorf("at byte %d: got %.80q, want %.80q", at, got[at:], want[at:])
	}
	return nil
}

package proxy_test

import (
	"context"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"postraft/proxy"
)

// TestStock_Ages ensures that a connection to the stock service is used again, but not for long: only a new one has the
// service look for tables whose files have changed.
func TestStock_Ages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dialed := 0
		var open atomic.Int32
		s := &proxy.Stock{Dial: func(context.Context) (net.Conn, error) {
			dialed++
			open.Add(1)
			ours, theirs := net.Pipe()
			go func() { // it ends with ours
				buf := make([]byte, 64)
				for {
					if _, err := theirs.Read(buf); err != nil {
						open.Add(-1)
						return
					}
					theirs.Write([]byte("status\x000\x00\x00"))
				}
			}()
			return ours, nil
		}}
		for _, step := range []struct {
			wait time.Duration
			want int
		}{{0, 1}, {4 * time.Second, 1}, {2 * time.Second, 2}, {4 * time.Second, 2}, {time.Hour, 3}} {
			time.Sleep(step.wait)
			if reply, err := s.Forward(t.Context(), nil, []byte("request\x00\x00")); err != nil || string(reply) != "status\x000\x00\x00" {
				t.Fatalf("%q, %v", reply, err)
			}
			synctest.Wait()
			if dialed != step.want || open.Load() > 1 {
				t.Errorf("%v later: %d connections were made, want %d; %d are open", step.wait, dialed, step.want, open.Load())
			}
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if n := open.Load(); n != 0 {
			t.Errorf("%d connections are open that nobody has asked for since", n)
		}
		s.Forward(t.Context(), nil, []byte("request\x00\x00"))
		s.Close()
		synctest.Wait()
		if n := open.Load(); n != 0 {
			t.Errorf("%d connections are open in the end", n)
		}
	})
}

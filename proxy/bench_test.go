package proxy_test

import (
	"fmt"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"postraft/proxy"
)

// benchGate is what the hand-off has for a gate: one word.
type benchGate struct{ state atomic.Uint32 }

func (g *benchGate) Enter() bool { return g.state.CompareAndSwap(0, 1) }
func (g *benchGate) Leave()      { g.state.Store(0) }

// BenchmarkLookup measures lookups over a Unix socket, on connections of its own and on those that another
// server may get, beside an echo of the same bytes, the limit of any such server in Go, by number of
// connections.
func BenchmarkLookup(b *testing.B) {
	h := serve(b, proxy.Config{}, nil)
	h.tables.set("t", table{always: "mailbox@host.example.net"})
	request := []byte("request\x00lookup\x00table\x00raft:t\x00flags\x00524352\x00key\x00user0001@example.com\x00\x00")
	reply := len("status|0|value|mailbox@host.example.net||")
	echo := filepath.Join(b.TempDir(), "echo")
	ln, err := net.Listen("unix", echo)
	if err != nil {
		b.Fatal(err)
	}
	defer ln.Close()
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				buf := make([]byte, 4096)
				for {
					if _, err := c.Read(buf); err != nil {
						return
					}
					if _, err := c.Write(buf[:reply]); err != nil {
						return
					}
				}
			}()
		}
	}()
	gated := filepath.Join(b.TempDir(), "gated")
	gatedLn, err := net.Listen("unix", gated)
	if err != nil {
		b.Fatal(err)
	}
	defer gatedLn.Close()
	go func() {
		for {
			c, err := gatedLn.Accept()
			if err != nil {
				return
			}
			go func() {
				fd := takeFD(b, c)
				defer unix.Close(fd)
				h.server.ServeHandover(b.Context(), fd, h.svc, 0, &proxy.Handover{Announced: true, Gate: &benchGate{}})
			}()
		}
	}()
	for _, conns := range []int{1, 8, 64} {
		for _, peer := range []string{"postraft", "gated", "echo"} {
			b.Run(fmt.Sprintf("%d/%s", conns, peer), func(b *testing.B) {
				b.ReportAllocs()
				var next atomic.Int64
				var tasks sync.WaitGroup
				for range conns {
					var c net.Conn
					if peer != "postraft" {
						if c, err = net.Dial("unix", map[string]string{"echo": echo, "gated": gated}[peer]); err != nil {
							b.Fatal(err)
						}
						b.Cleanup(func() { c.Close() })
					} else {
						c = h.dial().Conn
					}
					tasks.Go(func() {
						buf := make([]byte, 4096)
						for next.Add(1) <= int64(b.N) {
							if _, err := c.Write(request); err != nil {
								b.Error(err)
								return
							}
							if n, err := c.Read(buf); err != nil || n != reply {
								b.Error(n, err)
								return
							}
						}
					})
				}
				tasks.Wait()
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "lookups/s")
			})
		}
	}
}

package proxy_test

import (
	"fmt"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"postraft/proxy"
)

// BenchmarkLookup measures lookups over a Unix socket beside an echo of the same bytes, the limit of any
// such server in Go, by number of connections.
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
	for _, conns := range []int{1, 8, 64} {
		for _, peer := range []string{"postraft", "echo"} {
			b.Run(fmt.Sprintf("%d/%s", conns, peer), func(b *testing.B) {
				b.ReportAllocs()
				var next atomic.Int64
				var tasks sync.WaitGroup
				for range conns {
					var c net.Conn
					if peer == "echo" {
						if c, err = net.Dial("unix", echo); err != nil {
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

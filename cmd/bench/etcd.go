package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os/exec"
	"strings"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/protobuf/encoding/protowire"
)

// missingEtcd says why there can be no etcd, empty where there can.
func missingEtcd() string {
	if _, err := exec.LookPath("etcd"); err != nil {
		return "etcd is not installed"
	}
	return ""
}

// etcd starts a cluster of three, with etcd's own defaults, and returns the client addresses.
func (l *lab) etcd() (clients []string, server processes, err error) {
	ports, err := freePorts(6)
	if err != nil {
		return nil, nil, err
	}
	clients, peers := ports[:3], ports[3:]
	var initial []string
	for i, p := range peers {
		initial = append(initial, fmt.Sprintf("e%d=http://%s", i, p))
	}
	var all []processes
	for i := range clients {
		d, err := l.daemon(fmt.Sprintf("e%d", i), "etcd", "--name", fmt.Sprintf("e%d", i), "--data-dir", l.path(fmt.Sprintf("e%dd", i)),
			"--listen-client-urls", "http://"+clients[i], "--advertise-client-urls", "http://"+clients[i],
			"--listen-peer-urls", "http://"+peers[i], "--initial-advertise-peer-urls", "http://"+peers[i],
			"--initial-cluster", strings.Join(initial, ","), "--initial-cluster-state", "new", "--log-level", "error")
		if err != nil {
			return nil, nil, err
		}
		all = append(all, d.processes)
	}
	for _, address := range clients {
		err := l.until(30*time.Second, "etcd", func() error {
			c, err := dialEtcd(address, 1)
			if err != nil {
				return err
			}
			defer c.close()
			return c.call(rand.New(rand.NewPCG(1, 1)))
		})
		if err != nil {
			return nil, nil, err
		}
	}
	return clients, join(all...), nil
}

// An etcdCaller puts random keys through gRPC, on one connection, with as little work as that takes: the frames of
// HTTP/2 by hand, one stream at a time.
type etcdCaller struct {
	conn    net.Conn
	framer  *http2.Framer
	out     bytes.Buffer // of the framer
	headers []byte
	stream  uint32
	entries int
	body    []byte
	key     int // where the numbers begin in body
	value   int
	made    int
	unread  uint32 // bytes of data that the server does not know to be taken
}

func dialEtcd(address string, entries int) (*etcdCaller, error) {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	c := &etcdCaller{conn: conn, stream: 1, entries: entries}
	c.framer = http2.NewFramer(&c.out, conn)
	c.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	encoder.SetMaxDynamicTableSize(0) // the same bytes for each request
	for _, h := range [][2]string{
		{":method", "POST"}, {":scheme", "http"}, {":path", "/etcdserverpb.KV/Put"}, {":authority", address},
		{"content-type", "application/grpc"}, {"te", "trailers"},
	} {
		encoder.WriteField(hpack.HeaderField{Name: h[0], Value: h[1]})
	}
	c.headers = block.Bytes()
	key, value := fmt.Sprintf(keyFormat, 0), fmt.Sprintf(valueFormat, 0)
	message := protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), []byte(key))
	message = protowire.AppendBytes(protowire.AppendTag(message, 2, protowire.BytesType), []byte(value))
	c.body = append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message))), message...)
	c.key = bytes.Index(c.body, []byte(key)) + digitsOfKey
	c.value = bytes.Index(c.body, []byte(value)) + len("mailbox")
	c.out.WriteString(http2.ClientPreface)
	c.framer.WriteSettings()
	return c, nil
}

func (c *etcdCaller) call(r *rand.Rand) error {
	put(c.body[c.key:], r.IntN(c.entries))
	c.made++
	put(c.body[c.value:], c.made)
	stream := c.stream
	c.stream += 2
	c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: c.headers, EndHeaders: true})
	c.framer.WriteData(stream, true, c.body)
	for {
		if _, err := c.out.WriteTo(c.conn); err != nil {
			return err
		}
		frame, err := c.framer.ReadFrame()
		if err != nil {
			return err
		}
		switch f := frame.(type) {
		case *http2.SettingsFrame:
			if !f.IsAck() {
				c.framer.WriteSettingsAck()
			}
		case *http2.PingFrame:
			if !f.IsAck() {
				c.framer.WritePing(true, f.Data)
			}
		case *http2.DataFrame:
			if c.unread += f.Length; c.unread > 1<<14 {
				c.framer.WriteWindowUpdate(0, c.unread)
				c.unread = 0
			}
		case *http2.GoAwayFrame:
			return fmt.Errorf("etcd goes away: %v", f.ErrCode)
		case *http2.RSTStreamFrame:
			return fmt.Errorf("etcd resets the stream: %v", f.ErrCode)
		case *http2.MetaHeadersFrame:
			if !f.StreamEnded() {
				continue
			}
			for _, h := range f.RegularFields() {
				if h.Name == "grpc-status" && h.Value == "0" {
					return nil
				}
			}
			return errors.New("etcd refuses a put: " + fmt.Sprint(f.Fields))
		}
	}
}

func (c *etcdCaller) close() { c.conn.Close() }

package e2e

import (
	"bufio"
	"fmt"
	"net"
	"net/textproto"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A sink is an SMTP server that takes every message.
type sink struct {
	port int
	busy atomic.Bool // recipients are put off

	mu   sync.Mutex // guards what follows
	mail []delivered
}

// delivered is a message as it left Postfix.
type delivered struct {
	recipients []string
	text       string
}

func newSink(t *testing.T) *sink {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &sink{port: ln.Addr().(*net.TCPAddr).Port}
	var conns sync.WaitGroup
	conns.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			conns.Go(func() {
				defer conn.Close()
				conn.SetDeadline(time.Now().Add(time.Minute))
				s.serve(textproto.NewConn(conn))
			})
		}
	})
	t.Cleanup(func() { ln.Close() })
	return s
}

func (s *sink) serve(c *textproto.Conn) {
	c.PrintfLine("220 sink")
	var now delivered
	for {
		line, err := c.ReadLine()
		if err != nil {
			return
		}
		switch verb, rest, _ := strings.Cut(line, " "); strings.ToUpper(verb) {
		case "EHLO", "HELO", "MAIL", "RSET", "NOOP":
			now = delivered{}
			c.PrintfLine("250 ok")
		case "RCPT":
			_, address, _ := strings.Cut(rest, "<")
			address, _, _ = strings.Cut(address, ">")
			if s.busy.Load() {
				c.PrintfLine("451 4.3.2 busy")
				continue
			}
			now.recipients = append(now.recipients, address)
			c.PrintfLine("250 ok")
		case "DATA":
			c.PrintfLine("354 go on")
			text, err := c.ReadDotBytes()
			if err != nil {
				return
			}
			now.text = string(text)
			s.mu.Lock()
			s.mail = append(s.mail, now)
			s.mu.Unlock()
			c.PrintfLine("250 taken")
		case "QUIT":
			c.PrintfLine("221 bye")
			return
		default:
			c.PrintfLine("502 no such verb")
		}
	}
}

// received returns the message with the marker in its text.
func (s *sink) received(marker string) (delivered, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range s.mail {
		if strings.Contains(d.text, marker) {
			return d, nil
		}
	}
	return delivered{}, fmt.Errorf("message %s not among %d delivered", marker, len(s.mail))
}

// dialog sends SMTP commands in one session and returns the last line of each reply.
func (p *postfix) dialog(commands ...string) ([]string, error) {
	conn, err := net.Dial("tcp", "127.0.0.1:"+strconv.Itoa(p.smtp))
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(30 * time.Second))
	in := bufio.NewReader(conn)
	var replies []string
	for _, c := range append([]string{""}, commands...) {
		if c != "" {
			if _, err := fmt.Fprintf(conn, "%s\r\n", c); err != nil {
				return replies, err
			}
		}
		for {
			line, err := in.ReadString('\n')
			if err != nil {
				return replies, fmt.Errorf("after %q: %w", c, err)
			}
			if len(line) < 4 || line[3] != '-' {
				if c != "" {
					replies = append(replies, strings.TrimSpace(line))
				}
				break
			}
		}
	}
	return replies, nil
}

// rcpt returns smtpd's answer to a recipient.
func (p *postfix) rcpt(sender, recipient string) (string, error) {
	replies, err := p.dialog("EHLO client.test", "MAIL FROM:<"+sender+">", "RCPT TO:<"+recipient+">", "QUIT")
	if len(replies) < 3 {
		return "", fmt.Errorf("replies %q: %w", replies, err)
	}
	return replies[2], nil
}

// wantRcpt waits for an answer that begins with want.
func (p *postfix) wantRcpt(sender, recipient, want string) {
	p.t.Helper()
	got, err := p.rcpt(sender, recipient)
	if err != nil || !strings.HasPrefix(got, want) {
		p.t.Errorf("RCPT TO:<%s>: %q, %v; want %s", recipient, got, err, want)
	}
}

// send submits a message with a marker and returns smtpd's last answer before QUIT.
func (p *postfix) send(recipient, marker string) (string, error) {
	replies, err := p.dialog("EHLO client.test", "MAIL FROM:<someone@sender.test>", "RCPT TO:<"+recipient+">", "DATA",
		"Subject: "+marker+"\r\n\r\n"+marker+"\r\n.", "QUIT")
	if len(replies) < 5 {
		return strings.Join(replies, " | "), fmt.Errorf("replies %q: %w", replies, err)
	}
	return replies[4], nil
}

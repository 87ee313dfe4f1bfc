package e2e

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"
)

// answerWithin is how long a person waits for what should come at once.
const answerWithin = 15 * time.Second

// person is somebody at a terminal with a TLS connection to the line protocol.
// It shares no code with the project's own clients.
type person struct {
	t     *testing.T
	name  string
	conn  net.Conn
	lines chan string // closed when the connection ends
}

// sitDown connects to the line protocol through the router, which finds the
// chat by the name in the TLS handshake.
func (c *chat) sitDown(t *testing.T, name string) *person {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), answerWithin)
	defer cancel()
	raw, err := c.dial(ctx, c.host+":1222")
	if err != nil {
		t.Fatalf("%s connects: %v", name, err)
	}
	conn := tls.Client(raw, c.tls())
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		t.Fatalf("%s connects: %v", name, err)
	}
	p := &person{t: t, name: name, conn: conn, lines: make(chan string, 100)}
	read := make(chan struct{})
	go func() {
		defer close(read)
		defer close(p.lines)
		for text := bufio.NewScanner(conn); text.Scan(); {
			p.lines <- text.Text()
		}
	}()
	t.Cleanup(func() {
		_ = conn.Close()
		for range p.lines { // nobody reads on: let the reader end
		}
		<-read
	})
	return p
}

// types sends a line.
func (p *person) types(line string) {
	p.t.Helper()
	p.t.Logf("%-8s > %s", p.name, line)
	_ = p.conn.SetWriteDeadline(time.Now().Add(answerWithin))
	if _, err := fmt.Fprintf(p.conn, "%s\n", line); err != nil {
		p.t.Fatalf("%s types %q: %v", p.name, line, err)
	}
}

// reads waits for a line with all of the words in it.
func (p *person) reads(words ...string) string {
	p.t.Helper()
	line, err := p.next(answerWithin, func(line string) bool {
		return !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(line, w) })
	})
	if err != nil {
		p.t.Fatalf("%s waits for a line with %q: %v", p.name, words, err)
	}
	return line
}

// next gives the next line that is wanted; others are shown and passed over.
func (p *person) next(limit time.Duration, wanted func(string) bool) (string, error) {
	timeout := time.After(limit)
	for {
		select {
		case line, ok := <-p.lines:
			if !ok {
				return "", fmt.Errorf("the connection has ended")
			}
			p.t.Logf("%-8s < %s", p.name, line)
			if wanted(line) {
				return line, nil
			}
		case <-timeout:
			return "", fmt.Errorf("none came within %v", limit)
		}
	}
}

// logsIn logs in and reads that it worked.
func (p *person) logsIn(user, password string) {
	p.t.Helper()
	p.types("LOGIN " + user + " " + password)
	answer, err := p.next(answerWithin, func(string) bool { return true })
	if err != nil || strings.HasPrefix(answer, "ERROR") {
		p.t.Fatalf("%s cannot log in: %s%v", p.name, answer, err)
	}
}

// hangsUp ends the connection in the orderly way and waits for its end.
func (p *person) hangsUp() {
	p.t.Helper()
	p.types("/quit")
	if _, err := p.next(answerWithin, func(string) bool { return false }); err == nil {
		p.t.Fatalf("%s: /quit does not end the connection", p.name)
	}
	_ = p.conn.Close()
}

// twoPodsApart seats alice and bob on two different chat pods: bob connects
// again until the pods' own metrics say that each has one of them.
func (c *chat) twoPodsApart(t *testing.T) (alice, bob *person) {
	t.Helper()
	alice = c.sitDown(t, "alice")
	alice.logsIn("alice", "password123")
	for range 20 {
		bob = c.sitDown(t, "bob")
		bob.logsIn("bob", "letmein")
		spread, err := c.spread(t.Context(), "line")
		if err != nil {
			t.Fatal(err)
		}
		apart := 0
		for _, n := range spread {
			if n == 1 {
				apart++
			}
		}
		if apart == 2 {
			t.Logf("alice and bob are on different pods: %v", spread)
			return alice, bob
		}
		bob.hangsUp()
	}
	t.Fatal("20 connections of bob all went to alice's pod")
	return nil, nil
}

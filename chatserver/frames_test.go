package chatserver_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// rawSocket is a WebSocket client that sends bytes as a test wants them cut.
type rawSocket struct {
	t  *testing.T
	nc *tls.Conn
	br *bufio.Reader

	came []rawFrame // and nobody expected it yet
}

type rawFrame struct {
	opcode  byte
	payload string
}

// dialRaw opens one, and sends what comes early right behind the handshake.
func dialRaw(t *testing.T, s *server, token string, early []byte) *rawSocket {
	t.Helper()
	nc, err := (&tls.Dialer{Config: clientTLS()}).DialContext(waiting(t), "tcp", s.https)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nc.Close() })
	if err := nc.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	c := &rawSocket{t: t, nc: nc.(*tls.Conn), br: bufio.NewReader(nc)}
	c.write(append(fmt.Appendf(nil, "GET /ws HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: chatcluster.v1\r\n"+
		"Authorization: Bearer %s\r\n\r\n", s.https, token), early...))
	resp, err := http.ReadResponse(c.br, nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("the handshake was answered with %s", resp.Status)
	}
	return c
}

func (c *rawSocket) write(b []byte) {
	c.t.Helper()
	if _, err := c.nc.Write(b); err != nil {
		c.t.Fatal(err)
	}
}

// trickle sends each byte by itself, with time between them for the server to see
// it alone.
func (c *rawSocket) trickle(b []byte) {
	c.t.Helper()
	for i := range b {
		c.write(b[i : i+1])
		time.Sleep(time.Millisecond)
	}
}

// expect waits for a frame with the opcode and the text. Answers and deliveries do
// not wait for each other, so others may come before it.
func (c *rawSocket) expect(opcode byte, text string) {
	c.t.Helper()
	for i := 0; ; i++ {
		if i == len(c.came) {
			c.read(text)
		}
		if f := c.came[i]; f.opcode == opcode && strings.Contains(f.payload, text) {
			c.came = slices.Delete(c.came, i, i+1)
			return
		}
	}
}

// expectPeace fails if anything, an end included, comes within a moment.
func (c *rawSocket) expectPeace() {
	c.t.Helper()
	if err := c.nc.SetReadDeadline(time.Now().Add(200 * time.Millisecond)); err != nil {
		c.t.Fatal(err)
	}
	if _, err := c.br.Peek(1); !errors.Is(err, os.ErrDeadlineExceeded) {
		c.t.Errorf("something came, or the end: %v", err)
	}
}

func (c *rawSocket) read(what string) {
	c.t.Helper()
	head := make([]byte, 2)
	if _, err := io.ReadFull(c.br, head); err != nil {
		c.t.Fatalf("wait for %q, after %v: %v", what, c.came, err)
	}
	length := int(head[1])
	if length == 126 {
		var long [2]byte
		if _, err := io.ReadFull(c.br, long[:]); err != nil {
			c.t.Fatal(err)
		}
		length = int(binary.BigEndian.Uint16(long[:]))
	}
	payload := make([]byte, length)
	if _, err := io.ReadFull(c.br, payload); err != nil {
		c.t.Fatal(err)
	}
	c.came = append(c.came, rawFrame{head[0] & 0x0f, string(payload)})
}

const (
	opContinuation = 0x0
	opText         = 0x1
	opClose        = 0x8
	opPing         = 0x9
	opPong         = 0xa
	lastFrame      = 0x80
)

// frame is a masked one; the mask of zeros leaves the text as it is.
func frame(first byte, text string) []byte {
	b := []byte{first}
	if len(text) < 126 {
		b = append(b, 0x80|byte(len(text)))
	} else {
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(len(text)))
	}
	return append(append(b, 0, 0, 0, 0), text...)
}

func TestFramesArriveWholeHoweverTheyAreCut(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		user, room := newUser(t, w.store, "cutter"), unique("room")
		join := frame(lastFrame|opText, fmt.Sprintf(`{"type":"join","room":%q,"id":"j"}`, room))
		c := dialRaw(t, w.one, login(t, w.one, user), join)
		c.expect(opText, `"type":"joined"`)

		said := 0
		say := func(text string) string {
			said++ // the same id would be the same message, sent again
			return fmt.Sprintf(`{"type":"message","room":%q,"id":"m%d","message":%q}`, room, said, text)
		}
		t.Log("byte by byte, a short and a long one")
		for _, text := range []string{"short", strings.Repeat("long ", 60) + "end"} {
			c.trickle(frame(lastFrame|opText, say(text)))
			c.expect(opText, `"message":"`+text)
		}

		t.Log("in three frames, with pings between them")
		whole := say("in pieces")
		c.trickle(frame(opText, whole[:5]))
		c.trickle(frame(lastFrame|opPing, "one"))
		c.expect(opPong, "one")
		c.write(append(frame(opContinuation, whole[5:20]), frame(lastFrame|opPing, "two")...))
		c.expect(opPong, "two")
		c.trickle(frame(lastFrame|opContinuation, whole[20:]))
		c.expect(opText, "in pieces")

		t.Log("many in one write, a ping and the beginning of the next among them")
		var many bytes.Buffer
		for i := range 5 {
			many.Write(frame(lastFrame|opText, say(fmt.Sprint("together ", i))))
		}
		many.Write(frame(lastFrame|opPing, "three"))
		next := frame(lastFrame|opText, say("the next"))
		many.Write(next[:1])
		c.write(many.Bytes())
		for i := range 5 {
			c.expect(opText, fmt.Sprint("together ", i))
		}
		c.expect(opPong, "three")
		c.trickle(next[1:])
		c.expect(opText, "the next")
	})
}

// A server that closed its end before the client has answered the farewell would have
// the network throw away what the client has not read yet.
func TestWhoIsTurnedAwayIsWaitedFor(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		user := newUser(t, w.store, "twice")
		connect(t, w.one, user).expect(map[string]any{"type": "userList"})
		c := dialRaw(t, w.two, login(t, w.two, user), nil)
		c.expect(opText, "already_online")
		c.expect(opClose, "online elsewhere")
		c.expectPeace()
	})
}

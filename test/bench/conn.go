//go:build linux

package main

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// conn is a WebSocket client that costs as little as it can: on two cores that
// it shares with the server under test, what it takes the server does not get.
// It reads what there is in one system call, and looks for a few words in a
// frame instead of decoding it.
type conn struct {
	nc      net.Conn
	room    *place
	figures *figures
	rest    []byte // of a frame that has not come whole; the reader's alone

	writing sync.Mutex
	window  chan struct{} // holds one for each message without an acknowledgement; nil: nobody counts

	joined chan struct{} // closed with the first "joined"
	gone   chan struct{} // closed when the reader has ended
	reason error         // why; read after gone

	// The position in the room; the reader's alone, until gone.
	epoch  string
	offset uint64
	lost   bool // the server could not resume
}

// place is a room and how many connections of the load are in it.
type place struct {
	name    string
	members atomic.Int64
}

// open connects, does the handshake, joins the room, and waits for the answer.
// Without a token it is the baseline's member, who is in its only room at once.
func open(target Target, m Member, p *place, f *figures, from *conn) (*conn, error) {
	c := &conn{room: p, figures: f, joined: make(chan struct{}), gone: make(chan struct{})}
	join := map[string]any{"type": "join", "room": m.Room}
	if from != nil {
		c.epoch, c.offset = from.epoch, from.offset
		join["epoch"], join["offset"] = c.epoch, c.offset
	}
	if err := c.dial(target, m.Token, nil); err != nil {
		return nil, err
	}
	go c.read()
	if m.Token == "" {
		return c, nil
	}
	if err := c.send(encode(join)); err != nil {
		return nil, errors.Join(err, c.nc.Close())
	}
	select {
	case <-c.joined:
		return c, nil
	case <-c.gone:
		return nil, c.reason
	case <-time.After(patience):
		_ = c.nc.Close()
		return nil, fmt.Errorf("the server does not answer a join within %s", patience)
	}
}

// patience bounds what should take moments.
const patience = 30 * time.Second

func (c *conn) dial(target Target, token string, control func(network, address string, c syscall.RawConn) error) error {
	nc, err := (&net.Dialer{Timeout: patience, Control: control}).Dial("tcp", target.Addr)
	if err != nil {
		return err
	}
	c.nc = nc
	if target.TLS {
		c.nc = tls.Client(nc, &tls.Config{InsecureSkipVerify: true}) // its certificate is made for this run
	}
	if err := c.handshake(target.Addr, token); err != nil {
		return errors.Join(err, nc.Close())
	}
	return nil
}

func (c *conn) handshake(host, token string) error {
	_ = c.nc.SetDeadline(time.Now().Add(patience))
	auth := ""
	if token != "" {
		auth = "Authorization: Bearer " + token + "\r\n"
	}
	_, err := fmt.Fprintf(c.nc, "GET /ws HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"+
		"Sec-WebSocket-Protocol: chatcluster.v1\r\n%s\r\n", host, auth)
	if err != nil {
		return err
	}
	var answer []byte
	buf := make([]byte, 1024)
	for {
		n, err := c.nc.Read(buf)
		answer = append(answer, buf[:n]...)
		if head, rest, whole := bytes.Cut(answer, []byte("\r\n\r\n")); whole {
			if !bytes.HasPrefix(head, []byte("HTTP/1.1 101 ")) {
				status, _, _ := strings.Cut(string(head), "\r\n")
				return fmt.Errorf("the handshake was refused: %s: %s", status, rest)
			}
			c.rest = bytes.Clone(rest)
			return c.nc.SetDeadline(time.Time{})
		}
		if err != nil {
			return fmt.Errorf("read the answer to the handshake: %w", err)
		}
	}
}

// Opcodes of RFC 6455 with the FIN bit.
const (
	opText  = 0x81
	opClose = 0x88
	opPing  = 0x89
	opPong  = 0x8a
)

func (c *conn) send(payload []byte) error { return c.frame(opText, payload) }

// frame writes one frame. Its mask is zero, which leaves the payload as it is.
func (c *conn) frame(op byte, payload []byte) error {
	b := make([]byte, 0, len(payload)+14)
	switch n := len(payload); {
	case n < 126:
		b = append(b, op, 0x80|byte(n))
	default:
		b = append(b, op, 0x80|126, byte(n>>8), byte(n))
	}
	b = append(b, 0, 0, 0, 0)
	c.writing.Lock()
	defer c.writing.Unlock()
	_, err := c.nc.Write(append(b, payload...))
	return err
}

var buffers = sync.Pool{New: func() any { return new([32 << 10]byte) }}

func (c *conn) read() {
	defer close(c.gone)
	c.reason = c.feed(nil) // what came with the handshake
	if c.reason != nil {
		return
	}
	if tc, ok := c.nc.(*net.TCPConn); ok {
		c.reason = c.readRaw(tc)
		return
	}
	buf := make([]byte, 4<<10)
	for {
		n, err := c.nc.Read(buf)
		if err == nil {
			err = c.feed(buf[:n])
		}
		if err != nil {
			c.reason = err
			return
		}
	}
}

// readRaw reads when there is something to read, and once: net.Conn would ask
// the kernel again each time, to be told that there is no more. An idle
// connection holds no buffer.
func (c *conn) readRaw(tc *net.TCPConn) error {
	raw, err := tc.SyscallConn()
	if err != nil {
		return err
	}
	var ended error
	err = raw.Read(func(fd uintptr) bool {
		buf := buffers.Get().(*[32 << 10]byte)
		defer buffers.Put(buf)
		for {
			n, err := syscall.Read(int(fd), buf[:])
			switch {
			case errors.Is(err, syscall.EINTR):
				continue
			case errors.Is(err, syscall.EAGAIN):
				return false
			case err == nil && n == 0:
				err = io.EOF
			}
			if err == nil {
				err = c.feed(buf[:n])
			}
			if err != nil {
				ended = err
				return true
			}
			if n < len(buf) {
				return false // the kernel tells when there is more
			}
		}
	})
	return errors.Join(ended, err)
}

// feed takes bytes as they come and handles the frames in them.
func (c *conn) feed(b []byte) error {
	if len(c.rest) > 0 {
		b = append(c.rest, b...)
	}
	now := time.Now().UnixNano()
	for {
		op, payload, size := cutFrame(b)
		if size == 0 {
			break
		}
		if err := c.handle(op, payload, now); err != nil {
			return err
		}
		b = b[size:]
	}
	c.rest = append(c.rest[:0], b...)
	if len(b) == 0 && cap(c.rest) > 1<<10 {
		c.rest = nil
	}
	return nil
}

// cutFrame takes the first frame off b; size is 0 if it is not whole.
func cutFrame(b []byte) (op byte, payload []byte, size int) {
	if len(b) < 2 {
		return 0, nil, 0
	}
	head, n := 2, int(b[1])
	switch {
	case n == 126 && len(b) >= 4:
		head, n = 4, int(binary.BigEndian.Uint16(b[2:]))
	case n == 127 && len(b) >= 10:
		head, n = 10, int(binary.BigEndian.Uint64(b[2:]))
	case n >= 126:
		return 0, nil, 0
	}
	if len(b) < head+n {
		return 0, nil, 0
	}
	return b[0], b[head : head+n], head + n
}

type closedError struct {
	code   int
	reason string
}

func (e *closedError) Error() string { return fmt.Sprintf("closed with %d %s", e.code, e.reason) }

func (c *conn) handle(op byte, payload []byte, now int64) error {
	switch op {
	case opPing:
		return c.frame(opPong, payload)
	case opClose:
		e := &closedError{code: 1005}
		if len(payload) >= 2 {
			e = &closedError{int(binary.BigEndian.Uint16(payload)), string(payload[2:])}
		}
		return e
	case opText:
		return c.event(payload, now)
	}
	return nil
}

var (
	isMessage = []byte(`{"type":"message"`)
	isAck     = []byte(`{"type":"ack"`)
	isJoined  = []byte(`{"type":"joined"`)
	isError   = []byte(`{"type":"error"`)
)

func (c *conn) event(b []byte, now int64) error {
	switch {
	case bytes.HasPrefix(b, isMessage):
		sent, _ := strconv.ParseInt(field(b, `"message":"`, ' '), 10, 64)
		if offset, err := strconv.ParseUint(number(b, `"offset":`), 10, 64); err == nil {
			c.figures.check(offset, c.offset)
			c.offset = max(offset, c.offset)
		}
		c.figures.delivered(sent, now)
	case bytes.HasPrefix(b, isAck):
		sent, _ := strconv.ParseInt(field(b, `"id":"`, ' '), 10, 64)
		c.figures.acked(sent, now)
		if c.window != nil {
			<-c.window
		}
	case bytes.HasPrefix(b, isJoined):
		c.epoch = field(b, `"epoch":"`, '"')
		c.offset, _ = strconv.ParseUint(number(b, `"offset":`), 10, 64)
		c.lost = bytes.Contains(b, []byte(`"recovered":false`))
		close(c.joined)
	case bytes.HasPrefix(b, isError):
		return fmt.Errorf("the server says: %s", b)
	}
	return nil
}

// field is what stands between a word and the end byte.
func field(b []byte, word string, end byte) string {
	_, rest, _ := bytes.Cut(b, []byte(word))
	if i := bytes.IndexByte(rest, end); i >= 0 {
		return string(rest[:i])
	}
	return ""
}

func number(b []byte, word string) string {
	i := bytes.LastIndex(b, []byte(word))
	if i < 0 {
		return ""
	}
	b = b[i+len(word):]
	end := 0
	for end < len(b) && b[end] >= '0' && b[end] <= '9' {
		end++
	}
	return string(b[:end])
}

// cut ends the connection as a network that goes away does: without a farewell.
func (c *conn) cut() {
	nc := c.nc
	if t, ok := nc.(*tls.Conn); ok {
		nc = t.NetConn()
	}
	if tc, ok := nc.(*net.TCPConn); ok {
		_ = tc.SetLinger(0)
	}
	_ = nc.Close()
	<-c.gone
}

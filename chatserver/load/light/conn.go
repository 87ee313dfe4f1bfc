package light

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Conn is an open WebSocket. Next is called by one goroutine at a time, all
// else by any.
type Conn struct {
	nc net.Conn
	br *bufio.Reader

	unread int    // bytes of br that Next gave out last
	long   []byte // a message that does not fit br

	heard    atomic.Int64 // when a frame came last, Unix nanoseconds
	received atomic.Int64 // bytes of messages

	writing sync.Mutex
}

// Closed is the peer's close frame.
type Closed struct {
	Code   int // 1005 if it gave none
	Reason string
}

func (c *Closed) Error() string {
	return fmt.Sprintf("closed by the server with %d %s", c.Code, c.Reason)
}

// Opcodes and bits of RFC 6455, 5.2.
const (
	fin     = 0x80
	opText  = 0x1
	opClose = 0x8
	opPing  = 0x9
	opPong  = 0xA
	masked  = 0x80
)

const (
	noStatus     = 1005
	maxMessage   = 16 << 20
	maxControl   = 125              // bytes of a control frame
	writeTimeout = 15 * time.Second // for the network to take what is written at once
	closeTimeout = 5 * time.Second  // for the peer to answer a close frame
)

// Next is the next message, which is good until Next is called again. Pings are
// answered on the way. The error is *Closed if the peer said goodbye.
func (c *Conn) Next() ([]byte, error) {
	c.long = nil
	for {
		first, length, err := c.header()
		if err != nil {
			return nil, err
		}
		if first&0xF >= opClose {
			if err := c.control(first&0xF, length); err != nil {
				return nil, err
			}
			continue
		}
		payload, err := c.payload(length, first&fin != 0)
		if err != nil {
			return nil, err
		}
		if first&fin != 0 {
			c.received.Add(int64(len(payload)))
			return payload, nil
		}
	}
}

// header reads a frame's. Servers do not mask.
func (c *Conn) header() (first byte, length int, err error) {
	if _, err := c.br.Discard(c.unread); err != nil {
		return 0, 0, err
	}
	c.unread = 0
	b, err := c.br.Peek(2)
	if err != nil {
		return 0, 0, err
	}
	c.heard.Store(time.Now().UnixNano())
	first, size := b[0], 2
	switch n := b[1]; {
	case n&masked != 0:
		return 0, 0, errors.New("the server masks its frames")
	case n < 126:
		length = int(n)
	case n == 126:
		size = 4
		if b, err = c.br.Peek(size); err == nil {
			length = int(binary.BigEndian.Uint16(b[2:]))
		}
	default:
		size = 10
		if b, err = c.br.Peek(size); err == nil {
			length = int(min(binary.BigEndian.Uint64(b[2:]), maxMessage+1))
		}
	}
	if err != nil {
		return 0, 0, err
	}
	_, err = c.br.Discard(size)
	return first, length, err
}

// payload reads one of a data frame. The message that it ends is in the buffer
// if it fits and came in one piece.
func (c *Conn) payload(length int, last bool) ([]byte, error) {
	if len(c.long)+length > maxMessage {
		return nil, fmt.Errorf("a message has more than %d bytes", maxMessage)
	}
	if last && c.long == nil && length <= c.br.Size() {
		c.unread = length
		return c.br.Peek(length)
	}
	at := len(c.long)
	c.long = append(c.long, make([]byte, length)...)
	_, err := io.ReadFull(c.br, c.long[at:])
	return c.long, err
}

// control does what a control frame asks for.
func (c *Conn) control(op byte, length int) error {
	if length > maxControl {
		return fmt.Errorf("a control frame has %d bytes", length)
	}
	payload, err := c.br.Peek(length)
	if err != nil {
		return err
	}
	c.unread = length
	switch op {
	case opPing:
		return c.Write(appendFrame(nil, opPong, payload))
	case opClose:
		closed := &Closed{Code: noStatus}
		if length >= 2 {
			closed.Code, closed.Reason = int(binary.BigEndian.Uint16(payload)), string(payload[2:])
			payload = payload[:2]
		}
		_ = c.Write(appendFrame(nil, opClose, payload))
		_ = c.nc.Close()
		return closed
	}
	return nil
}

// AppendText appends a text message, as a frame to be given to Write.
func AppendText(b, text []byte) []byte { return appendFrame(b, opText, text) }

func appendFrame(b []byte, op byte, payload []byte) []byte {
	b = append(b, fin|op)
	switch n := len(payload); {
	case n < 126:
		b = append(b, masked|byte(n))
	case n <= 0xFFFF:
		b = binary.BigEndian.AppendUint16(append(b, masked|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, masked|127), uint64(n))
	}
	var key [4]byte
	binary.NativeEndian.PutUint32(key[:], rand.Uint32())
	b = append(b, key[:]...)
	for i, octet := range payload {
		b = append(b, octet^key[i&3])
	}
	return b
}

// Write writes frames, made by AppendText, all at once.
func (c *Conn) Write(frames []byte) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	if err := c.nc.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	_, err := c.nc.Write(frames)
	return err
}

// Ping makes a healthy peer be heard.
func (c *Conn) Ping() error { return c.Write(appendFrame(nil, opPing, nil)) }

// Silent is how long nothing was heard.
func (c *Conn) Silent() time.Duration {
	return time.Duration(time.Now().UnixNano() - c.heard.Load())
}

// Received is how many bytes of messages came.
func (c *Conn) Received() int64 { return c.received.Load() }

// Close says goodbye. Next ends when the peer has answered, or after some seconds.
func (c *Conn) Close(code int) {
	if c.Write(appendFrame(nil, opClose, binary.BigEndian.AppendUint16(nil, uint16(code)))) != nil {
		_ = c.nc.Close()
		return
	}
	_ = c.nc.SetReadDeadline(time.Now().Add(closeTimeout))
}

// Abort ends the connection as a broken network does: without a word.
func (c *Conn) Abort() { _ = c.nc.Close() }

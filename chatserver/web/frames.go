package web

import (
	"encoding/binary"

	"github.com/chatcluster/chatcluster/chatserver/watchdog"
)

// frames reads a WebSocket's frames (RFC 6455, section 5.2) for the library, which
// parses them, and gives it watchdog.ErrNothing where the next message has not begun:
// that is where a connection can be parked. In the midst of a message it waits. It
// hands out no byte beyond the frame that it is in, so that whoever buffers what it
// gives has nothing left at a frame's end.
type frames struct {
	conn reader
	head [maxHead]byte // the header that is being read
	have int           // bytes of it
	left uint64        // bytes of payload still to come
	more bool          // the message has another frame
}

// reader is what frames needs of a watchdog.Conn.
type reader interface {
	Read([]byte) (int, error)
	TryRead([]byte) (int, error)
}

var _ reader = (*watchdog.Conn)(nil)

// The bits of a frame's header.
const (
	maxHead     = 14
	bitFin      = 0x80 // of the first byte
	bitsOpcode  = 0x0f
	opControl   = 0x08 // opcodes from here on
	bitMask     = 0x80 // of the second byte
	bitsLength  = 0x7f
	length16    = 126 // the length is in the next two bytes
	length64    = 127 // or in the next eight
	shortHead   = 2
	maskKeySize = 4
)

func (f *frames) Read(p []byte) (int, error) {
	if f.left > 0 {
		n, err := f.conn.Read(p[:min(uint64(len(p)), f.left)])
		f.left -= uint64(n)
		return n, err
	}
	read := f.conn.Read
	if f.have == 0 && !f.more {
		read = f.conn.TryRead
	}
	n, err := read(p[:min(len(p), f.headSize()-f.have)])
	f.have += copy(f.head[f.have:], p[:n])
	if f.have >= shortHead && f.have == f.headSize() {
		f.begin()
	}
	return n, err
}

// headSize is how long the header is, as far as its first bytes tell.
func (f *frames) headSize() int {
	if f.have < shortHead {
		return shortHead
	}
	size := shortHead
	switch f.head[1] & bitsLength {
	case length16:
		size += 2
	case length64:
		size += 8
	}
	if f.head[1]&bitMask != 0 {
		size += maskKeySize
	}
	return size
}

// begin goes on to the payload of the frame whose header is whole.
func (f *frames) begin() {
	switch length := f.head[1] & bitsLength; length {
	case length16:
		f.left = uint64(binary.BigEndian.Uint16(f.head[2:]))
	case length64:
		f.left = binary.BigEndian.Uint64(f.head[2:])
	default:
		f.left = uint64(length)
	}
	if f.head[0]&bitsOpcode < opControl { // control frames may come between a message's
		f.more = f.head[0]&bitFin == 0
	}
	f.have = 0
}

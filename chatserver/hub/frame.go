package hub

import (
	"encoding/binary"
	"sync"

	"github.com/chatcluster/chatcluster/chatserver/protocol"
)

// Encoding is how a transport wants its events.
type Encoding int

const (
	// JSON is one complete, unmasked WebSocket text frame an event.
	JSON Encoding = iota
	// Line is text lines that end in "\r\n".
	Line
	// Plain is JSON for clients that know messages, lists, announcements and
	// errors only: other events are left out unless they asked for them.
	Plain

	encodings = iota // how many there are
)

// onlyFull are the events that nobody gets who did not ask for the full protocol.
var onlyFull = map[string]bool{
	protocol.TypeEdited: true, protocol.TypeDeleted: true, protocol.TypeReaction: true, protocol.TypeTyping: true,
	protocol.TypeRead: true, protocol.TypeRoomInfo: true, protocol.TypeInvited: true,
}

// Frame is an event on its way to many clients: it is encoded at most once an
// encoding, however many clients it goes to, and its bytes are shared by all of
// their queues. Nobody may change them.
type Frame struct {
	event    protocol.Event
	parts    []*Frame // instead of an event: frames that follow one another
	jsonOnly bool     // terminals do not get it
	forms    [encodings]struct {
		once  sync.Once
		bytes []byte
	}
}

func newFrame(e protocol.Event) *Frame { return &Frame{event: e} }

// joined is one frame for several, so that a burst of messages is put together
// once, and not once for each of its receivers.
func joined(frames []*Frame) *Frame {
	if len(frames) == 1 {
		return frames[0]
	}
	return &Frame{parts: frames}
}

// events is how many events the frame is.
func (f *Frame) events() int { return max(len(f.parts), 1) }

// bytes are the frame's bytes in an encoding; empty when that encoding has
// nothing to say about the event.
func (f *Frame) bytes(enc Encoding) []byte {
	form := &f.forms[enc]
	form.once.Do(func() { form.bytes = f.encode(enc) })
	return form.bytes
}

func (f *Frame) encode(enc Encoding) []byte {
	switch {
	case f.parts != nil:
		var all []byte
		for _, part := range f.parts {
			all = append(all, part.bytes(enc)...)
		}
		return all
	case enc == Line && f.jsonOnly, enc == Plain && (onlyFull[f.event.Type] || f.event.Deleted):
		return nil
	case enc == Line:
		return f.event.AppendLine(nil)
	case enc == Plain:
		return f.bytes(JSON)
	}
	return webSocketText(f.event.AppendJSON(make([]byte, maxHeader, 256)))
}

// maxHeader is the longest header of an unmasked WebSocket frame (RFC 6455, 5.2).
const maxHeader = 10

// webSocketText turns b, whose payload starts at maxHeader, into a final text
// frame; the header is put right before the payload, so nothing is moved.
func webSocketText(b []byte) []byte {
	const finText = 0x81
	n := len(b) - maxHeader
	switch {
	case n < 126:
		b = b[maxHeader-2:]
		b[1] = byte(n)
	case n <= 0xFFFF:
		b = b[maxHeader-4:]
		b[1] = 126
		binary.BigEndian.PutUint16(b[2:], uint16(n))
	default:
		b = b[maxHeader-10:]
		b[1] = 127
		binary.BigEndian.PutUint64(b[2:], uint64(n))
	}
	b[0] = finText
	return b
}

package line

import (
	"fmt"
	"io"
	"net"
	"time"

	"github.com/chatcluster/chatcluster/chatserver/handshake"
)

// tlsHandshake is the first byte of every TLS connection: the record type
// "handshake" (RFC 8446, 5.1). No command or message starts with it.
const tlsHandshake = 0x16

// peeked is a connection whose first byte was read already.
type peeked struct {
	net.Conn
	handshake.Turn
	first []byte // still to be read; at most one byte
}

func peek(nc net.Conn, gate handshake.Gate) (*peeked, error) {
	p := &peeked{Conn: nc, Turn: gate.Turn(), first: make([]byte, 1)}
	_, err := io.ReadFull(nc, p.first)
	return p, err
}

func (p *peeked) isTLS() bool { return p.first[0] == tlsHandshake }

func (p *peeked) Read(b []byte) (int, error) {
	if len(p.first) > 0 {
		n := copy(b, p.first)
		p.first = p.first[n:]
		return n, nil
	}
	return p.Conn.Read(b)
}

func (p *peeked) Write(b []byte) (int, error) {
	p.End()
	return p.Conn.Write(b)
}

func (p *peeked) Close() error {
	p.End()
	return p.Conn.Close()
}

// refusePlaintext tells somebody whose client speaks no TLS what to do. What
// they go on sending is read for a moment: closing with it unread would reset
// the connection, and the sentence might never be seen.
func refusePlaintext(nc net.Conn) {
	_ = nc.SetDeadline(time.Now().Add(farewell))
	_, err := fmt.Fprintf(nc, "ERROR this port speaks TLS 1.3 only. Connect with: openssl s_client -quiet -connect %s\r\n", nc.LocalAddr())
	if err != nil {
		return
	}
	if half, ok := nc.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
		_, _ = io.Copy(io.Discard, io.LimitReader(nc, 64<<10))
	}
}

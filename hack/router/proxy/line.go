package proxy

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// ServeLine passes TLS connections through by the server name they ask for,
// until the context ends.
func (p *Proxy) ServeLine(ctx context.Context, listener net.Listener) error {
	defer context.AfterFunc(ctx, func() { listener.Close() })()
	var passing sync.WaitGroup
	defer passing.Wait()
	for {
		client, err := listener.Accept()
		switch {
		case err == nil:
			passing.Go(func() { p.pass(ctx, client) })
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return err
		default: // most likely there are no more file descriptors
			p.log.Warn("cannot accept", "error", err)
			time.Sleep(100 * time.Millisecond)
		}
	}
}

func (p *Proxy) pass(ctx context.Context, client net.Conn) {
	defer client.Close()
	defer context.AfterFunc(ctx, func() { client.Close() })()
	client.SetReadDeadline(time.Now().Add(headerTimeout))
	name, hello, err := readServerName(client)
	if err != nil {
		p.log.Debug("no TLS", "client", client.RemoteAddr(), "error", err)
		return
	}
	client.SetReadDeadline(time.Time{})
	to, ok := p.table.Load().Line(name)
	if !ok {
		p.log.Debug("no route", "name", name)
		return
	}
	backend, err := (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, "tcp", to.Address)
	if err != nil {
		p.log.Warn("backend failed", "name", name, "error", err)
		return
	}
	defer backend.Close()
	defer context.AfterFunc(ctx, func() { backend.Close() })()
	if _, err := backend.Write(hello); err != nil {
		return
	}
	join(client, backend)
}

// join copies both ways until both sides have ended; an end on one side is
// passed on as such, so that what is under way still arrives.
func join(a, b net.Conn) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		copyEnd(a, b)
	}()
	copyEnd(b, a)
	<-done
}

func copyEnd(to, from net.Conn) {
	if _, err := io.Copy(to, from); err != nil {
		// One side is broken: nothing will come of the other direction either.
		to.Close()
		from.Close()
		return
	}
	if half, ok := to.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
}

// maxHello bounds what a client may send before it has said where it wants to go.
const maxHello = 64 << 10

var errGotHello = errors.New("got it")

// readServerName reads a ClientHello and returns the name in it with the bytes
// that were read. crypto/tls does the parsing: a handshake is begun, and ended
// when the hello is there.
func readServerName(from io.Reader) (name string, read []byte, err error) {
	var seen bytes.Buffer
	found := false
	err = tls.Server(readOnly{io.TeeReader(io.LimitReader(from, maxHello), &seen)}, &tls.Config{
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			name, found = hello.ServerName, true
			return nil, errGotHello
		},
	}).Handshake()
	if found {
		return name, seen.Bytes(), nil
	}
	return "", nil, err
}

// readOnly is a connection that can only be read: an alert must not be sent.
type readOnly struct{ io.Reader }

func (readOnly) Write(b []byte) (int, error)      { return len(b), nil }
func (readOnly) Close() error                     { return nil }
func (readOnly) LocalAddr() net.Addr              { return nil }
func (readOnly) RemoteAddr() net.Addr             { return nil }
func (readOnly) SetDeadline(time.Time) error      { return nil }
func (readOnly) SetReadDeadline(time.Time) error  { return nil }
func (readOnly) SetWriteDeadline(time.Time) error { return nil }

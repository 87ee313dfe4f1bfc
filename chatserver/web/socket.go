package web

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"github.com/chatcluster/chatcluster/chatserver/account"
	"github.com/chatcluster/chatcluster/chatserver/hub"
	"github.com/chatcluster/chatcluster/chatserver/protocol"
	"github.com/chatcluster/chatcluster/chatserver/store"
	"github.com/chatcluster/chatcluster/chatserver/telemetry"
	"github.com/chatcluster/chatcluster/chatserver/watchdog"
)

// socket is one WebSocket connection, and the hub's Transport to it. The
// library reads and speaks the control frames; the hub's frames, encoded once
// for all their receivers, are written beside it, on the connection itself.
type socket struct {
	server *Server
	ctx    context.Context // tells the log which request opened it; ends with the server
	full   bool            // the client asked for all of the protocol
	who    account.Caller
	addr   netip.Addr // of the client
	client *hub.Client
	opened sync.WaitGroup // done after the handshake; until then there is nothing to write to
	isOpen atomic.Bool    // it is done
	ws     *websocket.Conn
	conn   *watchdog.Conn // both read after opened; nil if the handshake failed

	mistakes int                      // malformed frames in a row; the reader's alone
	pinged   bool                     // since the peer was last heard; the watchdog's alone
	farewell atomic.Pointer[farewell] // what Close was called with; nil: it was not
}

type farewell struct {
	code int
	said chan struct{} // closed when what Close began has ended
}

func newSocket(s *Server, r *http.Request, who account.Caller) *socket {
	c := &socket{
		server: s, ctx: telemetry.WithRequestID(s.ctx, telemetry.RequestID(r.Context())),
		who: who, addr: s.Addresses.OfRequest(r),
	}
	c.opened.Add(1)
	return c
}

// Resume reads what the client has sent. Then the connection is parked, so that it
// costs no goroutine while nothing is said, or it ends.
func (c *socket) Resume() {
	parked := false
	code := protocol.CloseInternal
	defer func() {
		if !parked {
			c.client.Detach(code)
			c.end()
			c.server.sockets.Done()
		}
	}()
	defer func() {
		// Nobody else's conversation ends because of what one connection made happen.
		if p := recover(); p != nil {
			c.server.Log.ErrorContext(c.ctx, "connection ended by a defect", "user", c.who.User, "panic", p, "stack", string(debug.Stack()))
		}
	}()
	for {
		err := c.next()
		switch {
		case err == nil:
			continue
		case !errors.Is(err, watchdog.ErrNothing):
			code = c.endedWith(err)
			c.server.Log.DebugContext(c.ctx, "connection ended", "user", c.who.User, "code", code, "error", err)
			return
		}
		if parked = c.conn.Park(); parked {
			return // from here on it may be another goroutine's
		}
	}
}

// endedWith is the code that the connection ended with: ours, if it was us who
// ended it, or the peer's.
func (c *socket) endedWith(err error) int {
	if f := c.farewell.Load(); f != nil {
		return f.code
	}
	if code := websocket.CloseStatus(err); code != -1 {
		return int(code)
	}
	return protocol.CloseAbnormal
}

// end frees the connection, after the peer was told why if it is to be.
func (c *socket) end() {
	if f := c.farewell.Load(); f != nil {
		<-f.said
	}
	_ = c.ws.CloseNow()
	_ = c.conn.Close()
}

// turnAway tells why the connection cannot become a client.
func (c *socket) turnAway(err error) {
	defer c.server.sockets.Done()
	defer c.end()
	code, event := int(websocket.StatusTryAgainLater), protocol.Event{Type: protocol.TypeError, Code: protocol.CodeUnavailable}
	switch {
	case errors.Is(err, store.ErrOnline):
		code, event.Code, event.Message = protocol.CloseOnline, protocol.CodeOnline, "you are online elsewhere already: log out there first"
	case errors.Is(err, hub.ErrDraining):
		code, event.Message = protocol.CloseServiceRestart, "this server is going away: connect again"
	case errors.Is(err, hub.ErrCrowd):
		event.Message = err.Error() + ": try again in a moment" // no defect; the hub counts it
	default:
		c.server.Log.ErrorContext(c.ctx, "a client could not be attached", "error", err)
		event.Message = "the service cannot answer now: try again in a moment"
	}
	ctx, cancel := context.WithTimeout(c.ctx, headerTimeout)
	defer cancel()
	_ = c.ws.Write(ctx, websocket.MessageText, event.AppendJSON(nil)) // the close code says it too
	c.conn.Wait()                                                     // for the peer's farewell
	_ = c.ws.Close(websocket.StatusCode(code), event.Message)
}

// maxMistakes is how many malformed frames in a row end a connection.
const maxMistakes = 20

var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// next hands one request of the client to the hub. It returns
// watchdog.ErrNothing if none has come.
func (c *socket) next() error {
	// No deadline on the context: each would cost a timer, and the watchdog keeps the time.
	_, r, err := c.ws.Reader(context.Background())
	if err != nil {
		return err
	}
	req, err := c.request(r)
	switch {
	case errors.Is(err, errTooBig):
		c.Close(protocol.CloseTooBig, err.Error())
		return err
	case errors.As(err, new(*malformed)):
		if c.mistakes++; c.mistakes == maxMistakes {
			c.Close(protocol.CloseRateLimit, "too many malformed frames")
			return err
		}
		c.client.Event(protocol.Event{Type: protocol.TypeError, Code: protocol.CodeBadRequest, Message: err.Error()})
	case err != nil:
		return err
	case c.farewell.Load() == nil:
		c.mistakes = 0
		if account.Handles(req) {
			c.manage(req)
			return nil
		}
		c.client.Handle(c.ctx, req)
	}
	return nil
}

// manage answers what is about the account of the user.
func (c *socket) manage(req protocol.Request) {
	ctx, cancel := context.WithTimeout(c.ctx, answerTimeout)
	defer cancel()
	e, err := c.server.Accounts.Do(ctx, c.who, req, account.Origin{Address: c.addr})
	if err != nil {
		e = c.refusal(req, err)
	}
	c.client.Event(e)
}

func (c *socket) refusal(req protocol.Request, err error) protocol.Event {
	code, text, known := account.Describe(err)
	if !known {
		c.server.Log.ErrorContext(c.ctx, "an account could not be served", "user", c.who.User, "error", err)
		code, text = protocol.CodeUnavailable, "the service cannot answer now: try again in a moment"
	}
	return protocol.Event{Type: protocol.TypeError, ID: req.ID, Code: code, Message: text}
}

// malformed is a frame that is no request; the connection goes on.
type malformed struct{ error }

var errTooBig = errors.New("the frame is too large")

// request reads one whole frame, in a buffer that the next reader will use.
func (c *socket) request(r io.Reader) (protocol.Request, error) {
	buf := buffers.Get().(*bytes.Buffer)
	defer func() {
		buf.Reset()
		buffers.Put(buf)
	}()
	limit := c.server.maxFrame()
	if _, err := buf.ReadFrom(io.LimitReader(r, int64(limit)+1)); err != nil {
		return protocol.Request{}, err
	}
	if buf.Len() > limit {
		return protocol.Request{}, fmt.Errorf("%w: the limit is %d bytes", errTooBig, limit)
	}
	req, err := protocol.ParseJSON(buf.Bytes())
	if err != nil {
		return protocol.Request{}, &malformed{err}
	}
	return req, nil
}

// Silent is called by the watchdog with the time since the peer was last heard.
func (c *socket) Silent(conn *watchdog.Conn, d time.Duration) {
	switch {
	case d < c.server.PingEvery:
		c.pinged = false
	case d >= c.server.IdleTimeout:
		conn.Cut()
	case !c.pinged && c.farewell.Load() == nil:
		c.pinged = true
		// A write may block for as long as the watchdog, who calls, lets it. While
		// the connection is watched it is counted, so the count is above zero.
		c.server.sockets.Go(func() { _, _ = conn.Write(pingFrame) }) // a broken connection is the reader's to notice
	}
}

var pingFrame = []byte{0x89, 0x00}

// Protocol, Encoding, WriteBuffers, TryWrite and Close are the hub's Transport.
func (c *socket) Protocol() string { return "websocket" }

func (c *socket) Encoding() hub.Encoding {
	if c.full {
		return hub.JSON
	}
	return hub.Plain
}

func (c *socket) WriteBuffers(bufs *net.Buffers) error {
	c.opened.Wait()
	if c.ws == nil {
		return net.ErrClosed
	}
	return c.conn.WriteBuffers(bufs)
}

func (c *socket) TryWrite(bufs *net.Buffers) error {
	if !c.isOpen.Load() {
		return nil // the handshake is under way
	}
	if c.ws == nil {
		return net.ErrClosed
	}
	return c.conn.TryWrite(bufs)
}

// Close sends a close frame and gives the peer a few seconds to answer it, on a
// goroutine whose time the watchdog and then the library bound. A peer that is
// cut off for being slow gets the time of one write more to read up to the frame
// that tells it so.
func (c *socket) Close(code int, reason string) {
	f := &farewell{code, make(chan struct{})}
	if !c.farewell.CompareAndSwap(nil, f) {
		return
	}
	if !c.server.begin() {
		close(f.said) // the server cuts all connections
		return
	}
	go func() {
		defer c.server.sockets.Done()
		defer close(f.said)
		if c.opened.Wait(); c.ws != nil {
			c.conn.Wait() // for the peer's own farewell
			c.conn.Settle()
			_ = c.ws.Close(websocket.StatusCode(code), reason[:min(len(reason), maxReason)])
		}
	}()
}

// maxReason is the longest reason that a close frame has room for, in bytes.
const maxReason = 123

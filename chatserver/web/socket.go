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
	addr   netip.Addr    // of the client
	opened chan struct{} // closed after the handshake; until then there is nothing to write to
	ws     *websocket.Conn
	conn   *watchdog.Conn // both read after opened; nil if the handshake failed

	pinged   bool          // since the peer was last heard; the watchdog's alone
	closing  atomic.Int32  // the code that Close was called with; 0: it was not
	farewell chan struct{} // closed when what Close began has ended
}

func newSocket(s *Server, r *http.Request, who account.Caller) *socket {
	return &socket{
		server: s, ctx: telemetry.WithRequestID(s.ctx, telemetry.RequestID(r.Context())),
		who: who, addr: s.Addresses.OfRequest(r),
		opened: make(chan struct{}), farewell: make(chan struct{}),
	}
}

// serve runs the connection until it ends.
func (c *socket) serve(client *hub.Client) {
	log := c.server.Log.With("user", c.who.User)
	code := protocol.CloseInternal
	defer c.end()
	defer func() { client.Detach(code) }()
	defer func() {
		// Nobody else's conversation ends because of what one connection made happen.
		if p := recover(); p != nil {
			log.ErrorContext(c.ctx, "connection ended by a defect", "panic", p, "stack", string(debug.Stack()))
		}
	}()
	err := c.read(client)
	code = c.endedWith(err)
	log.DebugContext(c.ctx, "connection ended", "code", code, "error", err)
}

// endedWith is the code that the connection ended with: ours, if it was us who
// ended it, or the peer's.
func (c *socket) endedWith(err error) int {
	if code := c.closing.Load(); code != 0 {
		return int(code)
	}
	if code := websocket.CloseStatus(err); code != -1 {
		return int(code)
	}
	return protocol.CloseAbnormal
}

// end frees the connection, after the peer was told why if it is to be.
func (c *socket) end() {
	if c.closing.Load() != 0 {
		<-c.farewell
	}
	_ = c.ws.CloseNow()
	_ = c.conn.Close()
}

// turnAway tells why the connection cannot become a client.
func (c *socket) turnAway(err error) {
	defer c.end()
	code, event := int(websocket.StatusTryAgainLater), protocol.Event{Type: protocol.TypeError, Code: protocol.CodeUnavailable}
	switch {
	case errors.Is(err, store.ErrOnline):
		code, event.Code, event.Message = protocol.CloseOnline, protocol.CodeOnline, "you are online elsewhere already: log out there first"
	case errors.Is(err, hub.ErrDraining):
		code, event.Message = protocol.CloseServiceRestart, "this server is going away: connect again"
	default:
		c.server.Log.ErrorContext(c.ctx, "a client could not be attached", "error", err)
		event.Message = "the service cannot answer now: try again in a moment"
	}
	ctx, cancel := context.WithTimeout(c.ctx, headerTimeout)
	defer cancel()
	_ = c.ws.Write(ctx, websocket.MessageText, event.AppendJSON(nil)) // the close code says it too
	_ = c.ws.Close(websocket.StatusCode(code), event.Message)
}

// maxMistakes is how many malformed frames in a row end a connection.
const maxMistakes = 20

var frames = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// read hands the client's requests to the hub until the connection ends.
func (c *socket) read(client *hub.Client) error {
	mistakes := 0
	for {
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
			if mistakes++; mistakes == maxMistakes {
				c.Close(protocol.CloseRateLimit, "too many malformed frames")
				return err
			}
			client.Event(protocol.Event{Type: protocol.TypeError, Code: protocol.CodeBadRequest, Message: err.Error()})
		case err != nil:
			return err
		case c.closing.Load() == 0:
			mistakes = 0
			if account.Handles(req) {
				c.manage(client, req)
				continue
			}
			client.Handle(c.ctx, req)
		}
	}
}

// manage answers what is about the account of the user.
func (c *socket) manage(client *hub.Client, req protocol.Request) {
	ctx, cancel := context.WithTimeout(c.ctx, answerTimeout)
	defer cancel()
	e, err := c.server.Accounts.Do(ctx, c.who, req, account.Origin{Address: c.addr})
	if err != nil {
		e = c.refusal(req, err)
	}
	client.Event(e)
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
	buf := frames.Get().(*bytes.Buffer)
	defer func() {
		buf.Reset()
		frames.Put(buf)
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

// silent is called by the watchdog with the time since the peer was last heard.
func (c *socket) silent(conn *watchdog.Conn, d time.Duration) {
	switch {
	case d < c.server.PingEvery:
		c.pinged = false
	case d >= c.server.IdleTimeout:
		conn.Cut()
	case !c.pinged && c.closing.Load() == 0:
		c.pinged = true
		// A write may block for as long as the watchdog, who calls, lets it. While
		// the connection is watched its goroutine runs, so the count is above zero.
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
	<-c.opened
	if c.ws == nil {
		return net.ErrClosed
	}
	return c.conn.WriteBuffers(bufs)
}

func (c *socket) TryWrite(bufs *net.Buffers) error {
	select {
	case <-c.opened:
	default:
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
	if !c.closing.CompareAndSwap(0, int32(code)) {
		return
	}
	if !c.server.begin() {
		close(c.farewell) // the server cuts all connections
		return
	}
	go func() {
		defer c.server.sockets.Done()
		defer close(c.farewell)
		if <-c.opened; c.ws != nil {
			c.conn.Settle()
			_ = c.ws.Close(websocket.StatusCode(code), reason[:min(len(reason), maxReason)])
		}
	}()
}

// maxReason is the longest reason that a close frame has room for, in bytes.
const maxReason = 123

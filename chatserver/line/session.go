package line

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/chatcluster/chatcluster/chatserver/account"
	"github.com/chatcluster/chatcluster/chatserver/hub"
	"github.com/chatcluster/chatcluster/chatserver/protocol"
	"github.com/chatcluster/chatcluster/chatserver/telemetry"
	"github.com/chatcluster/chatcluster/chatserver/watchdog"
)

const (
	maxMistakes = 20               // malformed lines in a row
	maxFailures = 5                // wrong passwords
	lineRoom    = 256              // bytes of a line beside the message: a command and a user
	farewell    = time.Second      // for the peer to close after we said goodbye
	requestTime = 10 * time.Second // for Redis to answer what a line asks
)

// session is one connection, and while somebody is logged in on it the hub's
// Transport to them. All but the Transport's methods is the reader's alone.
type session struct {
	server *Server
	ctx    context.Context // tells the log which connection this is; ends with the server
	conn   *watchdog.Conn
	tls    *tls.Conn
	addr   netip.Addr
	lines  *reader

	client   *hub.Client // nil: nobody is logged in
	login    hub.Login
	mistakes int
	failures int

	mu     sync.Mutex
	code   int  // that the hub ended the connection with; 0: it did not
	ending bool // goodbye was said: what still comes is read and dropped
}

func serve(s *Server, conn *tls.Conn, addr netip.Addr) {
	watched := s.watchdog.Watch(conn, nil)
	c := &session{
		server: s, ctx: telemetry.WithRequestID(s.ctx, telemetry.NewRequestID()), conn: watched, tls: conn, addr: addr,
		lines: newReader(watched, s.MaxMessageBytes+lineRoom),
	}
	code := protocol.CloseInternal
	defer func() {
		// Nobody else's conversation ends because of what one connection made happen.
		if p := recover(); p != nil {
			s.Log.ErrorContext(c.ctx, "connection ended by a defect", "panic", p, "stack", string(debug.Stack()))
		}
		_ = watched.Close()
	}()
	defer func() { c.leave(code) }()
	err := c.run()
	code = c.endedWith(err)
	s.Log.DebugContext(c.ctx, "connection ended", "user", c.login.User, "code", code, "error", err)
}

// endedWith is what a WebSocket's close code would be.
func (c *session) endedWith(err error) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.code != 0:
		return c.code
	case c.ending || errors.Is(err, io.EOF):
		return protocol.CloseNormal
	}
	return protocol.CloseAbnormal
}

// run reads lines until the connection ends.
func (c *session) run() error {
	for {
		line, err := c.next()
		switch {
		case errors.Is(err, errTooLong):
			c.mistake(fmt.Errorf("%w: the limit is %d bytes", err, c.lines.limit))
		case err != nil:
			return err
		case !c.isEnding():
			c.handle(line)
		}
	}
}

// next waits for a line. A connection that has been silent both ways for too
// long is told goodbye.
func (c *session) next() (string, error) {
	for {
		idle := c.server.IdleTimeout
		if c.client == nil {
			idle = c.server.LoginTimeout
		}
		c.setDeadline(idle)
		line, err := c.lines.next()
		switch {
		case !errors.Is(err, os.ErrDeadlineExceeded) || c.isEnding():
			return line, err
		case c.client == nil:
			c.goodbye("nobody has logged in: closing")
		case c.conn.Silent() >= idle:
			c.leave(protocol.CloseNormal)
			c.goodbye("nothing was said for a long time: closing")
		}
	}
}

func (c *session) handle(line string) {
	if strings.TrimSpace(line) == "" {
		return // somebody leans on the Enter key
	}
	req, err := protocol.ParseLine(line)
	if err != nil {
		c.mistake(err)
		return
	}
	c.mistakes = 0
	ctx, cancel := context.WithTimeout(c.ctx, requestTime)
	defer cancel()
	if account.Handles(req) {
		c.manage(ctx, req)
		return
	}
	switch req.Type {
	case protocol.TypeHelp:
		for _, text := range protocol.LineHelp {
			c.say(text)
		}
	case protocol.TypeQuit:
		c.bye("goodbye")
	case protocol.TypeLogin:
		c.logIn(ctx, req.To, req.Message)
	case protocol.TypeRegister:
		c.register(ctx, req.To, req.Message)
	case protocol.TypeLogout:
		c.logOut()
	default:
		c.chat(req)
	}
}

const notLoggedIn = "log in first: LOGIN <user> <password>"

// chat hands everything that is not about accounts to the hub.
func (c *session) chat(req protocol.Request) {
	if c.client == nil {
		c.fail(protocol.CodeNotLoggedIn, notLoggedIn)
		return
	}
	c.client.Handle(c.ctx, req)
}

// mistake answers a line that is no request.
func (c *session) mistake(err error) {
	c.fail(protocol.CodeBadRequest, err.Error())
	if c.mistakes++; c.mistakes >= maxMistakes {
		c.bye("too many malformed lines: closing")
	}
}

func (c *session) say(text string) {
	c.tell(protocol.Event{Type: protocol.TypeAnnouncement, Message: text})
}

func (c *session) fail(code, text string) {
	c.tell(protocol.Event{Type: protocol.TypeError, Code: code, Message: text})
}

// tell writes an event; to a client in its turn after what the hub has queued.
func (c *session) tell(e protocol.Event) {
	if c.client != nil {
		c.client.Event(e)
		return
	}
	_, _ = c.conn.Write(e.AppendLine(nil)) // a broken connection is noticed when it is read next
}

// bye ends the connection, once what the hub has queued for it is written.
func (c *session) bye(reason string) {
	if c.client != nil {
		c.client.Close(protocol.CloseNormal, reason)
		return
	}
	c.goodbye(reason)
}

// leave makes the hub forget the connection, which ended with code, and the session with it.
func (c *session) leave(code int) {
	if c.client == nil {
		return
	}
	c.client.Detach(code)
	c.client = nil
	ctx, cancel := context.WithTimeout(context.Background(), requestTime)
	defer cancel()
	if err := c.server.Accounts.Store.RemoveLogin(ctx, c.login.User, c.login.Session); err != nil {
		c.server.Log.WarnContext(c.ctx, "a session could not be removed and lives until it expires", "user", c.login.User, "error", err)
	}
}

// Protocol, Encoding, WriteBuffers, TryWrite and Close are the hub's Transport.
func (c *session) Protocol() string { return "line" }

func (c *session) Encoding() hub.Encoding { return hub.Line }

func (c *session) WriteBuffers(bufs *net.Buffers) error { return c.conn.WriteBuffers(bufs) }

// TryWrite leaves everything to WriteBuffers: terminals are few.
func (*session) TryWrite(*net.Buffers) error { return nil }

// Close says the reason and ends the connection. The code is for the metrics alone.
func (c *session) Close(code int, reason string) {
	if !c.endWith(code) {
		return
	}
	if !c.server.begin() {
		c.conn.Cut()
		return
	}
	go func() { // a write may block for as long as the watchdog lets it
		defer c.server.conns.Done()
		c.goodbye(reason)
	}()
}

// goodbye says why, ends our side of the connection and gives the peer a moment
// to end theirs: closing with something unread could reset the connection
// before the peer has seen why.
func (c *session) goodbye(reason string) {
	if !c.end() {
		return
	}
	if reason != "" {
		e := protocol.Event{Type: protocol.TypeAnnouncement, Message: reason}
		_, _ = c.conn.Write(e.AppendLine(nil))
	}
	_ = c.tls.CloseWrite()
}

// endWith notes the first code that the connection is ended with; false if it is
// ending already.
func (c *session) endWith(code int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ending {
		return false
	}
	if c.code == 0 {
		c.code = code
	}
	return true
}

// end makes what is read from now on be dropped, and soon end; false if it did
// already.
func (c *session) end() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ending {
		return false
	}
	c.ending = true
	_ = c.conn.SetReadDeadline(time.Now().Add(farewell))
	return true
}

func (c *session) isEnding() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ending
}

// setDeadline bounds the next read, unless goodbye has bounded it already.
func (c *session) setDeadline(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.ending {
		_ = c.conn.SetReadDeadline(time.Now().Add(d))
	}
}

package web

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"

	"github.com/coder/websocket"

	"github.com/chatcluster/chatcluster/chatserver/account"
	"github.com/chatcluster/chatcluster/chatserver/hub"
	"github.com/chatcluster/chatcluster/chatserver/protocol"
	"github.com/chatcluster/chatcluster/chatserver/watchdog"
)

// upgrade turns a request into a WebSocket, if its token is good. A refusal is
// an HTTP answer that says why, which programs can read and browsers log.
func (s *Server) upgrade(w http.ResponseWriter, r *http.Request) {
	if !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		w.Header().Set("Connection", "Upgrade")
		w.Header().Set("Upgrade", "websocket")
		s.refuse(w, r, http.StatusUpgradeRequired, "this path is a WebSocket: connect with a WebSocket client")
		return
	}
	text, offered := token(r)
	if text == "" {
		w.Header().Set("WWW-Authenticate", `Bearer realm="chatcluster"`)
		s.refuse(w, r, http.StatusUnauthorized, "a token is needed: get one at POST /login")
		return
	}
	who, until, err := s.Accounts.Authenticate(r.Context(), text)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	if !s.begin() {
		s.refuse(w, r, http.StatusServiceUnavailable, "this server is going away: try again")
		return
	}
	serving := false
	defer func() {
		if !serving {
			s.sockets.Done()
		}
	}()
	// The client is attached first, so that once its connection is open it misses
	// nothing that others say.
	c := newSocket(s, r, who)
	var refusal error
	c.client, refusal = s.attach(r, hub.Login{User: who.User, Session: who.Session, Expires: until}, c)
	if errors.Is(refusal, hub.ErrLoggedOut) {
		s.fail(w, r, account.ErrLoggedOut)
		return
	}
	if err := c.open(w, r, offered); err != nil {
		s.Log.DebugContext(r.Context(), "WebSocket handshake failed", "error", err)
		if c.client != nil {
			c.client.Detach(protocol.CloseAbnormal)
		}
		return
	}
	// On a goroutine of its own the connection keeps neither the request nor the
	// stack and buffers that net/http needed to read it.
	serving = true
	if refusal != nil {
		go c.turnAway(refusal)
		return
	}
	go c.Resume()
}

func (s *Server) attach(r *http.Request, login hub.Login, c *socket) (*hub.Client, error) {
	c.full = slices.Contains(subprotocols(r), protocol.Subprotocol)
	opts := hub.AttachOptions{Full: c.full}
	if !opts.Full {
		opts.DefaultRoom = s.DefaultRoom
	}
	return s.Hub.Attach(r.Context(), login, c, opts)
}

// token finds the access token: in the Authorization header, in a subprotocol
// (which is then offered), or in the query, where system logs like to keep it.
func token(r *http.Request) (text, offered string) {
	if text := bearer(r); text != "" {
		return text, ""
	}
	for _, sub := range subprotocols(r) {
		if text, ok := strings.CutPrefix(sub, protocol.BearerPrefix); ok {
			return text, sub
		}
	}
	return r.URL.Query().Get("token"), ""
}

func subprotocols(r *http.Request) []string {
	subs := strings.Split(strings.Join(r.Header.Values("Sec-WebSocket-Protocol"), ","), ",")
	for i := range subs {
		subs[i] = strings.TrimSpace(subs[i])
	}
	return subs
}

// open does the handshake. Of the offered subprotocols it picks ours; where the
// token was the only one it is picked too, because browsers give up if none is.
func (c *socket) open(w http.ResponseWriter, r *http.Request, offered string) error {
	defer c.opened.Done()
	defer c.isOpen.Store(true)
	picks := []string{protocol.Subprotocol}
	if offered != "" {
		picks = append(picks, offered)
	}
	ws, err := websocket.Accept(&takeover{ResponseWriter: w, socket: c}, r, &websocket.AcceptOptions{
		Subprotocols:       picks,
		InsecureSkipVerify: true, // the origin was looked at before any request got here
		CompressionMode:    websocket.CompressionDisabled,
	})
	if err != nil {
		return err
	}
	// One byte over, so that it is we who say what is wrong with a frame that is too large.
	ws.SetReadLimit(int64(c.server.maxFrame() + 1))
	c.ws = ws
	return nil
}

// maxFrame is the longest frame in bytes: the longest message with each of its
// characters escaped, and the fields around it.
func (s *Server) maxFrame() int { return 6*s.MaxMessageBytes + 4096 }

const (
	readBuffer  = 16  // bytes, the least that bufio makes: the connection reads ahead in a buffer that it shares
	writeBuffer = 160 // bytes; one control frame, the only thing that the library writes
)

// takeover hands the connection to websocket.Accept with small buffers and
// under the watchdog: Accept itself would keep those of net/http, 8 KiB a connection.
type takeover struct {
	http.ResponseWriter
	socket *socket
}

func (t *takeover) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	nc, old, err := http.NewResponseController(t.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	conn := t.socket.server.watchdog.Watch(nc, t.socket)
	// What the client sent right behind its handshake was read already.
	early := make([]byte, old.Reader.Buffered())
	if _, err := io.ReadFull(old.Reader, early); err != nil {
		_ = conn.Close()
		return nil, nil, err
	}
	conn.Unread(early)
	t.socket.conn = conn
	return &framed{conn, frames{conn: conn}}, bufio.NewReadWriter(bufio.NewReaderSize(nil, readBuffer), bufio.NewWriterSize(conn, writeBuffer)), nil
}

// framed is a connection that is read by frames. Accept reads it by the bufio.Reader
// that it was handed.
type framed struct {
	*watchdog.Conn
	frames frames
}

func (f *framed) Read(p []byte) (int, error) { return f.frames.Read(p) }

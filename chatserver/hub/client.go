package hub

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/chatcluster/chatcluster/chatserver/protocol"
	"github.com/chatcluster/chatcluster/chatserver/store"
)

// Transport is the connection of one client, whatever protocol it speaks.
type Transport interface {
	// Protocol is "websocket" or "line", for metrics.
	Protocol() string
	// Encoding is how the events are to be written.
	Encoding() Encoding
	// WriteBuffers writes and consumes complete frames as they are, and blocks
	// until they are handed over. One goroutine calls it or TryWrite at a time.
	WriteBuffers(*net.Buffers) error
	// TryWrite writes what it can without waiting, and leaves the rest in the
	// buffers: all of it, where the connection only knows how to wait.
	TryWrite(*net.Buffers) error
	// Close ends the connection with a WebSocket close code and a reason. It may
	// be called more than once, from any goroutine, and does not block for long.
	// The reader of the connection ends because of it.
	Close(code int, reason string)
}

// Login is who a client is.
type Login struct {
	User    string
	Session string    // the login session: several connections may share one
	Expires time.Time // of the session; zero: not known. That alone ends no open connection.
}

// AttachOptions are what a surface wants for its client.
type AttachOptions struct {
	// DefaultRoom is joined at once, for clients that know nothing of rooms.
	DefaultRoom string
	// SingleRoom has a join leave the present room, as at a terminal.
	SingleRoom bool
	// Full is for clients that asked for protocol.Subprotocol: they are greeted
	// with Hello and told to reconnect before the server goes away.
	Full bool
}

// Client is one connection of a logged-in user.
//
// Handle and Detach are called by the connection's reader alone; Event may be
// called by anyone.
type Client struct {
	hub       *Hub
	user      *user
	login     Login
	transport Transport
	opts      AttachOptions
	life      int64  // Hub.life when it came
	messages  window // guarded by handling
	requests  window // guarded by handling

	handling sync.Mutex // held while a request is handled; drain takes it, so that no answer is cut off
	present  string     // room that messages without a room go to; guarded by handling
	rooms    roomSet
	detached bool // guarded by handling

	queue queue
}

// movers is how many clients may come or go at a time, for each core.
const movers = 3

// move waits until a client may come or go.
func (h *Hub) move(ctx context.Context) error {
	select {
	case h.moving <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (h *Hub) moved() { <-h.moving }

// moveSoon is move for who has to go whatever happens: while Redis hangs, those
// before it would keep it for too long.
func (h *Hub) moveSoon() (moved func()) {
	ctx, cancel := context.WithTimeout(context.Background(), patienceToGo)
	defer cancel()
	if h.move(ctx) != nil {
		return func() {}
	}
	return h.moved
}

const patienceToGo = time.Second

// patienceToCome is how long a client waits among others who come. It is not part of
// the time that Redis has to answer: in a crowd nothing is wrong with Redis.
const patienceToCome = 20 * time.Second

// moveIn is move for who comes.
func (h *Hub) moveIn(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, patienceToCome, ErrCrowd)
	defer cancel()
	return h.move(ctx)
}

// Attach makes a connection a client of its user: present, reachable, counted.
// ErrDraining, ErrLoggedOut, ErrCrowd and store.ErrOnline say why it cannot be.
func (h *Hub) Attach(ctx context.Context, login Login, t Transport, o AttachOptions) (*Client, error) {
	// Not the caller's deadline: a client that goes away while it comes in has
	// to be let out again in order.
	ctx = context.WithoutCancel(ctx)
	if err := h.moveIn(ctx); err != nil {
		h.metrics.refused.WithLabelValues(t.Protocol(), reason(err)).Inc()
		return nil, err
	}
	defer h.moved()
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	c := &Client{
		hub: h, login: login, transport: t, opts: o, life: h.life.Load(),
		messages: window{limit: h.cfg.MessagesPer10s},
	}
	if h.cfg.MessagesPer10s > 0 {
		c.requests.limit = max(requestsPerMessage*h.cfg.MessagesPer10s, 2*maxRooms)
	}
	c.handling.Lock()
	defer c.handling.Unlock()
	if err := h.enter(ctx, c); err != nil {
		h.metrics.refused.WithLabelValues(t.Protocol(), reason(err)).Inc()
		return nil, err
	}
	if err := c.greet(ctx); err != nil {
		c.detach()
		h.metrics.refused.WithLabelValues(t.Protocol(), reason(err)).Inc()
		return nil, err
	}
	h.metrics.opened.WithLabelValues(t.Protocol()).Inc()
	return c, nil
}

// greet gives a new client what it starts with. Callers hold c.handling.
func (c *Client) greet(ctx context.Context) error {
	mine, err := c.hub.chat.MyRooms(ctx, c.login.User)
	if err != nil {
		return err
	}
	if c.opts.Full {
		c.Event(protocol.Event{
			Type: protocol.TypeHello, Username: c.login.User, Session: c.login.Session,
			Server: c.hub.cfg.Server, MaxMessageBytes: c.hub.cfg.MaxMessageBytes,
			Directs: c.user.knownDirects(), MyRooms: mine,
		})
		return nil // it joins rooms itself, with positions
	}
	if c.opts.DefaultRoom != "" {
		if err := c.hub.chat.Join(ctx, c.login.User, c.opts.DefaultRoom); err != nil {
			return err
		}
		// Quietly: who knows nothing of rooms knows no Joined either.
		if err := c.joinRoom(ctx, c.opts.DefaultRoom, joining{quiet: true}); err != nil {
			return err
		}
		c.storePresent(ctx)
	}
	return c.catchUp(ctx, mine)
}

// catchUp gives a client that knows no positions what was said to its user in
// direct rooms meanwhile, and tells it where else something is unread.
func (c *Client) catchUp(ctx context.Context, mine []protocol.RoomInfo) error {
	for _, room := range mine[:min(len(mine), maxRooms)] {
		if !protocol.IsDirect(room.Name) {
			if room.Unread > 0 && c.transport.Encoding() == Line {
				c.Event(protocol.Event{Type: protocol.TypeAnnouncement, Message: fmt.Sprintf("%d new in %s: /join %s", room.Unread, room.Name, room.Name)})
			}
			continue
		}
		if err := c.joinRoom(ctx, room.Name, missed(room)); err != nil {
			return err
		}
	}
	return nil
}

// missed is how a client that knows no positions comes into a room: after what
// its user has read, as far as that is still there.
func missed(room protocol.RoomInfo) joining {
	how := joining{quiet: true, leftOver: true}
	switch {
	case room.Unread == 0 || room.Epoch == "":
	case room.Read == 0:
		how.fromStart = true
	default:
		how.from = &store.Position{Epoch: room.Epoch, Offset: room.Read}
	}
	return how
}

// markRead notes that what a client without positions was sent has been read.
// Callers hold c.handling.
func (c *Client) markRead(ctx context.Context, r *room) {
	if c.opts.Full || !protocol.IsDirect(r.name) && c.transport.Encoding() != Line {
		return
	}
	r.mu.Lock()
	last := r.last
	r.mu.Unlock()
	if last == 0 {
		return
	}
	if _, _, err := c.hub.store.MarkRead(ctx, r.name, c.login.User, last); err != nil {
		c.hub.log.WarnContext(ctx, "noting what was read failed; it will be sent again", "user", c.login.User, "error", err)
	}
}

// requestsPerMessage is how many requests of other kinds (joins, lists) a
// client may make for each message it may send.
const requestsPerMessage = 10

// window counts what happens in ten seconds.
type window struct {
	limit int // 0: none
	count int
	began time.Time
}

const windowTime = 10 * time.Second

// allow counts one more and says whether it is within the limit.
func (w *window) allow(now time.Time) bool {
	if w.limit <= 0 {
		return true
	}
	if now.Sub(w.began) > windowTime {
		w.began, w.count = now, 0
	}
	w.count++
	return w.count <= w.limit
}

// Detach ends the client: its rooms no longer count it and its session is
// released. It is called when the connection's reader has ended. code is the
// WebSocket close code that the connection ended with.
func (c *Client) Detach(code int) {
	c.handling.Lock()
	defer c.handling.Unlock()
	if !c.detached {
		defer c.hub.moveSoon()()
		c.detach()
		if c.isBroken() {
			code = protocol.CloseAbnormal
		}
		c.hub.metrics.closed.WithLabelValues(c.transport.Protocol(), codeLabel(code)).Inc()
	}
}

// detach does what Detach says. Callers hold c.handling.
func (c *Client) detach() {
	c.detached = true
	c.queue.drop()

	ctx, cancel := context.WithTimeout(context.Background(), detachTime)
	defer cancel()
	for len(c.rooms) > 0 {
		r := c.rooms[0]
		c.markRead(ctx, r)
		c.leaveRoom(ctx, r)
	}
	c.hub.exit(c)
}

// detachTime bounds how long a connection's end may wait for Redis.
const detachTime = 10 * time.Second

// joinRoom makes the client a member. Callers hold c.handling.
func (c *Client) joinRoom(ctx context.Context, name string, how joining) error {
	r := c.rooms.named(name)
	known := r != nil
	if !known {
		var err error
		if r, err = c.hub.openRoom(name); err != nil {
			return err
		}
	}
	if err := r.join(ctx, c, how); err != nil {
		if !known {
			c.hub.closeRoom(r)
		}
		return err
	}
	if !known {
		c.rooms = append(c.rooms, r)
		c.user.enterRoom(ctx, r)
	}
	if !protocol.IsDirect(name) {
		c.present = name
	}
	return nil
}

// leaveRoom takes the client out of a room; last tells that no connection of its
// user is in there any more. Callers hold c.handling.
func (c *Client) leaveRoom(ctx context.Context, r *room) (last bool) {
	r.part(c)
	c.rooms.remove(r)
	if c.present == r.name {
		c.present = ""
	}
	last = c.user.exitRoom(ctx, r)
	c.hub.closeRoom(r)
	return last
}

// Package hub is who is connected here, which rooms they are in, and how each
// message of a room reaches each member once and in order, whichever servers
// they are on. What they ask for is done by package chat.
//
// It knows chat and the store (what is kept), the relay (what other servers say)
// and the protocol's types, but neither sockets nor HTTP: a connection is a Transport.
//
// Locks are taken in this order: Client.handling, user.presence, then one of
// Hub.mu and room.mu, then the queues. Only the first two are held across calls
// to Redis.
package hub

import (
	"context"
	"errors"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/chatcluster/chatcluster/chatserver/chat"
	"github.com/chatcluster/chatcluster/chatserver/protocol"
	"github.com/chatcluster/chatcluster/chatserver/relay"
	"github.com/chatcluster/chatcluster/chatserver/store"
)

var (
	// ErrDraining refuses clients because the server is going away.
	ErrDraining = errors.New("this server is going away: connect again to reach another one")
	// ErrLoggedOut refuses clients whose session was ended.
	ErrLoggedOut = errors.New("this session was logged out: log in again")
	// ErrCrowd refuses clients because too many others came before them.
	ErrCrowd = errors.New("too many came at once: this client has waited too long for its turn")
)

// Config is what the hub has to be told. Zero numbers get the stated default.
type Config struct {
	Server          string            // this server's id, the same as the store's
	MaxMessageBytes int               // 4096
	MessagesPer10s  int               // a connection; 0 is no limit
	QueueBytes      int               // what may wait for one client; 1 MiB, or 16 of the longest messages
	Policy          store.Policy      // for a user who is online already
	DrainWindow     time.Duration     // over which clients are sent away; 20 s
	Notify          func(chat.Record) // see chat.Config
	Log             *slog.Logger
	Registerer      prometheus.Registerer
	Traces          trace.TracerProvider // optional
}

// Hub is one chat server's share of the chat.
type Hub struct {
	cfg     Config
	chat    *chat.Chat
	store   *store.Store
	relay   *relay.Relay
	log     *slog.Logger
	metrics *metrics
	tracer  trace.Tracer
	cores   int
	tasks   tasks
	moving  chan struct{} // held by clients that come or go: a crowd of them must not keep messages from Redis

	born  time.Time
	pulse atomic.Int64 // nanoseconds from born to when this process last noted that it runs
	life  atomic.Int64 // how often it was found to have stood still

	beat      atomic.Int64             // unix nanoseconds of the last heartbeat that Redis took
	unsettles atomic.Bool              // presence in Redis differs from ours
	lapsed    atomic.Bool              // because the heartbeat had run out
	live      atomic.Pointer[[]string] // servers with a heartbeat, as last listed
	dead      atomic.Pointer[[]string] // and without

	mu        sync.Mutex
	draining  bool
	empty     chan struct{} // closed when the last client has gone while draining
	clients   map[*Client]struct{}
	users     map[string]*user
	rooms     map[string]*room
	followers map[string]map[*user]struct{} // by the user who is followed
}

// New makes a hub; Run has to run for it to work.
func New(cfg Config, st *store.Store, rl *relay.Relay) *Hub {
	if cfg.MaxMessageBytes == 0 {
		cfg.MaxMessageBytes = 4096
	}
	if cfg.QueueBytes == 0 {
		cfg.QueueBytes = max(1<<20, 16*cfg.MaxMessageBytes)
	}
	if cfg.DrainWindow == 0 {
		cfg.DrainWindow = 20 * time.Second
	}
	h := &Hub{
		cfg: cfg, store: st, relay: rl, log: cfg.Log, cores: runtime.GOMAXPROCS(0), born: time.Now(),
		empty: make(chan struct{}), clients: map[*Client]struct{}{}, users: map[string]*user{}, rooms: map[string]*room{},
		followers: map[string]map[*user]struct{}{},
	}
	h.chat = chat.New(chat.Config{MaxMessageBytes: cfg.MaxMessageBytes, PageBytes: cfg.QueueBytes / 4, Notify: cfg.Notify, Log: cfg.Log, Registerer: cfg.Registerer}, st)
	if cfg.Traces == nil {
		cfg.Traces = noop.NewTracerProvider()
	}
	h.tracer = cfg.Traces.Tracer("github.com/chatcluster/chatcluster/chatserver/hub")
	h.metrics = newMetrics(cfg.Registerer, h)
	h.moving = make(chan struct{}, movers*h.cores)
	h.tasks.ctx, h.tasks.cancel = context.WithCancel(context.Background())
	return h
}

// Chat does what needs no connection.
func (h *Hub) Chat() *chat.Chat { return h.chat }

// Run relays, keeps the heartbeat and tidies until ctx ends.
func (h *Hub) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, h.tasks.cancel)
	defer stop()
	h.pulse.Store(int64(time.Since(h.born)))
	h.spawn(h.watchPauses)
	h.spawn(h.heartbeats)
	h.spawn(h.upkeep)
	h.spawn(h.tidy)
	err := h.relay.Run(h.tasks.ctx, h)
	h.tasks.end()
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// spawn runs f on its own until the hub ends; false says it has ended already.
func (h *Hub) spawn(f func(context.Context)) bool { return h.tasks.spawn(f) }

// Healthy says whether this server can relay: nil, or what is wrong.
func (h *Hub) Healthy() error {
	if age := time.Since(time.Unix(0, h.beat.Load())); age > heartbeatTTL {
		return errors.New("no heartbeat reached Redis for longer than it lives: is Redis up and reachable?")
	}
	h.mu.Lock()
	draining := h.draining
	h.mu.Unlock()
	if draining {
		return ErrDraining
	}
	return h.relay.Healthy()
}

// enter takes a client in: its user becomes present and reachable.
func (h *Hub) enter(ctx context.Context, c *Client) error {
	u, err := h.ref(c)
	if err != nil {
		return err
	}
	c.user = u
	// Before the checks: a logout that comes between them and here finds the client.
	u.add(c)
	if err := h.admit(ctx, c); err != nil {
		u.remove(c)
		h.unref(c)
		return err
	}
	return nil
}

// ref counts a client. From here on a drain waits for it.
func (h *Hub) ref(c *Client) (*user, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.draining {
		return nil, ErrDraining
	}
	u := h.users[c.login.User]
	if u == nil {
		u = newUser(h, c.login.User)
		h.users[u.name] = u
	}
	u.refs++
	h.clients[c] = struct{}{}
	return u, nil
}

func (h *Hub) unref(c *Client) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.clients, c)
	h.noteEmptyLocked()
	u := c.user
	u.refs--
	if u.refs > 0 {
		return
	}
	delete(h.users, u.name)
	h.relay.Unsubscribe(store.UserChannel(u.name))
	for whom := range u.hears {
		h.stopListeningLocked(u, whom)
	}
}

// noteEmptyLocked has the end of a drain noticed. No client comes after that.
func (h *Hub) noteEmptyLocked() {
	if !h.draining || len(h.clients) > 0 {
		return
	}
	select {
	case <-h.empty:
	default:
		close(h.empty)
	}
}

// admit makes the client's session present, unless it was logged out or the
// user is online elsewhere.
func (h *Hub) admit(ctx context.Context, c *Client) error {
	err := c.user.acquire(ctx, c.login.Session)
	if errors.Is(err, store.ErrOnline) {
		// A connection that the user has just closed may still be leaving, and our
		// list may still have a server that died a moment ago: ask once more.
		h.moved() // others need not wait for it
		select {
		case <-ctx.Done():
			err = context.Cause(ctx)
		case <-time.After(leaveTime):
			err = nil
		}
		// Attach gives it back, so it is taken again whatever happened.
		_ = h.move(context.WithoutCancel(ctx))
		if err != nil {
			return err
		}
		if err := h.listServers(ctx); err != nil {
			return err
		}
		err = c.user.acquire(ctx, c.login.Session)
	}
	if err != nil {
		return err
	}
	valid, err := h.store.LoginValid(ctx, c.login.User, c.login.Session)
	if err == nil && !valid {
		err = ErrLoggedOut
	}
	if err != nil {
		c.user.release(c.login.Session)
	}
	return err
}

// leaveTime is what a connection that was closed may take to release its session.
const leaveTime = 300 * time.Millisecond

// exit undoes enter.
func (h *Hub) exit(c *Client) {
	c.user.remove(c)
	c.user.release(c.login.Session)
	h.unref(c)
}

// acquire holds a session in Redis and has the sessions it replaces closed.
func (h *Hub) acquire(ctx context.Context, name, session string) error {
	got, err := h.store.Acquire(ctx, name, session, h.cfg.Policy, h.liveServers())
	if err != nil {
		return err
	}
	for _, old := range got.Replaced {
		h.chat.Broadcast(ctx, store.UserChannel(name), chat.Record{Kind: chat.KindReplaced, Login: old})
	}
	return nil
}

// Logout ends login sessions of one user: their tokens are refused from now on,
// and their connections are closed on every server.
func (h *Hub) Logout(ctx context.Context, name string, sessions ...string) error {
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	if err := h.store.RemoveLogin(ctx, name, sessions...); err != nil {
		return err
	}
	for _, session := range sessions {
		// Whoever asks again may not know these sessions any more, so it is tried here.
		_, err := chat.Retry(ctx, func() (struct{}, error) {
			signal := chat.Record{Kind: chat.KindLogout, Login: session}
			return struct{}{}, h.store.Broadcast(ctx, store.UserChannel(name), signal.Encode())
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// openRoom finds or makes a room and keeps it until closeRoom.
func (h *Hub) openRoom(name string) (*room, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if r := h.rooms[name]; r != nil {
		r.refs++
		return r, nil
	}
	r := newRoom(h, name)
	r.refs = 1
	if !h.spawn(r.subscribe) {
		return nil, ErrDraining
	}
	h.rooms[name] = r
	return r, nil
}

// subscribe makes the relay bring the room's messages, then finds its position.
func (r *room) subscribe(ctx context.Context) {
	// It fails only when the hub ends, or when everybody has left meanwhile.
	if r.hub.relay.Subscribe(ctx, r.channel) == nil {
		r.catchUp()
	}
}

// closeRoom gives back what openRoom gave. The room lingers for a moment: its
// next member often comes soon.
func (h *Hub) closeRoom(r *room) {
	h.mu.Lock()
	defer h.mu.Unlock()
	r.refs--
	r.unused = time.Now()
}

// Live takes what the relay brings (relay.Handler).
func (h *Hub) Live(channel string, payload []byte) {
	offset, epoch, body, ok := store.ParseLive(payload)
	if !ok {
		h.log.Error("a live message is not ours; skipped", "channel", channel)
		return
	}
	kind, name := splitChannel(channel)
	switch kind {
	case "room":
		h.mu.Lock()
		r := h.rooms[name]
		h.mu.Unlock()
		if r != nil {
			r.live(liveMessage{offset, epoch, body})
		}
	case "user":
		h.signal(name, body)
	case "follow":
		h.followed(name, body)
	}
}

// splitChannel takes "room:{lobby}:live" apart.
func splitChannel(channel string) (kind, name string) {
	kind, rest, _ := strings.Cut(channel, ":{")
	return kind, strings.TrimSuffix(rest, "}:live")
}

// Resubscribed has everything read again that the relay may have missed
// (relay.Handler).
func (h *Hub) Resubscribed(channels []string) {
	var users []*user
	for _, channel := range channels {
		kind, name := splitChannel(channel)
		h.mu.Lock()
		r, u := h.rooms[name], h.users[name]
		h.mu.Unlock()
		switch {
		case kind == "room" && r != nil:
			r.catchUp()
		case kind == "user" && u != nil:
			users = append(users, u)
		}
	}
	if len(users) > 0 {
		h.spawn(func(ctx context.Context) { h.refresh(ctx, users) })
	}
}

// refresh looks after users whose signals may have been missed. It does not
// give up before the hub ends: a logout that was missed is a door left open.
func (h *Hub) refresh(ctx context.Context, users []*user) {
	for _, u := range users {
		_, err := chat.Retry(ctx, func() (struct{}, error) { return struct{}{}, u.refresh(ctx) })
		if err != nil {
			h.log.Warn("signals that a user may have missed could not be made good", "user", u.name, "error", err)
		}
	}
}

// signal does what a record on a user's channel asks for.
func (h *Hub) signal(name string, body []byte) {
	rec, err := chat.Decode(body)
	if err != nil {
		h.log.Error("a signal is not ours; skipped", "user", name, "error", err)
		return
	}
	h.mu.Lock()
	u := h.users[name]
	h.mu.Unlock()
	if u == nil {
		return
	}
	switch rec.Kind {
	case chat.KindLogout:
		u.closeSession(rec.Login, protocol.CloseUnauthorized, "logged out")
	case chat.KindReplaced:
		u.closeSession(rec.Login, protocol.CloseReplaced, "the same user logged in elsewhere")
	case chat.KindDirect:
		if len(u.learn(rec.Room)) > 0 {
			h.spawn(func(ctx context.Context) { u.joinDirect(ctx, rec.Room) })
		}
	case chat.KindRemoved:
		h.spawn(func(ctx context.Context) { u.removed(ctx, rec.Room, rec.User) })
	case chat.KindInvited:
		e := protocol.Event{Type: protocol.TypeInvited, Room: rec.Room, Username: rec.User}
		u.each(func(c *Client) { c.Event(e) })
	case chat.KindFollows:
		h.spawn(func(ctx context.Context) { u.refollow(ctx) })
	}
}

// followed passes a message of a followed user on.
func (h *Hub) followed(whom string, body []byte) {
	rec, err := chat.Decode(body)
	if err != nil {
		h.log.Error("a follower's copy is not ours; skipped", "user", whom, "error", err)
		return
	}
	h.mu.Lock()
	followers := make([]*user, 0, len(h.followers[whom]))
	for u := range h.followers[whom] {
		followers = append(followers, u)
	}
	h.mu.Unlock()
	if !rec.Guarded {
		h.passOn(rec, followers)
		return
	}
	// Somebody is banned from the room: whether it is one of these is in Redis.
	h.spawn(func(ctx context.Context) {
		h.passOn(rec, slices.DeleteFunc(followers, func(u *user) bool {
			banned, err := h.store.IsBanned(ctx, rec.Room, u.name)
			return err != nil || banned
		}))
	})
}

// passOn gives followers their copy, except on connections that get the message
// as members of its room.
func (h *Hub) passOn(rec chat.Record, followers []*user) {
	h.mu.Lock()
	r := h.rooms[rec.Room]
	h.mu.Unlock()
	e := rec.Event(rec.Room, "", rec.Offset)
	e.Followed = true
	f := newFrame(e)
	var idle []*Client
	for _, u := range followers {
		u.each(func(c *Client) {
			if (r == nil || !r.has(c)) && c.push(f) {
				idle = append(idle, c)
			}
		})
	}
	h.flush(idle)
}

// listenTo has copies of whom's messages delivered to u.
func (h *Hub) listenTo(ctx context.Context, u *user, whom string) error {
	h.mu.Lock()
	if h.followers[whom] == nil {
		h.followers[whom] = map[*user]struct{}{}
	}
	h.followers[whom][u] = struct{}{}
	if u.hears == nil {
		u.hears = map[string]struct{}{}
	}
	u.hears[whom] = struct{}{}
	h.mu.Unlock()
	return h.relay.Subscribe(ctx, store.FollowChannel(whom))
}

func (h *Hub) stopListening(u *user, whom string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.stopListeningLocked(u, whom)
}

func (h *Hub) stopListeningLocked(u *user, whom string) {
	delete(u.hears, whom)
	delete(h.followers[whom], u)
	if len(h.followers[whom]) == 0 {
		delete(h.followers, whom)
		h.relay.Unsubscribe(store.FollowChannel(whom))
	}
}

package hub

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/chatcluster/chatcluster/chatserver/chat"
	"github.com/chatcluster/chatcluster/chatserver/protocol"
	"github.com/chatcluster/chatcluster/chatserver/store"
)

// user is what this server holds of somebody with at least one connection here.
//
// Its mutex is held across calls to Redis: what one user's connections do to
// the user's presence happens one after the other, or a leave could overtake a
// join and leave a ghost behind.
type user struct {
	hub   *Hub
	name  string
	refs  int                 // guarded by Hub.mu
	hears map[string]struct{} // users whose follow channel is listened to; nil: none; guarded by Hub.mu

	presence  sync.Mutex
	listening bool  // the relay brings the user's channels; guarded by presence
	sessions  tally // connections a session; guarded by presence
	inRoom    tally // connections a room; guarded by presence

	follows []string // users that this one follows; guarded by presence

	mu      sync.Mutex
	clients []*Client
	directs []string // direct rooms that the clients here know of
}

func newUser(h *Hub, name string) *user {
	return &user{hub: h, name: name}
}

// enterRoom makes the user present in the room, with the first connection.
// Presence that could not be stored is put right by the next heartbeat.
func (u *user) enterRoom(ctx context.Context, r *room) {
	if protocol.IsDirect(r.name) {
		return
	}
	u.presence.Lock()
	defer u.presence.Unlock()
	if u.inRoom.add(r.name) > 1 {
		r.mu.Lock()
		r.listSoon() // the new connection wants a list too
		r.mu.Unlock()
		return
	}
	first, err := u.hub.store.Enter(ctx, r.name, u.name)
	if err != nil {
		u.hub.unsettled(err, "entering a room", u.name)
		return
	}
	kind := chat.KindChanged
	if first {
		kind = chat.KindJoined
	}
	u.hub.chat.Broadcast(ctx, r.channel, chat.Record{Kind: kind, User: u.name, Room: r.name})
}

// exitRoom ends the user's presence in the room, with the last connection; last
// tells that the user is there on no server now.
func (u *user) exitRoom(ctx context.Context, r *room) (last bool) {
	if protocol.IsDirect(r.name) {
		return false
	}
	u.presence.Lock()
	defer u.presence.Unlock()
	if u.inRoom.remove(r.name) > 0 {
		return false
	}
	last, err := u.hub.store.Exit(ctx, r.name, u.name)
	if err != nil {
		u.hub.unsettled(err, "leaving a room", u.name)
		return false
	}
	if last {
		u.hub.chat.Broadcast(ctx, r.channel, chat.Record{Kind: chat.KindLeft, User: u.name, Room: r.name})
	}
	return last
}

// acquire makes the session present, with its first connection.
func (u *user) acquire(ctx context.Context, session string) error {
	u.presence.Lock()
	defer u.presence.Unlock()
	if err := u.listen(ctx); err != nil {
		return err
	}
	if !u.sessions.has(session) {
		if err := u.hub.acquire(ctx, u.name, session); err != nil {
			u.undoAcquire(err, session)
			return err
		}
	}
	u.sessions.add(session)
	return nil
}

// undoAcquire gives a session back that may have been stored although the
// answer did not say so: nobody else would, and the user were locked out.
func (u *user) undoAcquire(err error, session string) {
	if errors.Is(err, store.ErrOnline) {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), detachTime)
	defer cancel()
	if err := u.hub.store.Release(ctx, u.name, session); err != nil {
		u.hub.unsettled(err, "undoing a login", u.name)
	}
}

// listen has the relay bring what concerns the user. Callers hold u.presence.
func (u *user) listen(ctx context.Context) error {
	if u.listening {
		return nil
	}
	if err := u.hub.relay.Subscribe(ctx, store.UserChannel(u.name)); err != nil {
		return err
	}
	followed, err := u.hub.store.Following(ctx, u.name)
	if err != nil {
		return err
	}
	for _, whom := range followed {
		if err := u.hub.listenTo(ctx, u, whom); err != nil {
			return err
		}
	}
	directs, err := u.hub.store.Directs(ctx, u.name)
	if err != nil {
		return err
	}
	u.learn(directs...)
	u.follows = followed
	u.listening = true
	return nil
}

// maxDirects is how many direct rooms a client is put into or told of.
const maxDirects = 100

// learn notes direct rooms and returns those that are new.
func (u *user) learn(names ...string) (fresh []string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, name := range names {
		if len(u.directs) < maxDirects && !slices.Contains(u.directs, name) {
			u.directs = append(u.directs, name)
			fresh = append(fresh, name)
		}
	}
	return fresh
}

func (u *user) knownDirects() []string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return slices.Clone(u.directs)
}

// release ends the session's presence, with its last connection.
func (u *user) release(session string) {
	// Whatever ended the connection must not keep its session from being released.
	ctx, cancel := context.WithTimeout(context.Background(), detachTime)
	defer cancel()
	u.presence.Lock()
	defer u.presence.Unlock()
	if u.sessions.remove(session) > 0 {
		return
	}
	if err := u.hub.store.Release(ctx, u.name, session); err != nil {
		u.hub.unsettled(err, "releasing a session", u.name)
	}
}

// assert stores the user's presence again, as this server has it.
func (u *user) assert(ctx context.Context) error {
	u.presence.Lock()
	defer u.presence.Unlock()
	live := u.hub.liveServers()
	for _, session := range u.sessions {
		if _, err := u.hub.store.Acquire(ctx, u.name, session.name, store.Allow, live); err != nil {
			return err
		}
	}
	for _, room := range u.inRoom {
		if _, err := u.hub.store.Enter(ctx, room.name, u.name); err != nil {
			return err
		}
	}
	return nil
}

func (u *user) add(c *Client) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.clients = append(u.clients, c)
}

func (u *user) remove(c *Client) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.clients = slices.DeleteFunc(u.clients, func(other *Client) bool { return other == c })
}

// each calls f for the user's clients here.
func (u *user) each(f func(*Client)) {
	u.mu.Lock()
	clients := slices.Clone(u.clients)
	u.mu.Unlock()
	for _, c := range clients {
		f(c)
	}
}

// follow makes this user a follower. The relay is subscribed before the
// follower is stored: what is said once /subscribe is answered arrives.
func (u *user) follow(ctx context.Context, req protocol.Request) (protocol.Event, error) {
	u.presence.Lock()
	defer u.presence.Unlock()
	if slices.Contains(u.follows, req.To) {
		return protocol.Event{Type: protocol.TypeSubscribed, ID: req.ID, Username: req.To}, nil
	}
	if err := u.hub.listenTo(ctx, u, req.To); err != nil {
		return protocol.Event{}, err
	}
	answer, err := u.hub.chat.Do(ctx, u.name, req)
	if err != nil {
		u.hub.stopListening(u, req.To)
		return protocol.Event{}, err
	}
	u.follows = append(u.follows, req.To)
	return answer, nil
}

// unfollow is the inverse: nothing arrives once it is answered.
func (u *user) unfollow(ctx context.Context, req protocol.Request) (protocol.Event, error) {
	u.presence.Lock()
	defer u.presence.Unlock()
	answer, err := u.hub.chat.Do(ctx, u.name, req)
	if err == nil {
		u.follows = slices.DeleteFunc(u.follows, func(f string) bool { return f == req.To })
		u.hub.stopListening(u, req.To)
	}
	return answer, err
}

// refollow listens to whom the user follows now: another connection has changed it.
func (u *user) refollow(ctx context.Context) {
	u.presence.Lock()
	defer u.presence.Unlock()
	followed, err := u.hub.store.Following(ctx, u.name)
	if err != nil {
		u.hub.log.Warn("looking up whom a user follows failed", "user", u.name, "error", err)
		return
	}
	for _, whom := range followed {
		if !slices.Contains(u.follows, whom) && u.hub.listenTo(ctx, u, whom) != nil {
			return // the hub ends
		}
	}
	for _, whom := range u.follows {
		if !slices.Contains(followed, whom) {
			u.hub.stopListening(u, whom)
		}
	}
	u.follows = followed
}

// removed takes the user's clients out of a room that they are no member of any more.
func (u *user) removed(ctx context.Context, name, by string) {
	u.each(func(c *Client) { c.removed(ctx, name, by) })
}

func (c *Client) removed(ctx context.Context, name, by string) {
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	c.handling.Lock()
	defer c.handling.Unlock()
	r := c.rooms.named(name)
	if c.detached || r == nil {
		return
	}
	c.leaveRoom(ctx, r)
	c.Event(protocol.Event{Type: protocol.TypeLeft, Room: name, Username: by})
}

// closeSession closes the connections of one login session.
func (u *user) closeSession(session string, code int, reason string) {
	u.each(func(c *Client) {
		if c.login.Session == session {
			c.close(code, reason)
		}
	})
}

// joinDirect puts the user's clients into a direct room that somebody opened
// just now; they get all that was said in it.
func (u *user) joinDirect(ctx context.Context, name string) {
	u.each(func(c *Client) {
		if err := c.joinNew(ctx, name); err != nil {
			u.hub.log.Warn("joining a direct room failed", "user", u.name, "error", err)
		}
	})
}

func (c *Client) joinNew(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	c.handling.Lock()
	defer c.handling.Unlock()
	if c.detached || c.rooms.named(name) != nil {
		return nil
	}
	return c.joinRoom(ctx, name, joining{fromStart: true, quiet: !c.opts.Full})
}

// refresh does what signals asked for that may have been missed: sessions that
// were logged out are closed, direct rooms that were opened are joined. A token
// that merely expired ends no connection.
func (u *user) refresh(ctx context.Context) error {
	var logins []Login
	u.each(func(c *Client) { logins = append(logins, c.login) })
	sids := make([]store.UserSID, 0, len(logins))
	for _, l := range logins {
		sids = append(sids, store.UserSID{User: u.name, SID: l.Session})
	}
	valid, err := u.hub.store.LoginsValid(ctx, sids)
	if err != nil {
		return err
	}
	for i, l := range logins {
		if !valid[i] && (l.Expires.IsZero() || time.Now().Before(l.Expires)) {
			u.closeSession(l.Session, protocol.CloseUnauthorized, "logged out")
		}
	}
	directs, err := u.hub.store.Directs(ctx, u.name)
	if err != nil {
		return err
	}
	for _, name := range u.learn(directs...) {
		u.joinDirect(ctx, name)
	}
	u.refollow(ctx)
	return u.rejoin(ctx)
}

// rejoin makes sure that the user is a member of the rooms that the clients here
// are in. A Redis that forgot its last moments knows nothing of new members; one
// who was removed, and may not come back, is let go.
func (u *user) rejoin(ctx context.Context) error {
	u.presence.Lock()
	rooms := slices.Clone(u.inRoom)
	u.presence.Unlock()
	for _, room := range rooms {
		err := u.hub.chat.Join(ctx, u.name, room.name)
		var refusal *chat.Refusal
		switch {
		case errors.As(err, &refusal):
			u.removed(ctx, room.name, "")
		case err != nil:
			return err
		}
	}
	return nil
}

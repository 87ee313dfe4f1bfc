package hub

import (
	"context"
	"slices"
	"sync"

	"github.com/chatcluster/chatcluster/chatserver/protocol"
	"github.com/chatcluster/chatcluster/chatserver/store"
)

// user is what this server holds of somebody with at least one connection here.
//
// Its mutex is held across calls to Redis: what one user's connections do to
// the user's presence happens one after the other, or a leave could overtake a
// join and leave a ghost behind.
type user struct {
	hub  *Hub
	name string
	refs int // guarded by Hub.mu

	presence  sync.Mutex
	listening bool           // the relay brings the user's channels; guarded by presence
	sessions  map[string]int // connections a session; guarded by presence
	inRoom    map[string]int // connections a room; guarded by presence

	follows []string // users that this one follows; guarded by presence

	mu      sync.Mutex
	clients []*Client
}

func newUser(h *Hub, name string) *user {
	return &user{hub: h, name: name, sessions: map[string]int{}, inRoom: map[string]int{}}
}

// enterRoom makes the user present in the room, with the first connection.
// Presence that could not be stored is put right by the next heartbeat.
func (u *user) enterRoom(ctx context.Context, r *room) {
	if protocol.IsDirect(r.name) {
		return
	}
	u.presence.Lock()
	defer u.presence.Unlock()
	u.inRoom[r.name]++
	if u.inRoom[r.name] > 1 {
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
	kind := kindChanged
	if first {
		kind = kindJoined
	}
	u.hub.broadcast(ctx, r.channel, record{Kind: kind, User: u.name, Room: r.name})
}

// exitRoom ends the user's presence in the room, with the last connection.
func (u *user) exitRoom(ctx context.Context, r *room) {
	if protocol.IsDirect(r.name) {
		return
	}
	u.presence.Lock()
	defer u.presence.Unlock()
	u.inRoom[r.name]--
	if u.inRoom[r.name] > 0 {
		return
	}
	delete(u.inRoom, r.name)
	last, err := u.hub.store.Exit(ctx, r.name, u.name)
	if err != nil {
		u.hub.unsettled(err, "leaving a room", u.name)
		return
	}
	if last {
		u.hub.broadcast(ctx, r.channel, record{Kind: kindLeft, User: u.name, Room: r.name})
	}
}

// acquire makes the session present, with its first connection.
func (u *user) acquire(ctx context.Context, session string) error {
	u.presence.Lock()
	defer u.presence.Unlock()
	if err := u.listen(ctx); err != nil {
		return err
	}
	if u.sessions[session] == 0 {
		if err := u.hub.acquire(ctx, u.name, session); err != nil {
			return err
		}
	}
	u.sessions[session]++
	return nil
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
	u.follows = followed
	u.listening = true
	return nil
}

// release ends the session's presence, with its last connection.
func (u *user) release(ctx context.Context, session string) {
	u.presence.Lock()
	defer u.presence.Unlock()
	u.sessions[session]--
	if u.sessions[session] > 0 {
		return
	}
	delete(u.sessions, session)
	if err := u.hub.store.Release(ctx, u.name, session); err != nil {
		u.hub.unsettled(err, "releasing a session", u.name)
	}
}

// assert stores the user's presence again, as this server has it.
func (u *user) assert(ctx context.Context) error {
	u.presence.Lock()
	defer u.presence.Unlock()
	live, _, err := u.hub.store.Servers(ctx)
	if err != nil {
		return err
	}
	for session := range u.sessions {
		if _, err := u.hub.store.Acquire(ctx, u.name, session, store.Allow, live); err != nil {
			return err
		}
	}
	for room := range u.inRoom {
		if _, err := u.hub.store.Enter(ctx, room, u.name); err != nil {
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

// maxFollows is how many users one may follow.
const maxFollows = 200

// follow makes this user a follower. The relay is subscribed before the
// follower is stored: what is said once /subscribe is answered arrives.
func (u *user) follow(ctx context.Context, whom string) error {
	u.presence.Lock()
	defer u.presence.Unlock()
	if slices.Contains(u.follows, whom) {
		return nil
	}
	if len(u.follows) >= maxFollows {
		return refuse(protocol.CodeLimit, "you follow %d users, which is the limit", maxFollows)
	}
	if err := u.hub.listenTo(ctx, u, whom); err != nil {
		return err
	}
	if _, err := u.hub.store.Follow(ctx, whom, u.name); err != nil {
		return err
	}
	u.follows = append(u.follows, whom)
	return nil
}

func (u *user) unfollow(ctx context.Context, whom string) error {
	u.presence.Lock()
	defer u.presence.Unlock()
	if _, err := u.hub.store.Unfollow(ctx, whom, u.name); err != nil {
		return err
	}
	u.follows = slices.DeleteFunc(u.follows, func(f string) bool { return f == whom })
	u.hub.stopListening(u, whom)
	return nil
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
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	u.each(func(c *Client) {
		c.handling.Lock()
		defer c.handling.Unlock()
		if c.detached || c.rooms[name] != nil {
			return
		}
		if err := c.joinRoom(ctx, name, joining{fromStart: true, quiet: !c.opts.Full}); err != nil {
			u.hub.log.Warn("joining a direct room failed", "user", u.name, "error", err)
		}
	})
}

// refresh does what signals asked for that may have been missed: sessions that
// have ended are closed, direct rooms that were opened are joined.
func (u *user) refresh(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	var logins []store.UserSID
	u.each(func(c *Client) { logins = append(logins, store.UserSID{User: u.name, SID: c.login.Session}) })
	valid, err := u.hub.store.LoginsValid(ctx, logins)
	if err != nil {
		u.hub.log.Warn("checking a user's sessions failed", "user", u.name, "error", err)
		return
	}
	for i, login := range logins {
		if !valid[i] {
			u.closeSession(login.SID, protocol.CloseUnauthorized, "logged out")
		}
	}
	directs, err := u.hub.store.Directs(ctx, u.name)
	if err != nil {
		u.hub.log.Warn("reading a user's direct rooms failed", "user", u.name, "error", err)
		return
	}
	for _, name := range directs[:min(len(directs), maxDirects)] {
		u.joinDirect(ctx, name)
	}
}

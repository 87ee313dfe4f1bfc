package hub

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/chatcluster/chatcluster/chatserver/protocol"
	"github.com/chatcluster/chatcluster/chatserver/store"
)

// requestTime bounds how long one request may wait for Redis.
const requestTime = 10 * time.Second

// Handle does what a client asks and answers by events on its queue. Requests
// of one client are handled one after the other, so its messages keep their order.
func (c *Client) Handle(ctx context.Context, req protocol.Request) {
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	c.handling.Lock()
	defer c.handling.Unlock()
	if c.detached || c.isClosing() || !c.allowed(req) {
		return
	}
	err := c.dispatch(ctx, req)
	if err == nil {
		return
	}
	var refused *refusal
	if errors.As(err, &refused) {
		c.Event(protocol.Event{Type: protocol.TypeError, ID: req.ID, Room: req.Room, Code: refused.code, Message: refused.text})
		return
	}
	if errors.Is(err, errLeftBehind) || errors.Is(err, net.ErrClosed) {
		c.close(protocol.CloseSlow, "reading too slowly: connect again and resume")
		return
	}
	c.hub.log.Warn("a request failed", "type", req.Type, "room", req.Room, "user", c.login.User, "error", err)
	c.Event(unavailable(req))
	if req.Type == protocol.TypeMessage || req.Type == protocol.TypeDirect {
		// Messages that the client sent after this one must not overtake it.
		// Connecting again makes the client send all of them again, in order.
		c.close(protocol.CloseServiceRestart, "a message could not be stored: connect again and send it again with the same id")
	}
}

// refusal is an answer to a request that cannot be done as it is; it is the
// client's to mend.
type refusal struct{ code, text string }

func (r *refusal) Error() string { return r.text }

func refuse(code, format string, args ...any) error {
	return &refusal{code, fmt.Sprintf(format, args...)}
}

func unavailable(req protocol.Request) protocol.Event {
	return protocol.Event{
		Type: protocol.TypeError, ID: req.ID, Room: req.Room, Code: protocol.CodeUnavailable,
		Message: "the chat's storage does not answer: try again, with the same id",
	}
}

// allowed applies the rate limits; a client over them is told and cut off.
func (c *Client) allowed(req protocol.Request) bool {
	of, what := &c.requests, "requests"
	if req.Type == protocol.TypeMessage || req.Type == protocol.TypeDirect {
		of, what = &c.messages, "messages"
	}
	if of.allow(time.Now()) {
		return true
	}
	c.hub.metrics.limited.Inc()
	c.Event(protocol.Event{
		Type: protocol.TypeError, ID: req.ID, Room: req.Room, Code: protocol.CodeLimit,
		Message: fmt.Sprintf("Rate limit exceeded: at most %d %s in 10 seconds", of.limit, what),
	})
	c.close(protocol.CloseRateLimit, "Rate limit exceeded")
	return false
}

func (c *Client) dispatch(ctx context.Context, req protocol.Request) error {
	switch req.Type {
	case protocol.TypeMessage:
		return c.send(ctx, req)
	case protocol.TypeDirect:
		return c.sendDirect(ctx, req)
	case protocol.TypeJoin:
		return c.join(ctx, req)
	case protocol.TypeLeave:
		return c.leave(ctx, req)
	case protocol.TypeSubscribe:
		return c.follow(ctx, req)
	case protocol.TypeUnsubscribe:
		return c.unfollow(ctx, req)
	case protocol.TypeRooms:
		return c.listRooms(ctx, req)
	case protocol.TypeWho:
		return c.who(ctx, req)
	case protocol.TypeHistory:
		return c.history(ctx, req)
	case protocol.TypeLogout:
		return c.hub.Logout(ctx, c.login.User, c.login.Session)
	case protocol.TypePing:
		c.Event(protocol.Event{Type: protocol.TypePong, ID: req.ID})
		return nil
	}
	return refuse(protocol.CodeUnknownInput, "there is no request of type %q", req.Type)
}

// place is the room a request is about, of which the client has to be a member.
func (c *Client) place(req protocol.Request) (*room, error) {
	name := req.Room
	if name == "" {
		name = c.present
	}
	if name == "" {
		return nil, refuse(protocol.CodeNoRoom, "you are in no room: join one first")
	}
	r := c.rooms[name]
	if r == nil {
		return nil, refuse(protocol.CodeNoRoom, "you are not in %s: join it first", name)
	}
	return r, nil
}

func (c *Client) send(ctx context.Context, req protocol.Request) error {
	if err := protocol.ValidateText(req.Message, c.hub.cfg.MaxMessageBytes); err != nil {
		return refuse(textCode(req.Message, c.hub.cfg.MaxMessageBytes), "%v", err)
	}
	r, err := c.place(req)
	if err != nil {
		return err
	}
	return c.publish(ctx, r, req)
}

func textCode(text string, limit int) string {
	if len(text) > limit {
		return protocol.CodeTooLong
	}
	return protocol.CodeBadRequest
}

// publish puts a message into a room's log and acknowledges it once it is there.
func (c *Client) publish(ctx context.Context, r *room, req protocol.Request) error {
	rec := record{User: c.login.User, Time: time.Now().UnixMilli(), Text: req.Message, ID: req.ID}
	if req.ID == "" {
		req.ID = rand.Text() // so that trying again here cannot make it appear twice
	}
	start := time.Now()
	done, err := c.hub.publish(ctx, store.Message{Room: r.name, User: c.login.User, ID: req.ID, Payload: rec.encode()})
	if err != nil {
		return err
	}
	c.hub.metrics.published.Inc()
	c.hub.metrics.publishTime.Observe(time.Since(start).Seconds())
	if rec.ID != "" {
		c.Event(protocol.Event{
			Type: protocol.TypeAck, ID: rec.ID, Room: r.name,
			Epoch: done.Epoch, Offset: done.Offset, Duplicate: done.Duplicate,
		})
	}
	if !done.Duplicate && !protocol.IsDirect(r.name) {
		rec.Room, rec.Offset = r.name, done.Offset
		c.hub.tellFollowers(ctx, rec)
	}
	return nil
}

func (c *Client) sendDirect(ctx context.Context, req protocol.Request) error {
	if err := protocol.ValidateText(req.Message, c.hub.cfg.MaxMessageBytes); err != nil {
		return refuse(textCode(req.Message, c.hub.cfg.MaxMessageBytes), "%v", err)
	}
	if err := c.knownUser(ctx, req.To); err != nil {
		return err
	}
	name := protocol.DirectRoom(c.login.User, req.To)
	if err := c.hub.openDirect(ctx, name); err != nil {
		return err
	}
	r := c.rooms[name]
	if r == nil {
		if err := c.joinRoom(ctx, name, joining{quiet: true}); err != nil {
			return err
		}
		r = c.rooms[name]
	}
	return c.publish(ctx, r, req)
}

// knownUser refuses names that no account has.
func (c *Client) knownUser(ctx context.Context, name string) error {
	if name == "" {
		return refuse(protocol.CodeBadRequest, "the request names no user")
	}
	if name == c.login.User {
		return refuse(protocol.CodeBadRequest, "that is you")
	}
	_, err := c.hub.store.PasswordHash(ctx, name)
	if errors.Is(err, store.ErrNoUser) {
		return refuse(protocol.CodeNoUser, "there is no user %s", name)
	}
	return err
}

func (c *Client) join(ctx context.Context, req protocol.Request) error {
	if err := c.mayJoin(ctx, req.Room); err != nil {
		return err
	}
	if _, member := c.rooms[req.Room]; !member && len(c.rooms) >= maxRooms {
		return refuse(protocol.CodeLimit, "you are in %d rooms, which is the limit: leave one first", maxRooms)
	}
	how := joining{id: req.ID}
	if req.Epoch != "" {
		how.from = &store.Position{Epoch: req.Epoch, Offset: req.Offset}
	}
	before := c.present
	if err := c.joinRoom(ctx, req.Room, how); err != nil {
		return err
	}
	if c.opts.SingleRoom && before != "" && before != c.present {
		c.leaveRoom(ctx, before)
	}
	c.storePresent(ctx)
	return nil
}

// storePresent shows the present room in the user's session, for people who
// look there; nothing depends on it.
func (c *Client) storePresent(ctx context.Context) {
	if err := c.hub.store.SetRoom(ctx, c.login.User, c.present); err != nil {
		c.hub.log.Warn("storing a user's present room failed", "user", c.login.User, "error", err)
	}
}

// maxRooms is how many rooms one connection may be in.
const maxRooms = 200

func (c *Client) mayJoin(ctx context.Context, name string) error {
	a, b, direct := protocol.DirectUsers(name)
	if !direct {
		if err := protocol.ValidateRoom(name); err != nil {
			return refuse(protocol.CodeBadRequest, "%v", err)
		}
		return nil
	}
	other := a
	if a == c.login.User {
		other = b
	}
	if name != protocol.DirectRoom(c.login.User, other) || len(name) > 2*protocol.MaxRoomName {
		return refuse(protocol.CodeForbidden, "that is no direct room of yours")
	}
	return c.knownUser(ctx, other)
}

func (c *Client) leave(ctx context.Context, req protocol.Request) error {
	r, err := c.place(req)
	if err != nil {
		return err
	}
	c.leaveRoom(ctx, r.name)
	c.storePresent(ctx)
	c.Event(protocol.Event{Type: protocol.TypeLeft, ID: req.ID, Room: r.name})
	return nil
}

func (c *Client) follow(ctx context.Context, req protocol.Request) error {
	if err := c.knownUser(ctx, req.To); err != nil {
		return err
	}
	if err := c.user.follow(ctx, req.To); err != nil {
		return err
	}
	c.Event(protocol.Event{Type: protocol.TypeSubscribed, ID: req.ID, Username: req.To})
	return nil
}

func (c *Client) unfollow(ctx context.Context, req protocol.Request) error {
	if req.To == "" {
		return refuse(protocol.CodeBadRequest, "the request names no user")
	}
	if err := c.user.unfollow(ctx, req.To); err != nil {
		return err
	}
	c.Event(protocol.Event{Type: protocol.TypeUnsubscribed, ID: req.ID, Username: req.To})
	return nil
}

func (c *Client) listRooms(ctx context.Context, req protocol.Request) error {
	found, err := c.hub.store.Rooms(ctx)
	if err != nil {
		return err
	}
	rooms := make([]protocol.RoomInfo, 0, len(found))
	for _, r := range found {
		rooms = append(rooms, protocol.RoomInfo{Name: r.Name, Users: r.Users})
	}
	c.Event(protocol.Event{Type: protocol.TypeRoomList, ID: req.ID, Rooms: rooms})
	return nil
}

func (c *Client) who(ctx context.Context, req protocol.Request) error {
	r, err := c.place(req)
	if err != nil {
		return err
	}
	users, total, err := c.hub.store.Members(ctx, r.name, listLimit)
	if err != nil {
		return err
	}
	c.Event(userList(r.name, req.ID, users, total))
	return nil
}

// maxHistory is how many messages one history request gets at most.
const maxHistory = 100

func (c *Client) history(ctx context.Context, req protocol.Request) error {
	r, err := c.place(req)
	if err != nil {
		return err
	}
	limit := req.Limit
	if limit <= 0 || limit > maxHistory {
		limit = maxHistory
	}
	log, err := c.hub.store.ReadBefore(ctx, r.name, req.Before, limit)
	if err != nil {
		return err
	}
	messages, left := c.newest(r.name, log)
	more := left || len(log.Entries) > 0 && log.Entries[0].Offset > log.First
	if err := c.waitForRoom(ctx); err != nil {
		return err
	}
	c.Event(protocol.Event{Type: protocol.TypeHistory, ID: req.ID, Room: r.name, Epoch: log.Epoch, Messages: messages, More: more})
	return nil
}

// newest are the newest messages of log that fit well into the client's queue,
// oldest first; left says that there were more. Entries that are not ours are
// left out.
func (c *Client) newest(room string, log store.Log) (messages []protocol.Event, left bool) {
	messages = make([]protocol.Event, 0, len(log.Entries))
	size := 0
	for _, e := range slices.Backward(log.Entries) {
		rec, err := decodeRecord(e.Payload)
		if err != nil {
			continue
		}
		m := rec.event(room, log.At(e.Offset).Epoch, e.Offset)
		if size += len(m.AppendJSON(nil)); size > c.hub.cfg.QueueBytes/4 && len(messages) > 0 {
			left = true
			break
		}
		messages = append(messages, m)
	}
	slices.Reverse(messages)
	return messages, left
}

package hub

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/chatcluster/chatcluster/chatserver/chat"
	"github.com/chatcluster/chatcluster/chatserver/protocol"
	"github.com/chatcluster/chatcluster/chatserver/store"
	"github.com/chatcluster/chatcluster/chatserver/telemetry"
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
	c.closeIfStale()
	if c.detached || c.isClosing() || !c.allowed(req) {
		return
	}
	ctx, span := c.hub.tracer.Start(ctx, "request", trace.WithSpanKind(trace.SpanKindServer))
	defer span.End()
	err := c.dispatch(ctx, req)
	kind, code := outcome(req, err)
	c.hub.metrics.requests.WithLabelValues(kind, code).Inc()
	c.traced(ctx, kind, code)
	if err == nil {
		return
	}
	var refusal *chat.Refusal
	if errors.As(err, &refusal) {
		c.Event(protocol.Event{Type: protocol.TypeError, ID: req.ID, Room: req.Room, Code: refusal.Code, Message: refusal.Text})
		return
	}
	if errors.Is(err, errLeftBehind) || errors.Is(err, net.ErrClosed) {
		c.close(protocol.CloseSlow, "reading too slowly: connect again and resume")
		return
	}
	c.hub.log.WarnContext(ctx, "a request failed", "type", req.Type, "room", req.Room, "user", c.login.User, "error", err)
	c.Event(unavailable(req))
	if req.Type == protocol.TypeMessage || req.Type == protocol.TypeDirect {
		// Messages that the client sent after this one must not overtake it.
		// Connecting again makes the client send all of them again, in order.
		c.close(protocol.CloseServiceRestart, "a message could not be stored: connect again and send it again with the same id")
	}
}

// traced tells the span of a request what it was and what came of it.
func (c *Client) traced(ctx context.Context, kind, code string) {
	span := trace.SpanFromContext(ctx)
	if !span.IsRecording() {
		return
	}
	span.SetName(c.transport.Protocol() + " " + kind)
	span.SetAttributes(attribute.String("chat.request", kind), attribute.String("chat.code", code),
		attribute.String("request_id", telemetry.RequestID(ctx)))
	if code == protocol.CodeUnavailable {
		span.SetStatus(codes.Error, "the chat's storage did not answer")
	}
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
		return c.answer(c.user.follow(ctx, req))
	case protocol.TypeUnsubscribe:
		return c.answer(c.user.unfollow(ctx, req))
	case protocol.TypeLogout:
		return c.hub.Logout(ctx, c.login.User, c.login.Session)
	case protocol.TypePing:
		c.Event(protocol.Event{Type: protocol.TypePong, ID: req.ID})
		return nil
	}
	if req.Room == "" {
		req.Room = c.present
	}
	answer, err := c.hub.chat.Do(ctx, c.login.User, req)
	if err == nil && answer.Type == protocol.TypeHistory {
		err = c.waitForRoom(ctx) // the longest answer there is
	}
	return c.answer(answer, err)
}

func (c *Client) answer(e protocol.Event, err error) error {
	if err == nil && e.Type != "" {
		c.Event(e)
	}
	return err
}

// place is the room a request is about, of which the client has to be a member.
func (c *Client) place(req protocol.Request) (*room, error) {
	name := req.Room
	if name == "" {
		name = c.present
	}
	if name == "" {
		return nil, chat.Refuse(protocol.CodeNoRoom, "you are in no room: join one first")
	}
	r := c.rooms.named(name)
	if r == nil {
		return nil, chat.Refuse(protocol.CodeNoRoom, "you are not in %s: join it first", name)
	}
	return r, nil
}

// send puts a message into a room's log and acknowledges it once it is there.
func (c *Client) send(ctx context.Context, req protocol.Request) error {
	r, err := c.place(req)
	if err != nil {
		return err
	}
	req.Room = r.name
	ack, err := c.hub.chat.Do(ctx, c.login.User, req)
	var refusal *chat.Refusal
	if errors.As(err, &refusal) && refusal.Code == protocol.CodeNoRoom {
		// The client is in the room, but Redis does not know it as a member: it forgot.
		if err = c.hub.chat.Join(ctx, c.login.User, r.name); err == nil {
			ack, err = c.hub.chat.Do(ctx, c.login.User, req)
		}
	}
	if err != nil {
		return err
	}
	if req.ID != "" {
		c.Event(ack)
	}
	return nil
}

// sendDirect sends to a user. The client is put into their room first, so that
// it hears what it says there.
func (c *Client) sendDirect(ctx context.Context, req protocol.Request) error {
	name, err := c.hub.chat.OpenDirect(ctx, c.login.User, req.To)
	if err != nil {
		return err
	}
	if c.rooms.named(name) == nil {
		if err := c.joinRoom(ctx, name, joining{quiet: true}); err != nil {
			return err
		}
	}
	req.Type, req.Room = protocol.TypeMessage, name
	return c.send(ctx, req)
}

func (c *Client) join(ctx context.Context, req protocol.Request) error {
	if err := c.hub.chat.Join(ctx, c.login.User, req.Room); err != nil {
		return err
	}
	if c.rooms.named(req.Room) == nil && len(c.rooms) >= maxRooms {
		return chat.Refuse(protocol.CodeLimit, "you are in %d rooms, which is the limit: leave one first", maxRooms)
	}
	how := joining{id: req.ID}
	switch {
	case req.Epoch != "":
		how.from = &store.Position{Epoch: req.Epoch, Offset: req.Offset}
	case c.transport.Encoding() == Line:
		// Nobody types positions: what was not read yet is what is missing.
		at, err := c.hub.store.Readings(ctx, c.login.User, []string{req.Room})
		if err != nil {
			return err
		}
		how = missed(protocol.RoomInfo{Epoch: at[0].Epoch, Read: at[0].Read, Unread: at[0].Unread})
		how.id, how.quiet = req.ID, false
	}
	before := c.present
	if err := c.joinRoom(ctx, req.Room, how); err != nil {
		return err
	}
	if c.opts.SingleRoom && before != "" && before != c.present {
		c.leaveForGood(ctx, before)
	}
	c.storePresent(ctx)
	return nil
}

// leaveForGood ends the membership too, unless another connection of the user
// is in the room.
func (c *Client) leaveForGood(ctx context.Context, name string) {
	r := c.rooms.named(name)
	if r == nil || !c.leaveRoom(ctx, r) {
		return
	}
	if err := c.hub.store.Leave(ctx, name, c.login.User); err != nil {
		c.hub.log.WarnContext(ctx, "ending a membership failed", "user", c.login.User, "room", name, "error", err)
	}
}

// storePresent shows the present room in the user's session, for people who
// look there; nothing depends on it.
func (c *Client) storePresent(ctx context.Context) {
	if err := c.hub.store.SetRoom(ctx, c.login.User, c.present); err != nil {
		c.hub.log.WarnContext(ctx, "storing a user's present room failed", "user", c.login.User, "error", err)
	}
}

// maxRooms is how many rooms one connection may be in: as many as one may be a
// member of, and the direct ones.
const maxRooms = chat.MaxRooms + maxDirects

func (c *Client) leave(ctx context.Context, req protocol.Request) error {
	r, err := c.place(req)
	if err != nil {
		return err
	}
	c.leaveRoom(ctx, r)
	c.storePresent(ctx)
	left := protocol.Event{Type: protocol.TypeLeft, ID: req.ID, Room: r.name}
	if protocol.IsDirect(r.name) {
		return c.answer(left, nil) // on this connection only: the room is the user's own
	}
	req.Room = r.name
	return c.answer(c.hub.chat.Do(ctx, c.login.User, req))
}

package chat

import (
	"context"
	"errors"
	"time"

	"github.com/chatcluster/chatcluster/chatserver/protocol"
	"github.com/chatcluster/chatcluster/chatserver/store"
)

// moderates says whether user keeps order in a room: its owner does, and
// moderators do everywhere. Nobody does in a direct room.
func (c *Chat) moderates(ctx context.Context, user, room string) (bool, error) {
	if protocol.IsDirect(room) {
		return false, nil
	}
	r, err := c.store.Room(ctx, room)
	if err != nil && !errors.Is(err, store.ErrNoRoom) {
		return false, err
	}
	if err == nil && r.Owner == user {
		return true, nil
	}
	return c.may(ctx, user, store.RoleModerator)
}

// mustModerate refuses those who do not keep order in a room that is there.
func (c *Chat) mustModerate(ctx context.Context, user, room string) error {
	allowed, err := c.moderates(ctx, user, room)
	switch {
	case err != nil:
		return err
	case !allowed:
		return Refuse(protocol.CodeForbidden, "only the room's owner and moderators may do that in %s", room)
	}
	_, err = c.store.Room(ctx, room)
	return err
}

// invite lets somebody join a private room. Members may: a private room is
// theirs, and its owner can end a membership.
func (c *Chat) invite(ctx context.Context, user string, req protocol.Request) (protocol.Event, error) {
	if err := c.mayRead(ctx, user, req.Room); err != nil {
		return protocol.Event{}, err
	}
	if protocol.IsDirect(req.Room) {
		return protocol.Event{}, Refuse(protocol.CodeForbidden, "a direct room is for its two users: make a private room for more")
	}
	if err := c.knownUser(ctx, user, req.To); err != nil {
		return protocol.Event{}, err
	}
	if err := c.store.Invite(ctx, req.Room, req.To); err != nil {
		return protocol.Event{}, err
	}
	c.Broadcast(ctx, store.UserChannel(req.To), Record{Kind: KindInvited, User: user, Room: req.Room})
	return done(req.Room), nil
}

func (c *Chat) kick(ctx context.Context, user string, req protocol.Request) (protocol.Event, error) {
	if err := c.mayRestrict(ctx, user, req); err != nil {
		return protocol.Event{}, err
	}
	if err := c.remove(ctx, user, req.Room, req.To); err != nil {
		return protocol.Event{}, err
	}
	return done(req.Room), nil
}

func (c *Chat) ban(ctx context.Context, user string, req protocol.Request) (protocol.Event, error) {
	return c.restrict(ctx, user, req, func() error {
		if err := c.store.Ban(ctx, req.Room, req.To, until(req.Seconds)); err != nil {
			return err
		}
		return c.tellRemoved(ctx, user, req.Room, req.To)
	})
}

func (c *Chat) unban(ctx context.Context, user string, req protocol.Request) (protocol.Event, error) {
	return c.restrict(ctx, user, req, func() error { return c.store.Unban(ctx, req.Room, req.To) })
}

func (c *Chat) mute(ctx context.Context, user string, req protocol.Request) (protocol.Event, error) {
	return c.restrict(ctx, user, req, func() error { return c.store.Mute(ctx, req.Room, req.To, until(req.Seconds)) })
}

func (c *Chat) unmute(ctx context.Context, user string, req protocol.Request) (protocol.Event, error) {
	return c.restrict(ctx, user, req, func() error { return c.store.Unmute(ctx, req.Room, req.To) })
}

func (c *Chat) restrict(ctx context.Context, user string, req protocol.Request, do func() error) (protocol.Event, error) {
	if req.Seconds < 0 {
		return protocol.Event{}, Refuse(protocol.CodeBadRequest, "a time in seconds is not negative")
	}
	if err := c.mayRestrict(ctx, user, req); err != nil {
		return protocol.Event{}, err
	}
	if err := do(); err != nil {
		return protocol.Event{}, err
	}
	return done(req.Room), nil
}

// mayRestrict says whether user may keep another one from a room. Nobody may
// that to the room's owner, nor to somebody of a higher role.
func (c *Chat) mayRestrict(ctx context.Context, user string, req protocol.Request) error {
	if err := c.mustModerate(ctx, user, req.Room); err != nil {
		return err
	}
	if err := c.knownUser(ctx, user, req.To); err != nil {
		return err
	}
	mine, err := c.store.Role(ctx, user)
	if err != nil {
		return err
	}
	theirs, err := c.store.Role(ctx, req.To)
	if err != nil {
		return err
	}
	r, err := c.store.Room(ctx, req.Room)
	if err != nil {
		return err
	}
	if theirs > mine || r.Owner == req.To && mine < store.RoleModerator {
		return Refuse(protocol.CodeForbidden, "%s may do more in %s than you", req.To, req.Room)
	}
	return nil
}

// until is when something that lasts so many seconds ends; 0 is for good.
func until(seconds int64) time.Time {
	if seconds == 0 {
		return time.Time{}
	}
	return time.Now().Add(time.Duration(min(seconds, maxKeepSeconds)) * time.Second)
}

func (c *Chat) close(ctx context.Context, user string, req protocol.Request) (protocol.Event, error) {
	return c.setClosed(ctx, user, req.Room, true)
}

func (c *Chat) reopen(ctx context.Context, user string, req protocol.Request) (protocol.Event, error) {
	return c.setClosed(ctx, user, req.Room, false)
}

func (c *Chat) setClosed(ctx context.Context, user, room string, closed bool) (protocol.Event, error) {
	if err := c.mustModerate(ctx, user, room); err != nil {
		return protocol.Event{}, err
	}
	if err := c.store.SetClosed(ctx, room, closed); err != nil {
		return protocol.Event{}, err
	}
	return c.changed(ctx, room)
}

package chat

import (
	"context"

	"github.com/chatcluster/chatcluster/chatserver/protocol"
	"github.com/chatcluster/chatcluster/chatserver/store"
)

// MaxFollows is how many users one may follow.
const MaxFollows = 200

// follow has the user get what another one says in public rooms.
func (c *Chat) follow(ctx context.Context, user string, req protocol.Request) (protocol.Event, error) {
	if err := c.knownUser(ctx, user, req.To); err != nil {
		return protocol.Event{}, err
	}
	followed, err := c.store.Following(ctx, user)
	if err != nil {
		return protocol.Event{}, err
	}
	if len(followed) >= MaxFollows {
		return protocol.Event{}, Refuse(protocol.CodeLimit, "you follow %d users, which is the limit", MaxFollows)
	}
	if _, err := c.store.Follow(ctx, req.To, user); err != nil {
		return protocol.Event{}, err
	}
	c.Broadcast(ctx, store.UserChannel(user), Record{Kind: KindFollows})
	return protocol.Event{Type: protocol.TypeSubscribed, Username: req.To}, nil
}

func (c *Chat) unfollow(ctx context.Context, user string, req protocol.Request) (protocol.Event, error) {
	if req.To == "" {
		return protocol.Event{}, Refuse(protocol.CodeBadRequest, "the request names no user")
	}
	if _, err := c.store.Unfollow(ctx, req.To, user); err != nil {
		return protocol.Event{}, err
	}
	c.Broadcast(ctx, store.UserChannel(user), Record{Kind: KindFollows})
	return protocol.Event{Type: protocol.TypeUnsubscribed, Username: req.To}, nil
}

// tellFollowers sends a copy of a message to those who follow its sender, if there are any.
func (c *Chat) tellFollowers(ctx context.Context, rec Record, hasAny func() (bool, error)) {
	followed, err := hasAny()
	if err != nil {
		c.log.WarnContext(ctx, "looking up followers failed", "user", rec.User, "error", err)
		return
	}
	if followed {
		c.Broadcast(ctx, store.FollowChannel(rec.User), rec)
	}
}

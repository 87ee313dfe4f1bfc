package chat

import (
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"time"

	"github.com/cenkalti/backoff/v5"
	"go.opentelemetry.io/otel/trace"

	"github.com/chatcluster/chatcluster/chatserver/protocol"
	"github.com/chatcluster/chatcluster/chatserver/store"
)

// tagBytes is what encryption may add to a message: an authentication tag and padding.
const tagBytes = 64

// content is what a request wants to have written.
func (c *Chat) content(req protocol.Request) (Content, error) {
	limit := c.cfg.MaxMessageBytes
	if req.Ciphertext == "" && req.IV == "" {
		if len(req.Message) > limit {
			return Content{}, Refuse(protocol.CodeTooLong, "%v", protocol.ValidateText(req.Message, limit))
		}
		if err := protocol.ValidateText(req.Message, limit); err != nil {
			return Content{}, Refuse(protocol.CodeBadRequest, "%v", err)
		}
		return Content{Text: req.Message}, nil
	}
	if req.Message != "" {
		return Content{}, Refuse(protocol.CodeBadRequest, "a message is text or ciphertext, not both: the text would give away what the ciphertext hides")
	}
	if err := protocol.ValidateCiphertext(req.Ciphertext, req.IV, limit+tagBytes); err != nil {
		return Content{}, Refuse(protocol.CodeBadRequest, "%v", err)
	}
	return Content{Ciphertext: req.Ciphertext, IV: req.IV}, nil
}

func (c Content) encrypted() bool { return c.Ciphertext != "" }

// send puts a message into a room's log. The answer is the acknowledgement: the
// message is in the log, at the offset it names.
func (c *Chat) send(ctx context.Context, user string, req protocol.Request) (protocol.Event, error) {
	content, err := c.content(req)
	if err != nil {
		return protocol.Event{}, err
	}
	if err := ownRoom(user, req.Room); err != nil {
		return protocol.Event{}, err
	}
	rec := Record{User: user, Time: time.Now().UnixMilli(), Content: content, ID: req.ID, ReplyTo: req.ReplyTo, Mentions: mentions(req)}
	followed := c.store.HasFollowers(ctx, user) // the answer comes with that of the publish
	published, err := c.publish(ctx, c.store.Publish, req, rec)
	if err != nil {
		return protocol.Event{}, err
	}
	if published.Duplicate {
		return ack(req.Room, published), nil
	}
	rec.Room, rec.Offset, rec.Guarded = req.Room, published.Offset, published.Guarded
	if c.cfg.Notify != nil {
		c.cfg.Notify(rec)
	}
	if published.Kind == protocol.KindPublic && !content.encrypted() {
		c.tellFollowers(ctx, rec, followed)
	}
	return ack(req.Room, published), nil
}

// publish tries until the request's time is over: the message's id makes sure
// that it appears once.
func (c *Chat) publish(ctx context.Context, put func(context.Context, store.Message) (store.Published, error), req protocol.Request, rec Record) (store.Published, error) {
	m := store.Message{
		Room: req.Room, User: rec.User, ID: req.ID, Series: req.Series, Seq: req.Seq,
		Payload: rec.Encode(), Encrypted: rec.encrypted(),
	}
	if m.ID == "" {
		m.ID = rand.Text()
	}
	began := time.Now()
	ctx, span := trace.SpanFromContext(ctx).TracerProvider().Tracer(tracer).Start(ctx, "publish")
	defer span.End()
	p, err := Retry(ctx, func() (store.Published, error) {
		p, err := put(ctx, m)
		for _, final := range []error{
			store.ErrRoomClosed, store.ErrBanned, store.ErrMuted, store.ErrNotMember, store.ErrPlaintext,
			store.ErrGone, store.ErrForeign, store.ErrTooMany, store.ErrSame,
		} {
			if errors.Is(err, final) {
				return p, backoff.Permanent(err)
			}
		}
		return p, err
	})
	if err == nil {
		c.metrics.stored(rec.Kind, p, time.Since(began))
	}
	return p, err
}

const tracer = "github.com/chatcluster/chatcluster/chatserver/chat"

// retryUntilFinal is Retry for what can be refused for good.
func retryUntilFinal(ctx context.Context, final error, f func() error) (struct{}, error) {
	return Retry(ctx, func() (struct{}, error) {
		err := f()
		if errors.Is(err, final) {
			err = backoff.Permanent(err)
		}
		return struct{}{}, err
	})
}

// Retry does f until it succeeds or ctx ends.
func Retry[T any](ctx context.Context, f func() (T, error)) (T, error) {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval, b.MaxInterval = 50*time.Millisecond, time.Second
	return backoff.Retry(ctx, f, backoff.WithBackOff(b), backoff.WithMaxElapsedTime(0))
}

func ack(room string, p store.Published) protocol.Event {
	return protocol.Event{Type: protocol.TypeAck, Room: room, Epoch: p.Epoch, Offset: p.Offset, Duplicate: p.Duplicate}
}

// mentions are the users a message names: those the sender says, and those in a
// text that can be read.
func mentions(req protocol.Request) []string {
	names := slices.Clone(req.Mentions)
	for _, name := range protocol.FindMentions(req.Message) {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names[:min(len(names), protocol.MaxMentions)]
}

// direct sends to a user, in the room that the two share.
func (c *Chat) direct(ctx context.Context, user string, req protocol.Request) (protocol.Event, error) {
	if _, err := c.content(req); err != nil {
		return protocol.Event{}, err
	}
	room, err := c.OpenDirect(ctx, user, req.To)
	if err != nil {
		return protocol.Event{}, err
	}
	req.Room = room
	return c.send(ctx, user, req)
}

// OpenDirect makes the direct room of two users known to both, and names it.
func (c *Chat) OpenDirect(ctx context.Context, user, other string) (room string, err error) {
	if err := c.knownUser(ctx, user, other); err != nil {
		return "", err
	}
	room = protocol.DirectRoom(user, other)
	for _, who := range []string{user, other} {
		added, err := c.store.OpenDirect(ctx, who, room)
		if err != nil {
			return "", err
		}
		if added {
			c.Broadcast(ctx, store.UserChannel(who), Record{Kind: KindDirect, Room: room})
		}
	}
	return room, nil
}

func (c *Chat) edit(ctx context.Context, user string, req protocol.Request) (protocol.Event, error) {
	content, err := c.content(req)
	if err != nil {
		return protocol.Event{}, err
	}
	return c.amend(ctx, user, req,
		store.Amendment{Op: store.Edit, Content: string(encode(content))}, Record{Kind: KindEdit, Content: content})
}

func (c *Chat) delete(ctx context.Context, user string, req protocol.Request) (protocol.Event, error) {
	moderates, err := c.moderates(ctx, user, req.Room)
	if err != nil {
		return protocol.Event{}, err
	}
	return c.amend(ctx, user, req, store.Amendment{Op: store.Delete, Moderator: moderates}, Record{Kind: KindDelete})
}

// react sets a reaction or takes it back; without being told which it does the
// other of what it is.
func (c *Chat) react(ctx context.Context, user string, req protocol.Request) (protocol.Event, error) {
	if err := protocol.ValidateEmoji(req.Emoji); err != nil {
		return protocol.Event{}, Refuse(protocol.CodeBadRequest, "%v", err)
	}
	if req.On != nil {
		answer, err := c.setReaction(ctx, user, req, *req.On)
		if errors.Is(err, store.ErrSame) {
			return done(req.Room), nil
		}
		return answer, err
	}
	if req.ID == "" {
		req.ID = rand.Text()
	}
	answer, err := c.setReaction(ctx, user, req, true)
	if errors.Is(err, store.ErrSame) {
		answer, err = c.setReaction(ctx, user, req, false)
	}
	return answer, err
}

func (c *Chat) setReaction(ctx context.Context, user string, req protocol.Request, on bool) (protocol.Event, error) {
	op := store.Unreact
	if on {
		op = store.React
	}
	return c.amend(ctx, user, req, store.Amendment{Op: op, Content: req.Emoji}, Record{Kind: KindReaction, Emoji: req.Emoji, On: on})
}

// amend says something about a message that is in the log.
func (c *Chat) amend(ctx context.Context, user string, req protocol.Request, a store.Amendment, rec Record) (protocol.Event, error) {
	if req.Ref == 0 {
		return protocol.Event{}, Refuse(protocol.CodeBadRequest, "the request does not say which message: ref is its offset")
	}
	if err := ownRoom(user, req.Room); err != nil {
		return protocol.Event{}, err
	}
	rec.User, rec.Time, rec.ID, rec.Ref = user, time.Now().UnixMilli(), req.ID, req.Ref
	published, err := c.publish(ctx, func(ctx context.Context, m store.Message) (store.Published, error) {
		a.Message, a.Ref = m, req.Ref
		return c.store.Amend(ctx, a)
	}, req, rec)
	if err != nil {
		return protocol.Event{}, err
	}
	return ack(req.Room, published), nil
}

// ownRoom refuses the direct rooms of others.
func ownRoom(user, room string) error {
	if room == "" {
		return Refuse(protocol.CodeNoRoom, "you are in no room: join one first")
	}
	if !protocol.IsDirect(room) {
		return nil
	}
	if a, b, _ := protocol.DirectUsers(room); a == b || (a != user && b != user) || protocol.DirectRoom(a, b) != room {
		return Refuse(protocol.CodeForbidden, "that is no direct room of yours")
	}
	return nil
}

// typing tells the others in the room, if they are here to see it.
func (c *Chat) typing(ctx context.Context, user string, req protocol.Request) (protocol.Event, error) {
	if err := c.mayRead(ctx, user, req.Room); err != nil {
		return protocol.Event{}, err
	}
	c.Broadcast(ctx, store.RoomChannel(req.Room), Record{Kind: KindTyping, User: user})
	return protocol.Event{}, nil
}

// read notes how far the user has read, and tells the others.
func (c *Chat) read(ctx context.Context, user string, req protocol.Request) (protocol.Event, error) {
	if err := c.mayRead(ctx, user, req.Room); err != nil {
		return protocol.Event{}, err
	}
	at, moved, err := c.store.MarkRead(ctx, req.Room, user, req.Offset)
	if err != nil {
		return protocol.Event{}, err
	}
	if moved {
		c.Broadcast(ctx, store.RoomChannel(req.Room), Record{Kind: KindRead, User: user, Ref: at})
	}
	return protocol.Event{Type: protocol.TypeDone, Room: req.Room, Offset: at}, nil
}

// mayRead refuses rooms that the user must not see into: direct ones of others,
// private ones without membership, and any that the user is banned from.
func (c *Chat) mayRead(ctx context.Context, user, room string) error {
	if err := ownRoom(user, room); err != nil || protocol.IsDirect(room) {
		return err
	}
	found, err := c.store.Room(ctx, room)
	if err != nil {
		return err
	}
	if found.Kind != protocol.KindPublic {
		member, err := c.store.IsMember(ctx, room, user)
		if err == nil && !member {
			err = store.ErrNoRoom // whoever may not see it learns nothing of it
		}
		return err
	}
	banned, err := c.store.IsBanned(ctx, room, user)
	if err == nil && banned {
		err = store.ErrBanned
	}
	return err
}

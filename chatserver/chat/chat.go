// Package chat is what people can do with rooms and messages, whatever they are
// connected through: the WebSocket, the line protocol and the HTTP calls all
// turn what they are sent into a protocol.Request and have it done here, so one
// operation means the same on all of them.
//
// It knows the store and the protocol's types. It must not know connections:
// who is present, and what reaches them in which order, is the hub's.
package chat

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/chatcluster/chatcluster/chatserver/protocol"
	"github.com/chatcluster/chatcluster/chatserver/store"
)

// Config is what a Chat has to be told.
type Config struct {
	MaxMessageBytes int // of a text, or of ciphertext before base64 and its authentication tag
	PageBytes       int // of one page of history
	// Notify is handed every message that was stored, with its room and offset, before
	// its sender is answered: it must not wait for anything. Nil: nobody wants to know.
	Notify     func(Record)
	Log        *slog.Logger
	Registerer prometheus.Registerer // nil: nobody looks at the metrics
}

// Chat does what is asked. It is safe for concurrent use and keeps nothing itself.
type Chat struct {
	store *store.Store
	cfg   Config
	log   *slog.Logger

	metrics *metrics
}

// New makes a Chat.
func New(cfg Config, st *store.Store) *Chat {
	return &Chat{store: st, cfg: cfg, log: cfg.Log, metrics: newMetrics(cfg.Registerer)}
}

// Refusal is an answer to a request that cannot be done as it is; it is the
// caller's to mend. Code is one of the protocol's, Text a sentence for people.
type Refusal struct{ Code, Text string }

func (r *Refusal) Error() string { return r.Text }

// Refuse makes a Refusal.
func Refuse(code, format string, args ...any) error {
	return &Refusal{code, fmt.Sprintf(format, args...)}
}

// operations are the requests that need no connection.
var operations = map[string]func(*Chat, context.Context, string, protocol.Request) (protocol.Event, error){
	protocol.TypeMessage:  (*Chat).send,
	protocol.TypeDirect:   (*Chat).direct,
	protocol.TypeEdit:     (*Chat).edit,
	protocol.TypeDelete:   (*Chat).delete,
	protocol.TypeReact:    (*Chat).react,
	protocol.TypeTyping:   (*Chat).typing,
	protocol.TypeRead:     (*Chat).read,
	protocol.TypeHistory:  (*Chat).history,
	protocol.TypeJoin:     (*Chat).join,
	protocol.TypeLeave:    (*Chat).leave,
	protocol.TypeCreate:   (*Chat).create,
	protocol.TypeRoom:     (*Chat).room,
	protocol.TypeRooms:    (*Chat).rooms,
	protocol.TypeMyRooms:  (*Chat).myRooms,
	protocol.TypeMembers:  (*Chat).members,
	protocol.TypeWho:      (*Chat).who,
	protocol.TypePresence: (*Chat).presence,
	protocol.TypeInvite:   (*Chat).invite,
	protocol.TypeKick:     (*Chat).kick,
	protocol.TypeBan:      (*Chat).ban,
	protocol.TypeUnban:    (*Chat).unban,
	protocol.TypeMute:     (*Chat).mute,
	protocol.TypeUnmute:   (*Chat).unmute,
	protocol.TypeClose:    (*Chat).close,
	protocol.TypeReopen:   (*Chat).reopen,

	protocol.TypeSubscribe:   (*Chat).follow,
	protocol.TypeUnsubscribe: (*Chat).unfollow,
}

// Do does what user asks and returns the answer; one without a type means that
// there is nothing to say. Errors are *Refusal, or Redis's: then the request may
// have been done or not, and sending it again with the same ID is safe.
func (c *Chat) Do(ctx context.Context, user string, req protocol.Request) (protocol.Event, error) {
	do := operations[req.Type]
	if do == nil {
		return protocol.Event{}, Refuse(protocol.CodeUnknownInput, "there is no request of type %q", req.Type)
	}
	answer, err := do(c, ctx, user, req)
	if err != nil {
		return protocol.Event{}, refused(req.Room, err)
	}
	if answer.Type != "" {
		answer.ID = req.ID
	}
	return answer, nil
}

// sentences say what the store's errors mean to the one who asked.
var sentences = []struct {
	is         error
	code, text string
}{
	{store.ErrNotMember, protocol.CodeNoRoom, "you are not in %s: join it first"},
	{store.ErrRoomClosed, protocol.CodeRoomClosed, "the room %s is closed: what was said in it can be read, and no more"},
	{store.ErrBanned, protocol.CodeBanned, "you are banned from %s: ask its owner or a moderator"},
	{store.ErrMuted, protocol.CodeMuted, "you are muted in %s: wait, or ask its owner or a moderator"},
	{store.ErrPlaintext, protocol.CodePlaintext, "the room %s is encrypted: send ciphertext and iv, no text"},
	{store.ErrPrivate, protocol.CodeForbidden, "the room %s is private: ask its owner to invite you"},
	{store.ErrNoRoom, protocol.CodeNoRoom, "there is no room %s that you can see"},
	{store.ErrRoomExists, protocol.CodeTaken, "there is a room %s already: choose another name"},
	{store.ErrGone, protocol.CodeNoMessage, "there is no such message in %s, or it was deleted or has become too old"},
	{store.ErrForeign, protocol.CodeForbidden, "that message in %s is another user's"},
	{store.ErrTooMany, protocol.CodeLimit, "that message in %s has as many reactions as it can have"},
}

// refused turns what the store refuses into a Refusal, and leaves other errors as they are.
func refused(room string, err error) error {
	for _, s := range sentences {
		if errors.Is(err, s.is) {
			return Refuse(s.code, s.text, room)
		}
	}
	return err
}

// done answers a request that has nothing to tell but that it was done.
func done(room string) protocol.Event {
	return protocol.Event{Type: protocol.TypeDone, Room: room}
}

// Broadcast tells other servers something that is not kept. Losing it does no
// lasting harm, so a failure is logged and no more.
func (c *Chat) Broadcast(ctx context.Context, channel string, r Record) {
	if err := c.store.Broadcast(ctx, channel, r.Encode()); err != nil {
		c.log.WarnContext(ctx, "a broadcast failed", "channel", channel, "error", err)
	}
}

// KnownUser refuses names that no account has, and the user's own.
func (c *Chat) knownUser(ctx context.Context, user, name string) error {
	if name == "" {
		return Refuse(protocol.CodeBadRequest, "the request names no user")
	}
	if name == user {
		return Refuse(protocol.CodeBadRequest, "that is you")
	}
	_, err := c.store.Role(ctx, name)
	if errors.Is(err, store.ErrNoUser) {
		return Refuse(protocol.CodeNoUser, "there is no user %s", name)
	}
	return err
}

// may says whether user has a role of at least that rank.
func (c *Chat) may(ctx context.Context, user string, rank store.Role) (bool, error) {
	role, err := c.store.Role(ctx, user)
	if errors.Is(err, store.ErrNoUser) {
		return false, nil
	}
	return role >= rank, err
}

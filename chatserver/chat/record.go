package chat

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/chatcluster/chatcluster/chatserver/protocol"
	"github.com/chatcluster/chatcluster/chatserver/store"
)

// Record is what servers tell one another: the payload of a log entry and of
// everything on the live channels. Its names are short because Redis keeps
// millions of them.
type Record struct {
	Kind string `json:"k,omitempty"` // "" is a message
	User string `json:"u,omitempty"`
	Time int64  `json:"t,omitempty"` // unix milliseconds
	Content
	ID       string             `json:"i,omitempty"` // the sender's
	Room     string             `json:"r,omitempty"` // where the channel does not tell
	Offset   uint64             `json:"o,omitempty"` // the same
	Login    string             `json:"s,omitempty"` // session id
	Ref      uint64             `json:"f,omitempty"` // offset of the message this is about
	ReplyTo  uint64             `json:"p,omitempty"`
	Mentions []string           `json:"a,omitempty"`
	Emoji    string             `json:"e,omitempty"`
	On       bool               `json:"w,omitempty"` // the reaction was set, not taken back
	Info     *protocol.RoomInfo `json:"n,omitempty"`
	Guarded  bool               `json:"g,omitempty"` // somebody is banned or muted in Room
}

// Content is what was written: a text, or ciphertext that this service cannot read.
type Content struct {
	Text       string `json:"m,omitempty"`
	Ciphertext string `json:"c,omitempty"`
	IV         string `json:"v,omitempty"`
}

// Kinds of records that are in a room's log besides messages.
const (
	KindEdit     = "edit"   // Ref, Content
	KindDelete   = "delete" // Ref
	KindReaction = "react"  // Ref, Emoji, On
)

// Kinds of records that are on a room's channel only.
const (
	KindJoined  = "joined"  // User is in the room now
	KindLeft    = "left"    // User is in it no more
	KindChanged = "changed" // who is here changed, ask again
	KindTyping  = "typing"  // User is writing
	KindRead    = "read"    // User has read up to Ref
	KindInfo    = "info"    // the room itself changed: Info
)

// Kinds of records on a user's channel.
const (
	KindDirect   = "direct"   // Room is a new direct room of this user
	KindLogout   = "logout"   // the session Login has ended
	KindReplaced = "replaced" // another login took over from Login
	KindRemoved  = "removed"  // the user is no member of Room any more; User ended it
	KindInvited  = "invited"  // User invited the user to Room
	KindFollows  = "follows"  // whom the user follows changed
)

// Encode gives the bytes that others Decode.
func (r Record) Encode() []byte { return encode(r) }

func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		// Strings and numbers always encode.
		panic(fmt.Sprintf("chat: encode %T: %v", v, err))
	}
	return b
}

// Decode reads a record.
func Decode(b []byte) (Record, error) {
	var r Record
	if err := json.Unmarshal(b, &r); err != nil {
		return Record{}, fmt.Errorf("decode record: %w", err)
	}
	return r, nil
}

const timestampLayout = "2006-01-02T15:04:05.000Z07:00"

func timestamp(ms int64) string { return time.UnixMilli(ms).UTC().Format(timestampLayout) }

// types are the events that log entries appear as.
var types = map[string]string{
	"": protocol.TypeMessage, KindEdit: protocol.TypeEdited, KindDelete: protocol.TypeDeleted, KindReaction: protocol.TypeReaction,
}

// Event is the log entry as clients see it. Entries of a kind that this version
// does not know keep their place: a client that gets no event for an offset
// takes it for lost.
func (r Record) Event(room, epoch string, offset uint64) protocol.Event {
	e := protocol.Event{
		Type: types[r.Kind], ID: r.ID, Room: room, Username: r.User, Message: r.Text,
		Ciphertext: r.Ciphertext, IV: r.IV, Ref: r.Ref, ReplyTo: r.ReplyTo, Mentions: r.Mentions, Emoji: r.Emoji,
		Timestamp: timestamp(r.Time), Epoch: epoch, Offset: offset,
	}
	if r.Kind == KindReaction {
		e.On = &r.On
	}
	if e.Type == "" {
		e.Type = r.Kind
	}
	return e
}

// Placeholder is what is left of a deleted message.
func Placeholder(room, epoch string, offset uint64, user string, ms int64) protocol.Event {
	return protocol.Event{
		Type: protocol.TypeMessage, Room: room, Username: user, Timestamp: timestamp(ms),
		Epoch: epoch, Offset: offset, Deleted: true,
	}
}

// EntryEvent is a log entry as it was when it was written, or what is left of it.
// ok is false for an entry that is not ours.
func EntryEvent(room, epoch string, e store.Entry) (event protocol.Event, ok bool) {
	if e.Payload == nil {
		return Placeholder(room, epoch, e.Offset, e.State.Author, e.State.Time), true
	}
	r, err := Decode(e.Payload)
	if err != nil {
		return protocol.Event{}, false
	}
	return r.Event(room, epoch, e.Offset), true
}

// historyEvent is a message as it is now, or ok is false: the entry is about
// another message, or not ours.
func historyEvent(room, epoch string, e store.Entry) (event protocol.Event, ok bool) {
	event, ok = EntryEvent(room, epoch, e)
	if !ok || event.Type != protocol.TypeMessage {
		return protocol.Event{}, false
	}
	if e.State == nil || event.Deleted {
		return event, true
	}
	var edit Content
	if e.State.Content != "" && json.Unmarshal([]byte(e.State.Content), &edit) == nil {
		event.Message, event.Ciphertext, event.IV = edit.Text, edit.Ciphertext, edit.IV
		event.Edited = timestamp(e.State.Edited)
	}
	for _, r := range e.State.Reactions {
		event.Reactions = append(event.Reactions, protocol.ReactionInfo{Emoji: r.Emoji, Users: r.Users})
	}
	return event, true
}

// Package protocol is what goes over the wire between a chat client and a chat
// server: the requests a client makes, the events a server sends, the close
// codes, and the two encodings of both, JSON (WebSocket) and text lines.
//
// It is shared by the server, the clients and the tests, and must know nothing
// of how any of them works: it imports the standard library only and does no I/O.
//
// One request or event means the same in both encodings. New fields and types
// may be added: a reader ignores what it does not know.
package protocol

import (
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Subprotocol is the WebSocket subprotocol of clients that speak all of this
// package. A client that asks for none gets the behaviour of a plain JSON chat:
// it is put into the default room at once and never sees Hello.
const Subprotocol = "chatcluster.v1"

// BearerPrefix starts a WebSocket subprotocol that carries an access token, for
// browsers, which cannot set headers on a WebSocket.
const BearerPrefix = "bearer."

// Types of requests.
const (
	TypeMessage     = "message"     // Room (default: the present one), Message, ID
	TypeChat        = "chat"        // another word for TypeMessage
	TypeJoin        = "join"        // Room; Epoch and Offset resume from there
	TypeLeave       = "leave"       // Room (default: the present one)
	TypeDirect      = "direct"      // To, Message, ID
	TypeSubscribe   = "subscribe"   // To: follow that user
	TypeUnsubscribe = "unsubscribe" // To
	TypeRooms       = "rooms"       // list of active rooms
	TypeWho         = "who"         // Room: who is there
	TypeHistory     = "history"     // Room, Limit, Before
	TypePing        = "ping"        // answered by TypePong with the same ID
	TypeHelp        = "help"        // line protocol: the list of commands
	TypeLogin       = "login"       // line protocol: To is the user, Message the password
	TypeRegister    = "register"    // line protocol: the same
	TypeLogout      = "logout"      // ends a session everywhere: Session (default: the present one; "all": every one)
	TypeQuit        = "quit"        // line protocol: closes the connection

	TypeSessions = "sessions" // the sessions one has
	TypePassword = "password" // Old, Message: changes the password and ends all other sessions

	TypeCreate   = "create"   // Room, Kind, Topic: makes a room with an owner
	TypeRoom     = "room"     // Room: what there is to know about it; with Topic or Retention: changes them
	TypeMyRooms  = "myRooms"  // the rooms and direct rooms one is a member of, with what is unread
	TypeMembers  = "members"  // Room, After, Limit: who is a member, present or not
	TypeInvite   = "invite"   // Room, To
	TypeKick     = "kick"     // Room, To: ends a membership
	TypeBan      = "ban"      // Room, To, Seconds (0: for good)
	TypeUnban    = "unban"    // Room, To
	TypeMute     = "mute"     // Room, To, Seconds
	TypeUnmute   = "unmute"   // Room, To
	TypeClose    = "close"    // Room: nobody may write or join any more
	TypeReopen   = "reopen"   // Room
	TypeEdit     = "edit"     // Room, Ref, and Message or Ciphertext and IV; ID
	TypeDelete   = "delete"   // Room, Ref; ID
	TypeReact    = "react"    // Room, Ref, Emoji, On (absent: toggles); ID
	TypeTyping   = "typing"   // Room
	TypeRead     = "read"     // Room, Offset: everything up to there was read
	TypePresence = "presence" // Names: which of these users are online
)

// AllSessions as the Session of a TypeLogout ends all sessions of the user.
const AllSessions = "all"

// Types of events that are not also types of requests.
const (
	TypeHello        = "hello"        // first event: Username, Session, Server, MaxMessageBytes, Directs
	TypeAck          = "ack"          // a message is in the room's log: ID, Room, Epoch, Offset
	TypeJoined       = "joined"       // ID, Room, Epoch, Offset, Recovered
	TypeLeft         = "left"         // ID, Room
	TypeSubscribed   = "subscribed"   // ID, Username
	TypeUnsubscribed = "unsubscribed" // ID, Username
	TypeUserList     = "userList"     // Room, Users, Total
	TypeRoomList     = "roomList"     // ID, Rooms
	TypeAnnouncement = "announcement" // Room, Message
	TypeReset        = "reset"        // Room, Epoch, Offset: what came before cannot be continued
	TypeReconnect    = "reconnect"    // the server is going away: connect again after After milliseconds
	TypeError        = "error"        // Code, Message, and the ID and Room of the request
	TypePong         = "pong"

	TypeEdited     = "edited"     // Room, Offset, Ref, Username, Message or Ciphertext and IV
	TypeDeleted    = "deleted"    // Room, Offset, Ref, Username: who deleted it
	TypeReaction   = "reaction"   // Room, Offset, Ref, Username, Emoji, On
	TypeRoomInfo   = "roomInfo"   // ID, Info
	TypeMemberList = "memberList" // ID, Room, Members, More
	TypeInvited    = "invited"    // Room, Username: who invited you
	TypeDone       = "done"       // ID, Room: the request was done and has nothing else to answer
)

// Kinds of rooms.
const (
	KindPublic  = "public"  // anyone may join
	KindPrivate = "private" // only who was invited may join, and no list shows it
	KindDirect  = "direct"  // of two users; its name comes from DirectRoom
)

// Codes of errors, for programs; the message beside them is for people.
const (
	CodeBadRequest   = "bad_request"
	CodeTooLong      = "too_long"
	CodeNotLoggedIn  = "not_logged_in"
	CodeWrongLogin   = "wrong_login"
	CodeOnline       = "already_online"
	CodeTaken        = "taken"
	CodeClosed       = "registration_closed"
	CodeNoRoom       = "no_room"
	CodeNoUser       = "no_user"
	CodeForbidden    = "forbidden"
	CodeLimit        = "limit"
	CodeUnavailable  = "unavailable" // try again: nothing was lost, the same ID is safe
	CodeUnknownInput = "unknown_command"
	CodeDisabled     = "disabled"   // the account may not log in
	CodeReused       = "reused"     // a refresh token was used twice: its session has ended
	CodeNoSession    = "no_session" // there is no such session
	CodeNoKey        = "no_key"     // the user has set no public key

	CodeRoomClosed = "room_closed"
	CodeMuted      = "muted"
	CodeBanned     = "banned"
	CodePlaintext  = "plaintext_refused" // the room is encrypted and takes ciphertext only
	CodeNoMessage  = "no_message"        // the message is not, or no longer, in the log
	CodeNoPush     = "no_push"           // the service sends no push messages
)

// WebSocket close codes that this server sends beyond RFC 6455's own uses.
const (
	CloseNormal         = 1000
	CloseAbnormal       = 1006 // never sent: the connection broke
	CloseRateLimit      = 1008 // over the message rate
	CloseTooBig         = 1009 // frame over the limit
	CloseInternal       = 1011 // never sent: a defect of the server ended the connection
	CloseServiceRestart = 1012 // drain: connect again, to another server
	CloseUnauthorized   = 4401 // the session was ended or the token expired
	CloseSlow           = 4408 // the client reads slower than it is sent to: connect again and resume
	CloseReplaced       = 4409 // another login took over
	CloseOnline         = 4410 // the user is online elsewhere already: try again later
)

// Request is what a client asks.
type Request struct {
	Type    string `json:"type"`
	ID      string `json:"id,omitempty"`      // the client's own; repeated in the answer; a message sent again with the same ID appears once
	Room    string `json:"room,omitempty"`    //
	To      string `json:"to,omitempty"`      // a user
	Message string `json:"message,omitempty"` // text
	Epoch   string `json:"epoch,omitempty"`   // join: the epoch and
	Offset  uint64 `json:"offset,omitempty"`  // the offset of the last message seen
	Before  uint64 `json:"before,omitempty"`  // history: only older than this offset; 0: the newest
	Limit   int    `json:"limit,omitempty"`   // history, lists: at most so many
	Series  string `json:"series,omitempty"`  // message, direct: a name that the client gives to all it sends, its own for each start of the client, and
	Seq     uint64 `json:"seq,omitempty"`     // the number of this message in it, ascending from 1: one that is not above the last was sent before

	Session string `json:"session,omitempty"` // logout: which one
	Old     string `json:"old,omitempty"`     // password: the present one

	After      string     `json:"after,omitempty"`      // lists: only what sorts after this name
	Since      uint64     `json:"since,omitempty"`      // history: only newer than this offset
	Kind       string     `json:"kind,omitempty"`       // create: KindPublic or KindPrivate
	Encrypted  bool       `json:"encrypted,omitempty"`  // create: only ciphertext is taken
	Topic      *string    `json:"topic,omitempty"`      // create, room
	Retention  *Retention `json:"retention,omitempty"`  // create, room
	Ref        uint64     `json:"ref,omitempty"`        // edit, delete, react: the offset of the message
	ReplyTo    uint64     `json:"replyTo,omitempty"`    // message: the offset of the message that this one answers
	Ciphertext string     `json:"ciphertext,omitempty"` // message, edit: instead of Message; base64
	IV         string     `json:"iv,omitempty"`         // beside Ciphertext; base64
	Mentions   []string   `json:"mentions,omitempty"`   // message: users; those in a readable text are found without
	Emoji      string     `json:"emoji,omitempty"`      // react
	On         *bool      `json:"on,omitempty"`         // react: set or take back; absent: the other of what it is
	Seconds    int64      `json:"seconds,omitempty"`    // ban, mute: for how long; 0: for good
	Names      []string   `json:"names,omitempty"`      // presence
}

// Retention is how much of a room's log is kept. A zero is the service's default.
type Retention struct {
	Messages int   `json:"messages,omitempty"` // at least so many of the newest entries
	Seconds  int64 `json:"seconds,omitempty"`  // none older
}

// Event is what a server tells. Which fields count depends on Type.
type Event struct {
	Type            string     `json:"type"`
	ID              string     `json:"id,omitempty"`
	Room            string     `json:"room,omitempty"`
	Username        string     `json:"username,omitempty"`
	Message         string     `json:"message,omitempty"`
	Timestamp       string     `json:"timestamp,omitempty"` // RFC 3339, UTC, milliseconds
	Epoch           string     `json:"epoch,omitempty"`
	Offset          uint64     `json:"offset,omitempty"`    // place in the room's log, from 1, without gaps
	Recovered       *bool      `json:"recovered,omitempty"` // joined: all messages after the given offset follow
	Duplicate       bool       `json:"duplicate,omitempty"` // ack: an earlier try had already arrived
	Followed        bool       `json:"followed,omitempty"`  // message: from another room, because its sender is followed
	Users           []string   `json:"users,omitzero"`
	Total           int        `json:"total,omitempty"` // users there are, where Users is cut short
	Rooms           []RoomInfo `json:"rooms,omitzero"`
	Messages        []Event    `json:"messages,omitzero"`
	More            bool       `json:"more,omitempty"` // history: there are older ones
	Code            string     `json:"code,omitempty"`
	After           int64      `json:"after,omitempty"` // milliseconds
	Session         string     `json:"session,omitempty"`
	Server          string     `json:"server,omitempty"`
	Directs         []string   `json:"directs,omitempty"` // hello: the user's direct rooms, to join
	MaxMessageBytes int        `json:"maxMessageBytes,omitempty"`

	Sessions []SessionInfo `json:"sessions,omitzero"`

	Ref        uint64         `json:"ref,omitempty"`        // offset of the message that this is about; read: of the last one read
	ReplyTo    uint64         `json:"replyTo,omitempty"`    // message: the offset of what it answers
	Ciphertext string         `json:"ciphertext,omitempty"` // instead of Message
	IV         string         `json:"iv,omitempty"`         //
	Mentions   []string       `json:"mentions,omitempty"`   //
	Emoji      string         `json:"emoji,omitempty"`      //
	On         *bool          `json:"on,omitempty"`         // reaction: set or taken back
	Edited     string         `json:"edited,omitempty"`     // message in a history: when it was edited last
	Deleted    bool           `json:"deleted,omitempty"`    // message: only its place is left
	Reactions  []ReactionInfo `json:"reactions,omitempty"`  // message in a history
	Info       *RoomInfo      `json:"info,omitempty"`       // roomInfo
	Members    []MemberInfo   `json:"members,omitzero"`     // memberList
	MyRooms    []RoomInfo     `json:"myRooms,omitzero"`     // hello, myRooms: the rooms one is a member of
}

// SessionInfo is one session of a user: what a login began and a logout ends.
type SessionInfo struct {
	ID        string `json:"id"`
	Created   string `json:"created"`             // RFC 3339, like Event.Timestamp
	LastUsed  string `json:"lastUsed"`            // when it last proved who it is, to the minute
	Expires   string `json:"expires"`             // unless it is used before
	Address   string `json:"address,omitempty"`   // where it was begun from
	UserAgent string `json:"userAgent,omitempty"` // and with what
	Current   bool   `json:"current"`             // it is the one that asks
}

// ReactionInfo is who reacted to a message with one emoji.
type ReactionInfo struct {
	Emoji string   `json:"emoji"`
	Users []string `json:"users"`
}

// MemberInfo is a line of the list of a room's members.
type MemberInfo struct {
	Name   string `json:"name"`
	Online bool   `json:"online"`
	Since  string `json:"since,omitempty"` // RFC 3339: when the membership began
}

// RoomInfo is what there is to know about a room. Lists give a part of it.
type RoomInfo struct {
	Name      string     `json:"name"`
	Users     int        `json:"users"`          // present now
	Kind      string     `json:"kind,omitempty"` //
	Encrypted bool       `json:"encrypted,omitempty"`
	Topic     string     `json:"topic,omitempty"`
	Owner     string     `json:"owner,omitempty"`
	Members   int        `json:"members,omitempty"` // present or not
	Closed    bool       `json:"closed,omitempty"`
	Retention *Retention `json:"retention,omitempty"`
	Epoch     string     `json:"epoch,omitempty"`  // myRooms: where its log is,
	Offset    uint64     `json:"offset,omitempty"` // the newest entry,
	Read      uint64     `json:"read,omitempty"`   // the last one that the caller has read,
	Unread    uint64     `json:"unread,omitempty"` // and how many messages came after that
}

const (
	// MaxRoomName is the longest name of a room, in bytes.
	MaxRoomName = 64
	// MaxID is the longest ID of a request, in bytes.
	MaxID = 64
	// MaxTopic is the longest topic of a room, in bytes.
	MaxTopic = 512
	// MaxMentions is how many users one message can mention.
	MaxMentions = 20
	// MaxEmoji is the longest reaction, in bytes: an emoji may be a sequence.
	MaxEmoji = 64
	// MaxUnacknowledged is how many messages a user may have sent to one room
	// without an acknowledgement, on all connections: the server remembers twice
	// as many IDs, so that any of them can be sent again and appears once.
	MaxUnacknowledged = 32
)

// ValidateRoom says whether name can be the name of a room that people join.
// Names that start with '@' are direct rooms and come from DirectRoom alone.
func ValidateRoom(name string) error {
	if name == "" {
		return errors.New("a room needs a name")
	}
	if len(name) > MaxRoomName {
		return fmt.Errorf("a room's name has at most %d characters", MaxRoomName)
	}
	for i := range len(name) {
		if !roomByte(name[i]) {
			return fmt.Errorf("a room's name has letters, digits, '_', '-' and '.' only, not %q", name)
		}
	}
	return nil
}

func roomByte(b byte) bool {
	return b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= '0' && b <= '9' || b == '_' || b == '-' || b == '.'
}

// DirectRoom is the name of the room that only a and b share: the same for
// both of them.
func DirectRoom(a, b string) string {
	if b < a {
		a, b = b, a
	}
	return "@" + a + ":" + b
}

// DirectUsers are the two users of a direct room; ok is false for any other room.
func DirectUsers(room string) (a, b string, ok bool) {
	rest, direct := strings.CutPrefix(room, "@")
	if !direct {
		return "", "", false
	}
	return strings.Cut(rest, ":")
}

// ValidateText says whether text can be a message of at most limit bytes.
func ValidateText(text string, limit int) error {
	switch {
	case text == "":
		return errors.New("the message is empty")
	case len(text) > limit:
		return fmt.Errorf("the message has %d bytes, the limit is %d", len(text), limit)
	case !utf8.ValidString(text):
		return errors.New("the message is not valid UTF-8")
	}
	return nil
}

// IsDirect reports whether room is a direct room.
func IsDirect(room string) bool { return strings.HasPrefix(room, "@") }

// ValidateTopic says whether topic can be a room's topic.
func ValidateTopic(topic string) error {
	switch {
	case len(topic) > MaxTopic:
		return fmt.Errorf("the topic has %d bytes, the limit is %d", len(topic), MaxTopic)
	case !utf8.ValidString(topic):
		return errors.New("the topic is not valid UTF-8")
	}
	return nil
}

// ValidateEmoji says whether e can be a reaction: a sign, or a sequence of signs
// that make one, but no text.
func ValidateEmoji(e string) error {
	if e == "" || len(e) > MaxEmoji || !utf8.ValidString(e) {
		return fmt.Errorf("a reaction is an emoji of at most %d bytes", MaxEmoji)
	}
	for _, r := range e {
		if unicode.IsLetter(r) || unicode.IsSpace(r) || unicode.IsControl(r) || isBidiControl(r) {
			return fmt.Errorf("a reaction is an emoji, not text like %q", e)
		}
	}
	return nil
}

// ValidateCiphertext says whether text and iv can be an encrypted message of at
// most limit bytes of ciphertext, before base64.
func ValidateCiphertext(text, iv string, limit int) error {
	decoded, err := base64.StdEncoding.DecodeString(text)
	switch {
	case err != nil || len(decoded) == 0:
		return errors.New("the ciphertext is not base64")
	case len(decoded) > limit:
		return fmt.Errorf("the ciphertext has %d bytes, the limit is %d", len(decoded), limit)
	}
	if decoded, err := base64.StdEncoding.DecodeString(iv); err != nil || len(decoded) == 0 || len(decoded) > 64 {
		return errors.New("the iv is not base64 of 1 to 64 bytes")
	}
	return nil
}

// FindMentions are the users that a text names with '@', each once, at most MaxMentions.
func FindMentions(text string) []string {
	var names []string
	for rest := text; len(names) < MaxMentions; {
		at := strings.IndexByte(rest, '@')
		if at < 0 {
			return names
		}
		// An address like me@example.com mentions nobody.
		mid := at > 0 && (roomByte(rest[at-1]))
		rest = rest[at+1:]
		end := 0
		for end < len(rest) && userByte(rest[end]) {
			end++
		}
		if name := rest[:end]; !mid && end >= 3 && end <= 50 && !slices.Contains(names, name) {
			names = append(names, name)
		}
		rest = rest[end:]
	}
	return names
}

func userByte(b byte) bool {
	return b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= '0' && b <= '9' || b == '_'
}

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
	"errors"
	"fmt"
	"strings"
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

	TypeDone = "done" // ID: the request was done and has nothing else to answer
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
)

// WebSocket close codes that this server sends beyond RFC 6455's own uses.
const (
	CloseNormal         = 1000
	CloseRateLimit      = 1008 // over the message rate
	CloseTooBig         = 1009 // frame over the limit
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
	Limit   int    `json:"limit,omitempty"`   // history: at most so many

	Session string `json:"session,omitempty"` // logout: which one
	Old     string `json:"old,omitempty"`     // password: the present one
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

// RoomInfo is a line of the list of rooms.
type RoomInfo struct {
	Name  string `json:"name"`
	Users int    `json:"users"`
}

const (
	// MaxRoomName is the longest name of a room, in bytes.
	MaxRoomName = 64
	// MaxID is the longest ID of a request, in bytes.
	MaxID = 64
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

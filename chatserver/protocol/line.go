package protocol

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// LineHelp is the answer to /help, one line each.
var LineHelp = []string{
	"LOGIN <user> <password>      log in",
	"REGISTER <user> <password>   make an account and log in",
	"/join <room>                 leave the present room and enter <room>",
	"/leave                       leave the present room",
	"/rooms                       list the active rooms",
	"/who                         list who is in the present room",
	"/history [n]                 show the last n messages of the present room (20)",
	"/msg <user> <text>           send a direct message",
	"/unread                      list your rooms, with what is unread",
	"/members                     list the members of the present room, here or not",
	"/edit <#n> <text>            change a message of yours: /history tells its number",
	"/delete <#n>                 delete a message",
	"/react <#n> <emoji>          react to a message, or take it back",
	"/create <room> [private]     make a room of your own",
	"/topic [text]                tell about the present room, or set its topic",
	"/invite <user>               let a user join the present room",
	"/kick <user>                 remove a user from the present room",
	"/ban <user>, /unban <user>   keep a user out of the present room",
	"/mute <user> [seconds]       keep a user from writing in the present room",
	"/unmute <user>               let them write again",
	"/close, /reopen              let nobody, or everybody, write in the present room",
	"/subscribe <user>            follow a user: their messages from other rooms reach you",
	"/unsubscribe <user>          stop following",
	"/logout [all | <session>]    end this session, all of yours, or another one",
	"/sessions                    list your sessions",
	"/password <old> <new>        change the password and end your other sessions",
	"/quit                        close the connection",
	"anything else                is said in the present room",
}

const defaultHistory = 20

// ParseLine reads one line of the line protocol, without its line ending.
// LOGIN and REGISTER are in capitals, because people do say "login"; the words
// after '/' may be in any case. A line that starts with "//" is a message that
// starts with "/".
func ParseLine(line string) (Request, error) {
	line = strings.TrimSuffix(line, "\r")
	if !utf8.ValidString(line) {
		return Request{}, errors.New("the line is not valid UTF-8")
	}
	if strings.HasPrefix(line, "//") {
		return Request{Type: TypeMessage, Message: line[1:]}, nil
	}
	word, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
	rest = strings.TrimSpace(rest)
	switch word {
	case "":
		return Request{}, errors.New("the line is empty")
	case "LOGIN":
		return credentials(TypeLogin, "LOGIN", rest)
	case "REGISTER":
		return credentials(TypeRegister, "REGISTER", rest)
	}
	if !strings.HasPrefix(word, "/") {
		return Request{Type: TypeMessage, Message: line}, nil
	}
	return command(strings.ToLower(word), rest)
}

func credentials(kind, word, rest string) (Request, error) {
	user, password, ok := strings.Cut(rest, " ")
	if !ok || password == "" {
		return Request{}, fmt.Errorf("usage: %s <user> <password>", word)
	}
	return Request{Type: kind, To: user, Message: password}, nil
}

func command(word, rest string) (Request, error) {
	switch word {
	case "/join":
		if rest == "" {
			return Request{}, errors.New("usage: /join <room>")
		}
		return Request{Type: TypeJoin, Room: rest}, nil
	case "/leave":
		return Request{Type: TypeLeave}, nil
	case "/rooms":
		return Request{Type: TypeRooms}, nil
	case "/who":
		return Request{Type: TypeWho}, nil
	case "/history":
		return history(rest)
	case "/msg":
		to, text, _ := strings.Cut(rest, " ")
		if text = strings.TrimSpace(text); to == "" || text == "" {
			return Request{}, errors.New("usage: /msg <user> <text>")
		}
		return Request{Type: TypeDirect, To: to, Message: text}, nil
	case "/subscribe", "/unsubscribe":
		if rest == "" || strings.Contains(rest, " ") {
			return Request{}, fmt.Errorf("usage: %s <user>", word)
		}
		return Request{Type: word[1:], To: rest}, nil
	case "/help", "/quit", "/sessions", "/members", "/close", "/reopen":
		return Request{Type: word[1:]}, nil
	case "/unread":
		return Request{Type: TypeMyRooms}, nil
	case "/create":
		return create(rest)
	case "/topic":
		req := Request{Type: TypeRoom}
		if rest != "" {
			req.Topic = &rest
		}
		return req, nil
	case "/invite", "/kick", "/ban", "/unban", "/unmute":
		if rest == "" || strings.Contains(rest, " ") {
			return Request{}, fmt.Errorf("usage: %s <user>", word)
		}
		return Request{Type: word[1:], To: rest}, nil
	case "/mute":
		return mute(rest)
	case "/edit", "/delete", "/react":
		return amend(word, rest)
	case "/logout":
		return Request{Type: TypeLogout, Session: rest}, nil
	case "/password":
		old, replacement, _ := strings.Cut(rest, " ")
		if replacement == "" {
			return Request{}, errors.New("usage: /password <old> <new>")
		}
		return Request{Type: TypePassword, Old: old, Message: replacement}, nil
	}
	return Request{}, fmt.Errorf("unknown command %s: /help lists the commands, and a message that starts with '/' is written with '//'", word)
}

func create(rest string) (Request, error) {
	room, kind, _ := strings.Cut(rest, " ")
	kind = strings.TrimSpace(kind)
	if room == "" || kind != "" && kind != KindPrivate && kind != KindPublic {
		return Request{}, errors.New("usage: /create <room> [private]")
	}
	return Request{Type: TypeCreate, Room: room, Kind: kind}, nil
}

func mute(rest string) (Request, error) {
	user, text, timed := strings.Cut(rest, " ")
	var seconds int64
	var err error
	if timed {
		seconds, err = strconv.ParseInt(strings.TrimSpace(text), 10, 64)
	}
	if user == "" || err != nil || timed && seconds < 1 {
		return Request{}, errors.New("usage: /mute <user> [seconds], with seconds from 1")
	}
	return Request{Type: TypeMute, To: user, Seconds: seconds}, nil
}

// amend reads what says something about a message: its number, and what.
func amend(word, rest string) (Request, error) {
	number, what, _ := strings.Cut(rest, " ")
	what = strings.TrimSpace(what)
	ref, err := strconv.ParseUint(strings.TrimPrefix(number, "#"), 10, 64)
	good := err == nil && ref > 0
	switch {
	case word == "/edit" && good && what != "":
		return Request{Type: TypeEdit, Ref: ref, Message: what}, nil
	case word == "/react" && good && what != "":
		return Request{Type: TypeReact, Ref: ref, Emoji: what}, nil
	case word == "/delete" && good && what == "":
		return Request{Type: TypeDelete, Ref: ref}, nil
	}
	usage := map[string]string{"/edit": "<#n> <text>", "/react": "<#n> <emoji>", "/delete": "<#n>"}[word]
	return Request{}, fmt.Errorf("usage: %s %s, with the number that /history shows", word, usage)
}

func history(rest string) (Request, error) {
	if rest == "" {
		return Request{Type: TypeHistory, Limit: defaultHistory}, nil
	}
	n, err := strconv.Atoi(rest)
	if err != nil || n < 1 {
		return Request{}, errors.New("usage: /history [n], with n from 1")
	}
	return Request{Type: TypeHistory, Limit: n}, nil
}

// AppendLine appends the event as text lines, each ended by "\r\n", as a person
// at a terminal reads it. Events that a person has no use for append nothing.
// Control characters in what users wrote are dropped, so that nobody's message
// can move another's cursor.
func (e *Event) AppendLine(b []byte) []byte {
	switch e.Type {
	case TypeMessage:
		return e.appendMessage(b)
	case TypeJoined:
		return appendLine(b, "* you are in ", e.Room)
	case TypeLeft:
		if e.Username != "" {
			return appendLine(b, "* your membership of ", e.Room, " was ended by ", e.Username)
		}
		return appendLine(b, "* you left ", e.Room)
	case TypeSubscribed:
		return appendLine(b, "* you follow ", e.Username)
	case TypeUnsubscribed:
		return appendLine(b, "* you no longer follow ", e.Username)
	case TypeUserList:
		return e.appendUsers(b)
	case TypeRoomList:
		return e.appendRooms(b)
	case TypeHistory:
		for i := range e.Messages {
			// What is said about a message names it by its number.
			b = e.Messages[i].appendMessage(append(b, number(e.Messages[i].Offset)+" "...))
		}
		return appendLine(b, "* ", strconv.Itoa(len(e.Messages)), " messages of ", e.Room)
	case TypeAnnouncement:
		return appendLine(b, "* ", e.Message)
	case TypeEdited:
		return appendLine(b, "* ", e.Username, " edited ", number(e.Ref), " in ", e.Room, ": ", e.text())
	case TypeDeleted:
		return appendLine(b, "* ", e.Username, " deleted ", number(e.Ref), " in ", e.Room)
	case TypeReaction:
		if e.On != nil && !*e.On {
			return appendLine(b, "* ", e.Username, " took ", e.Emoji, " back from ", number(e.Ref), " in ", e.Room)
		}
		return appendLine(b, "* ", e.Username, " reacted ", e.Emoji, " to ", number(e.Ref), " in ", e.Room)
	case TypeRoomInfo:
		return e.appendInfo(b)
	case TypeMemberList:
		return e.appendMembers(b)
	case TypeMyRooms:
		return e.appendMyRooms(b)
	case TypeInvited:
		return appendLine(b, "* ", e.Username, " invited you: /join ", e.Room)
	case TypeReset:
		return appendLine(b, "* the history of ", e.Room, " starts anew")
	case TypeReconnect:
		return appendLine(b, "* this server is going away: please connect again")
	case TypeError:
		return appendLine(b, "ERROR ", e.Message)
	case TypeSessions:
		return e.appendSessions(b)
	case TypeDone:
		if e.Message != "" {
			return appendLine(b, "* ", e.Message)
		}
		return appendLine(b, "* done")
	}
	return b
}

func (e *Event) appendMessage(b []byte) []byte {
	if e.Followed {
		b = append(b, "[Subbed] "...)
	}
	place := e.Room
	if _, _, direct := DirectUsers(e.Room); direct {
		place = "direct"
	}
	return appendLine(b, "[", place, "] ", e.Username, ": ", e.text())
}

// text is what a person can read of a message.
func (e *Event) text() string {
	switch {
	case e.Deleted:
		return "(deleted)"
	case e.Ciphertext != "":
		return "(encrypted)"
	}
	return e.Message
}

func number(offset uint64) string { return "#" + strconv.FormatUint(offset, 10) }

func (e *Event) appendUsers(b []byte) []byte {
	return appendLine(b, "* in ", e.Room, " (", strconv.Itoa(max(e.Total, len(e.Users))), "): ", strings.Join(e.Users, ", "))
}

func (e *Event) appendRooms(b []byte) []byte {
	if len(e.Rooms) == 0 {
		return appendLine(b, "* no active rooms: /join <room> makes one")
	}
	b = appendLine(b, "* active rooms:")
	for _, r := range e.Rooms {
		b = appendLine(b, "*   ", r.Name, " (", strconv.Itoa(r.Users), ")")
	}
	return b
}

func (e *Event) appendInfo(b []byte) []byte {
	if e.Info == nil {
		return b
	}
	about := []string{e.Info.Kind}
	if e.Info.Encrypted {
		about = append(about, "encrypted")
	}
	if e.Info.Closed {
		about = append(about, "closed")
	}
	if e.Info.Owner != "" {
		about = append(about, "of "+e.Info.Owner)
	}
	about = append(about, strconv.Itoa(e.Info.Members)+" members", strconv.Itoa(e.Info.Users)+" here")
	b = appendLine(b, "* ", e.Info.Name, ": ", strings.Join(about, ", "))
	if e.Info.Topic != "" {
		b = appendLine(b, "* topic of ", e.Info.Name, ": ", e.Info.Topic)
	}
	return b
}

func (e *Event) appendMembers(b []byte) []byte {
	names := make([]string, len(e.Members))
	for i, m := range e.Members {
		names[i] = m.Name
		if m.Online {
			names[i] += " (online)"
		}
	}
	if e.More {
		names = append(names, "and others")
	}
	return appendLine(b, "* members of ", e.Room, ": ", strings.Join(names, ", "))
}

func (e *Event) appendMyRooms(b []byte) []byte {
	if len(e.MyRooms) == 0 {
		return appendLine(b, "* you are a member of no room: /join <room>")
	}
	b = appendLine(b, "* your rooms:")
	for _, r := range e.MyRooms {
		b = appendLine(b, "*   ", r.Name, ": ", strconv.FormatUint(r.Unread, 10), " unread")
	}
	return b
}

func (e *Event) appendSessions(b []byte) []byte {
	b = appendLine(b, "* your sessions, the one used last first:")
	for _, s := range e.Sessions {
		mark := ""
		if s.Current {
			mark = " (this one)"
		}
		b = appendLine(b, "*   ", s.ID, mark, " since ", s.Created, ", last used ", s.LastUsed, " ", s.Address, " ", s.UserAgent)
	}
	return b
}

// appendLine joins the parts into one line, which no part can break.
func appendLine(b []byte, parts ...string) []byte {
	for _, part := range parts {
		for _, r := range part {
			switch {
			case r == '\t' || r == '\n':
				b = append(b, ' ')
			case !unicode.IsControl(r) && !isBidiControl(r):
				b = utf8.AppendRune(b, r)
			}
		}
	}
	return append(b, '\r', '\n')
}

// isBidiControl tells the characters that reorder the text after them: they
// could make one user's line look like another's.
func isBidiControl(r rune) bool {
	return r >= 0x202A && r <= 0x202E || r >= 0x2066 && r <= 0x2069
}

package protocol_test

import (
	"reflect"
	"strings"
	"testing"

	"github.com/chatcluster/chatcluster/chatserver/protocol"
)

func TestParseLineUnderstandsEveryCommand(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]protocol.Request{
		"LOGIN alice password123":    {Type: protocol.TypeLogin, To: "alice", Message: "password123"},
		"LOGIN alice two words":      {Type: protocol.TypeLogin, To: "alice", Message: "two words"},
		"Login please":               {Type: protocol.TypeMessage, Message: "Login please"},
		"REGISTER bob letmein12\r":   {Type: protocol.TypeRegister, To: "bob", Message: "letmein12"},
		"/join IITKGP":               {Type: protocol.TypeJoin, Room: "IITKGP"},
		"/JOIN Lobby":                {Type: protocol.TypeJoin, Room: "Lobby"},
		"/leave":                     {Type: protocol.TypeLeave},
		"/rooms":                     {Type: protocol.TypeRooms},
		"/who":                       {Type: protocol.TypeWho},
		"/history":                   {Type: protocol.TypeHistory, Limit: 20},
		"/history 5":                 {Type: protocol.TypeHistory, Limit: 5},
		"/msg bob how are you?":      {Type: protocol.TypeDirect, To: "bob", Message: "how are you?"},
		"/subscribe alice":           {Type: protocol.TypeSubscribe, To: "alice"},
		"/unsubscribe alice":         {Type: protocol.TypeUnsubscribe, To: "alice"},
		"/help":                      {Type: protocol.TypeHelp},
		"/logout":                    {Type: protocol.TypeLogout},
		"/logout all":                {Type: protocol.TypeLogout, Session: protocol.AllSessions},
		"/sessions":                  {Type: protocol.TypeSessions},
		"/password old new words":    {Type: protocol.TypePassword, Old: "old", Message: "new words"},
		"/quit":                      {Type: protocol.TypeQuit},
		"Hello from Server 1!":       {Type: protocol.TypeMessage, Message: "Hello from Server 1!"},
		"  two leading spaces stay":  {Type: protocol.TypeMessage, Message: "  two leading spaces stay"},
		"//join is how it is called": {Type: protocol.TypeMessage, Message: "/join is how it is called"},
	} {
		got, err := protocol.ParseLine(line)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("ParseLine(%q) = %+v, %v; want %+v", line, got, err, want)
		}
	}
}

func TestParseLineSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"":                "empty",
		"   ":             "empty",
		"LOGIN":           "usage: LOGIN <user> <password>",
		"LOGIN alice":     "usage: LOGIN",
		"/join":           "usage: /join <room>",
		"/msg bob":        "usage: /msg",
		"/history many":   "usage: /history",
		"/history 0":      "usage: /history",
		"/subscribe a b":  "usage: /subscribe",
		"/password old":   "usage: /password <old> <new>",
		"/dance":          "/help lists the commands",
		"not \xff\xfe u8": "UTF-8",
	} {
		_, err := protocol.ParseLine(line)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ParseLine(%q) says %v; want something about %q", line, err, want)
		}
	}
}

func TestAppendLineIsWhatAPersonReads(t *testing.T) {
	t.Parallel()
	for want, e := range map[string]protocol.Event{
		"[Lobby] alice: hi\r\n":                      {Type: protocol.TypeMessage, Room: "Lobby", Username: "alice", Message: "hi"},
		"[Subbed] [Lobby] alice: Public Update.\r\n": {Type: protocol.TypeMessage, Followed: true, Room: "Lobby", Username: "alice", Message: "Public Update."},
		"[direct] alice: psst\r\n":                   {Type: protocol.TypeMessage, Room: "@alice:bob", Username: "alice", Message: "psst"},
		"* you are in Lobby\r\n":                     {Type: protocol.TypeJoined, Room: "Lobby"},
		"* in Lobby (2): alice, bob\r\n":             {Type: protocol.TypeUserList, Room: "Lobby", Users: []string{"alice", "bob"}},
		"ERROR no\r\n":                               {Type: protocol.TypeError, Message: "no"},
		"* active rooms:\r\n*   Lobby (1)\r\n":       {Type: protocol.TypeRoomList, Rooms: []protocol.RoomInfo{{Name: "Lobby", Users: 1}}},
		"* your sessions, the one used last first:\r\n*   S1 (this one) since 2026, last used 2027 192.0.2.1 curl\r\n": {
			Type: protocol.TypeSessions, Sessions: []protocol.SessionInfo{{ID: "S1", Created: "2026", LastUsed: "2027", Address: "192.0.2.1", UserAgent: "curl", Current: true}},
		},
		"* no active rooms: /join <room> makes one\r\n": {Type: protocol.TypeRoomList},
		"": {Type: protocol.TypeAck, ID: "1"},
	} {
		if got := string(e.AppendLine(nil)); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %q, want %q", e.Type, got, want)
		}
	}
}

func TestNobodysMessageCanMoveAnothersCursor(t *testing.T) {
	t.Parallel()
	e := protocol.Event{Type: protocol.TypeMessage, Room: "Lobby", Username: "eve", Message: "a\x1b[2Jb\r\nERROR c\u202ed\u0085e"}
	if got, want := string(e.AppendLine(nil)), "[Lobby] eve: a[2Jb ERROR cde\r\n"; !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func FuzzParseLine(f *testing.F) {
	for _, seed := range []string{"LOGIN a b", "/join x", "//", "hello", "/msg a b", "\x00", "/history 9999999999999999999999"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, line string) {
		r, err := protocol.ParseLine(line)
		if (err == nil) == (r.Type == "") {
			t.Errorf("ParseLine(%q) = %+v, %v: a request or an error, never both or none", line, r, err)
		}
	})
}

func FuzzAppendLine(f *testing.F) {
	f.Add("Lobby", "alice", "hi")
	f.Fuzz(func(t *testing.T, room, user, text string) {
		e := protocol.Event{Type: protocol.TypeMessage, Room: room, Username: user, Message: text}
		line := string(e.AppendLine(nil))
		if body := strings.TrimSuffix(line, "\r\n"); body == line || strings.ContainsAny(body, "\r\n\x1b") {
			t.Errorf("%q is not one clean line", line)
		}
	})
}

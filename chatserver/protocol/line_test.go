package protocol_test

import (
	"reflect"
	"strings"
	"testing"

	"github.com/chatcluster/chatcluster/chatserver/protocol"
)

func TestParseLineUnderstandsEveryCommand(t *testing.T) {
	t.Parallel()
	topic := "about cats"
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
		"/create den private":        {Type: protocol.TypeCreate, Room: "den", Kind: protocol.KindPrivate},
		"/create agora":              {Type: protocol.TypeCreate, Room: "agora"},
		"/invite bob":                {Type: protocol.TypeInvite, To: "bob"},
		"/kick bob":                  {Type: protocol.TypeKick, To: "bob"},
		"/ban bob":                   {Type: protocol.TypeBan, To: "bob"},
		"/unban bob":                 {Type: protocol.TypeUnban, To: "bob"},
		"/mute bob":                  {Type: protocol.TypeMute, To: "bob"},
		"/mute bob 60":               {Type: protocol.TypeMute, To: "bob", Seconds: 60},
		"/unmute bob":                {Type: protocol.TypeUnmute, To: "bob"},
		"/topic":                     {Type: protocol.TypeRoom},
		"/topic about cats":          {Type: protocol.TypeRoom, Topic: &topic},
		"/edit #12 so it is":         {Type: protocol.TypeEdit, Ref: 12, Message: "so it is"},
		"/edit 12 so it is":          {Type: protocol.TypeEdit, Ref: 12, Message: "so it is"},
		"/delete #12":                {Type: protocol.TypeDelete, Ref: 12},
		"/react #12 👍":               {Type: protocol.TypeReact, Ref: 12, Emoji: "👍"},
		"/unread":                    {Type: protocol.TypeMyRooms},
		"/members":                   {Type: protocol.TypeMembers},
		"/close":                     {Type: protocol.TypeClose},
		"/reopen":                    {Type: protocol.TypeReopen},
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
		"/create":         "usage: /create <room>",
		"/create a b":     "usage: /create <room>",
		"/kick":           "usage: /kick <user>",
		"/mute":           "usage: /mute <user>",
		"/mute bob long":  "usage: /mute <user>",
		"/mute bob 0":     "usage: /mute <user>",
		"/edit #12":       "usage: /edit <#n> <text>",
		"/edit hello":     "usage: /edit <#n> <text>",
		"/delete #0":      "usage: /delete <#n>",
		"/delete #1 now":  "usage: /delete <#n>",
		"/react #1":       "usage: /react <#n> <emoji>",
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
	on, off := true, false
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
		"#12 [Lobby] alice: hi\r\n* 1 messages of Lobby\r\n": {Type: protocol.TypeHistory, Room: "Lobby", Messages: []protocol.Event{
			{Type: protocol.TypeMessage, Room: "Lobby", Offset: 12, Username: "alice", Message: "hi"},
		}},
		"* bob reacted 👍 to #12 in Lobby\r\n":     {Type: protocol.TypeReaction, Room: "Lobby", Username: "bob", Ref: 12, Emoji: "👍", On: &on},
		"* bob took 👍 back from #12 in Lobby\r\n": {Type: protocol.TypeReaction, Room: "Lobby", Username: "bob", Ref: 12, Emoji: "👍", On: &off},
		"* den: private, closed, of alice, 2 members, 1 here\r\n* topic of den: cats\r\n": {
			Type: protocol.TypeRoomInfo, Info: &protocol.RoomInfo{Name: "den", Kind: protocol.KindPrivate, Closed: true, Owner: "alice", Members: 2, Users: 1, Topic: "cats"},
		},
		"* members of den: alice (online), bob, and others\r\n": {
			Type: protocol.TypeMemberList, Room: "den", Members: []protocol.MemberInfo{{Name: "alice", Online: true}, {Name: "bob"}}, More: true,
		},
		"* your rooms:\r\n*   den: 3 unread\r\n":          {Type: protocol.TypeMyRooms, MyRooms: []protocol.RoomInfo{{Name: "den", Unread: 3}}},
		"* you are a member of no room: /join <room>\r\n": {Type: protocol.TypeMyRooms},
		"* your membership of den was ended by alice\r\n": {Type: protocol.TypeLeft, Room: "den", Username: "alice"},
		"* you left den\r\n":                              {Type: protocol.TypeLeft, Room: "den"},
		"* done\r\n":                                      {Type: protocol.TypeDone, Room: "den"},
		"":                                                {Type: protocol.TypeAck, ID: "1"},
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

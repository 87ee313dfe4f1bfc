package protocol_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/chatcluster/chatcluster/chatserver/protocol"
)

func TestParseJSONTakesBothWordsForAMessage(t *testing.T) {
	t.Parallel()
	for _, frame := range []string{`{"type":"message","message":"Hello!"}`, `{"type":"chat","message":"Hello!","unknown":{"is":"ignored"}}`} {
		got, err := protocol.ParseJSON([]byte(frame))
		if err != nil || got.Type != protocol.TypeMessage || got.Message != "Hello!" {
			t.Errorf("ParseJSON(%s) = %+v, %v", frame, got, err)
		}
	}
}

func TestParseJSONSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	for frame, want := range map[string]string{
		`{`:                            "one JSON object",
		`[]`:                           "one JSON object",
		`{}`:                           `"type" is missing`,
		`{"type":7}`:                   `"type" cannot be a JSON number`,
		`{"type":"join","offset":"x"}`: `"offset" cannot be a JSON string`,
		`{"type":"message","id":"` + strings.Repeat("x", 65) + `"}`:             "at most 64 bytes",
		`{"type":"message","series":"` + strings.Repeat("x", 65) + `","seq":1}`: "at most 64 bytes",
		`{"type":"message","series":"s"}`:                                       "a number above 0",
		`{"type":"message","seq":7}`:                                            "a series has a name",
	} {
		_, err := protocol.ParseJSON([]byte(frame))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ParseJSON(%s) says %v; want something about %s", frame, err, want)
		}
	}
}

func TestMarkupStaysText(t *testing.T) {
	t.Parallel()
	const payload = `<img src=x onerror=alert(1)>`
	e := protocol.Event{Type: protocol.TypeMessage, Username: "eve", Message: payload}
	var got protocol.Event
	if err := json.Unmarshal(e.AppendJSON(nil), &got); err != nil || got.Message != payload {
		t.Errorf("the message came back as %q, %v", got.Message, err)
	}
}

func TestValidateRoom(t *testing.T) {
	t.Parallel()
	for _, good := range []string{"a", "IITKGP", "team-1.dev_ops", strings.Repeat("r", 64)} {
		if err := protocol.ValidateRoom(good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for _, bad := range []string{"", "@alice:bob", "two words", "a}b{", "ü", strings.Repeat("r", 65)} {
		if protocol.ValidateRoom(bad) == nil {
			t.Errorf("%q passes for a room", bad)
		}
	}
}

func TestBothUsersNameTheSameDirectRoom(t *testing.T) {
	t.Parallel()
	room := protocol.DirectRoom("bob", "alice")
	if room != protocol.DirectRoom("alice", "bob") {
		t.Error("the name depends on who asks")
	}
	if a, b, ok := protocol.DirectUsers(room); !ok || a != "alice" || b != "bob" {
		t.Errorf("DirectUsers(%q) = %s, %s, %v", room, a, b, ok)
	}
	if _, _, ok := protocol.DirectUsers("Lobby"); ok {
		t.Error("Lobby passes for a direct room")
	}
}

func FuzzParseJSON(f *testing.F) {
	for _, seed := range []string{`{"type":"message"}`, `{`, `{"type":"join","offset":18446744073709551615}`, "null", `"x"`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		r, err := protocol.ParseJSON(frame)
		if err == nil && (r.Type == "" || len(r.ID) > protocol.MaxID) {
			t.Errorf("ParseJSON(%q) lets %+v through", frame, r)
		}
	})
}

package chatserver_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"github.com/chatcluster/chatcluster/chatserver/protocol"
)

// lines are the log's lines that have all of want's fields.
func (s *server) lines(t *testing.T, want map[string]any) (found []map[string]any) {
	t.Helper()
	for line := range strings.Lines(s.logs()) {
		var fields map[string]any
		if json.Unmarshal([]byte(line), &fields) != nil {
			continue // the one that is being written
		}
		matches := true
		for k, v := range want {
			matches = matches && fields[k] == v
		}
		if matches {
			found = append(found, fields)
		}
	}
	return found
}

func TestLogTellsTheRequestAndNoSecret(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		s := run(t, w.redis, unique("talkative"), "--log-level=debug", "--log-format=json")
		a, b := newUser(t, w.store, "a"), newUser(t, w.store, "b")
		secret := func() string { return "hush" + unique("x") }
		secrets := map[string]string{ // what it is -> what must not be in the log
			"a password": secret(), "a wrong password": secret(), "a new password": secret(),
			"a message": secret(), "an edit": secret(), "a direct message": secret(), "a topic": secret(),
			"a message by HTTP": secret(), "a line": secret(), "a refused message": secret(),
		}
		who := unique("c")

		// Calls, one of which brings its own id.
		id := unique("trace-")
		resp, _ := call(t, http.MethodPost, s.url()+"/register",
			`{"username":"`+who+`","password":"`+secrets["a password"]+`"}`, "X-Request-Id", id)
		if got := resp.Header.Get("X-Request-Id"); got != id {
			t.Errorf("the id %q was answered with %q", id, got)
		}
		resp, _ = call(t, http.MethodPost, s.url()+"/login", `{"username":"`+who+`","password":"`+secrets["a wrong password"]+`"}`,
			"X-Request-Id", "spaces are none of it")
		if got := resp.Header.Get("X-Request-Id"); got == "" || strings.Contains(got, " ") {
			t.Errorf("an id that cannot be one was answered with %q", got)
		}
		_, in := call(t, http.MethodPost, s.url()+"/api/auth/login", `{"username":"`+who+`","password":"`+secrets["a password"]+`"}`)
		secrets["a refresh token"] = in["refreshToken"].(string)
		_, fresh := call(t, http.MethodPost, s.url()+"/api/refresh", `{"refreshToken":"`+secrets["a refresh token"]+`"}`)
		secrets["a later refresh token"], secrets["a token"] = fresh["refreshToken"].(string), fresh["token"].(string)
		bearer := []string{"Authorization", "Bearer " + secrets["a token"]}
		call(t, http.MethodPost, s.url()+"/api/password",
			`{"old":"`+secrets["a password"]+`","new":"`+secrets["a new password"]+`"}`, bearer...)
		room := unique("room")
		call(t, http.MethodPost, s.url()+"/api/rooms", `{"room":"`+room+`","topic":"`+secrets["a topic"]+`"}`, bearer...)
		call(t, http.MethodPost, s.url()+"/api/rooms/"+room+"/messages", `{"message":"`+secrets["a message by HTTP"]+`"}`, bearer...)

		// A WebSocket, with its token where it is most easily logged.
		token := login(t, s, a)
		secrets["a token in a query"] = token
		c, opened, err := dial(t, s, "/ws?token="+token, websocket.DialOptions{Subprotocols: []string{protocol.Subprotocol}})
		if err != nil {
			t.Fatal(err)
		}
		c.enter(room)
		sent := c.ask(`{"type":"message","room":%q,"message":%q}`, room, secrets["a message"])
		c.ask(`{"type":"edit","room":%q,"ref":%v,"message":%q}`, room, sent["offset"], secrets["an edit"])
		c.ask(`{"type":"direct","to":%q,"message":%q}`, b, secrets["a direct message"])
		wants(t, c.ask(`{"type":"message","room":"nowhere","message":%q}`, secrets["a refused message"]), "code", protocol.CodeNoRoom)
		c.send(`{"type":"message","message":"` + secrets["a refused message"])
		c.expect(map[string]any{"type": "error", "code": protocol.CodeBadRequest})
		_ = c.Close(websocket.StatusNormalClosure, "")

		// A terminal.
		l := terminal(t, s)
		say(t, l, "LOGIN "+b+" "+secrets["a wrong password"])
		expect(t, l, "ERROR")
		say(t, l, "LOGIN "+b+" "+password)
		expect(t, l, "logged in")
		say(t, l, "/join "+room)
		expect(t, l, "you are in")
		say(t, l, secrets["a line"])
		expect(t, l, secrets["a line"])
		say(t, l, "/quit")
		expect(t, l, "goodbye")

		if len(s.lines(t, map[string]any{"msg": "request", "request_id": id})) != 1 {
			t.Errorf("no line tells of the request %s", id)
		}
		await(t, "the log to tell which request opened the connection that ended", func() bool {
			return len(s.lines(t, map[string]any{"msg": "connection ended", "user": a, "request_id": opened.Header.Get("X-Request-Id")})) == 1
		})
		await(t, "the log to tell of the terminal's end", func() bool {
			ended := s.lines(t, map[string]any{"msg": "connection ended", "user": b})
			return len(ended) == 1 && ended[0]["request_id"] != nil
		})
		for what, secret := range secrets {
			if strings.Contains(s.logs(), secret) {
				t.Errorf("the log has %s", what)
			}
		}
		if strings.Contains(s.logs(), password) {
			t.Error("the log has a password")
		}
	})
}

package chatserver_test

import (
	"fmt"
	"net/http"
	"net/url"
	"testing"

	"github.com/chatcluster/chatcluster/chatserver/protocol"
	"github.com/chatcluster/chatcluster/chatserver/redistest"
)

// api is somebody who uses HTTP calls alone.
type api struct {
	t     *testing.T
	base  string
	token string
}

func callsOf(t *testing.T, s *server, user string) *api {
	t.Helper()
	return &api{t, s.url() + "/api", login(t, s, user)}
}

// call makes a call and wants its status.
func (a *api) call(status int, method, path, body string, header ...string) map[string]any {
	a.t.Helper()
	resp, answer := call(a.t, method, a.base+path, body, append(bearing(a.token), header...)...)
	if resp.StatusCode != status {
		a.t.Fatalf("%s %s answered %d %v, want %d", method, path, resp.StatusCode, answer, status)
	}
	return answer
}

func TestMessageByHTTPArrivesOnAnotherServersWebSocketOnce(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		a, b, room := newUser(t, w.store, "a"), newUser(t, w.store, "b"), unique("room")
		alice, bob := callsOf(t, w.one, a), connectFully(t, w.two, b)
		bob.enter(room)
		wants(t, alice.call(200, "PUT", "/rooms/"+room+"/membership", ""), "type", "joined")

		key := []string{"Idempotency-Key", unique("key")}
		first := alice.call(201, "POST", "/rooms/"+room+"/messages", `{"message":"hello"}`, key...)
		again := alice.call(201, "POST", "/rooms/"+room+"/messages", `{"message":"hello"}`, key...)
		wants(t, again, "offset", first["offset"])
		wants(t, again, "duplicate", true)
		last := alice.call(201, "POST", "/rooms/"+room+"/messages", `{"id":"2","message":"bye"}`)
		wants(t, bob.expect(map[string]any{"type": "message", "room": room}), "message", "hello")
		wants(t, bob.expect(map[string]any{"type": "message", "room": room}), "message", "bye")

		at := fmt.Sprintf("/rooms/%s/messages/%v", room, last["offset"])
		alice.call(200, "PATCH", at, `{"message":"goodbye"}`)
		wants(t, bob.expect(map[string]any{"type": "edited"}), "message", "goodbye")
		alice.call(200, "PUT", at+"/reactions/"+url.PathEscape("👍"), "")
		wants(t, bob.expect(map[string]any{"type": "reaction"}), "emoji", "👍")
		alice.call(204, "POST", "/rooms/"+room+"/typing", "")
		bob.expect(map[string]any{"type": "typing", "username": a})
		alice.call(200, "DELETE", at, "")
		bob.expect(map[string]any{"type": "deleted", "username": a})

		page := alice.call(200, "GET", "/rooms/"+room+"/messages?limit=1", "")
		if messages, _ := page["messages"].([]any); len(messages) != 1 || page["more"] != true {
			t.Errorf("a page of one message is %v", page)
		}
		alice.call(201, "POST", "/direct/"+b+"/messages", `{"message":"psst"}`)
		bob.expect(map[string]any{"type": "message", "room": protocol.DirectRoom(a, b), "message": "psst"})
	})
}

func TestPrivateRoomIsNothingToStrangersByHTTP(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		a, b, room := newUser(t, w.store, "a"), newUser(t, w.store, "b"), unique("room")
		owner, stranger := callsOf(t, w.one, a), callsOf(t, w.two, b)
		owner.call(201, "POST", "/rooms", fmt.Sprintf(`{"room":%q,"kind":"private"}`, room))
		for _, path := range []string{"", "/members", "/present", "/messages"} {
			wants(t, stranger.call(404, "GET", "/rooms/"+room+path, ""), "code", "no_room")
		}
		wants(t, stranger.call(404, "POST", "/rooms/"+room+"/messages", `{"message":"let me in"}`), "code", "no_room")
		wants(t, stranger.call(403, "PUT", "/rooms/"+room+"/membership", ""), "code", "forbidden")
		owner.call(200, "POST", "/rooms/"+room+"/invitations", fmt.Sprintf(`{"to":%q}`, b))
		stranger.call(200, "PUT", "/rooms/"+room+"/membership", "")
		wants(t, stranger.call(200, "GET", "/rooms/"+room, ""), "room", room)
	})
}

func TestKickByHTTPReachesTheConnectionOnAnotherServer(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		a, b, room := newUser(t, w.store, "a"), newUser(t, w.store, "b"), unique("room")
		owner, bob := callsOf(t, w.one, a), connectFully(t, w.two, b)
		owner.call(201, "POST", "/rooms", fmt.Sprintf(`{"room":%q}`, room))
		bob.enter(room)
		owner.call(200, "DELETE", "/rooms/"+room+"/members/"+b, "")
		bob.expect(map[string]any{"type": "left", "room": room, "username": a})
	})
}

func TestMessagesByHTTPHaveARateOnAllServersTogether(t *testing.T) {
	t.Parallel()
	w, err := sharedWorld("Standalone", redistest.StartStandalone)
	if err != nil {
		t.Fatal(err)
	}
	limited := []*server{
		run(t, w.redis, unique("limited"), "--messages-per-10s=2"),
		run(t, w.redis, unique("limited"), "--messages-per-10s=2"),
	}
	a, room := newUser(t, w.store, "a"), unique("room")
	calls := []*api{callsOf(t, limited[0], a), callsOf(t, limited[1], a)}
	calls[0].call(200, "PUT", "/rooms/"+room+"/membership", "")
	for _, c := range calls {
		c.call(201, "POST", "/rooms/"+room+"/messages", `{"message":"hello"}`)
	}
	resp, answer := call(t, "POST", calls[0].base+"/rooms/"+room+"/messages", `{"message":"hello"}`, bearing(calls[0].token)...)
	if resp.StatusCode != http.StatusTooManyRequests || resp.Header.Get("Retry-After") == "" || answer["code"] != "limit" {
		t.Errorf("a message over the rate got %d %v", resp.StatusCode, answer)
	}
}

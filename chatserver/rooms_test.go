package chatserver_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/chatcluster/chatcluster/chatserver/protocol"
	"github.com/chatcluster/chatcluster/chatserver/store"
)

// connectFully connects as a client that speaks the whole protocol.
func connectFully(t *testing.T, s *server, user string) *socket {
	t.Helper()
	c, _, err := dial(t, s, "/ws", websocket.DialOptions{
		Subprotocols: []string{protocol.Subprotocol, protocol.BearerPrefix + login(t, s, user)},
	})
	if err != nil {
		t.Fatal(err)
	}
	c.expect(map[string]any{"type": "hello", "username": user})
	return c
}

// enter joins a room and returns where it is.
func (c *socket) enter(room string) map[string]any {
	c.t.Helper()
	c.send(fmt.Sprintf(`{"type":"join","room":%q}`, room))
	return c.expect(map[string]any{"type": "joined", "room": room})
}

// ask sends a request and returns its answer.
func (c *socket) ask(format string, args ...any) map[string]any {
	c.t.Helper()
	id := unique("id")
	c.send(fmt.Sprintf(`{"id":%q,`+format[1:], append([]any{id}, args...)...))
	for {
		// The entry of the log that the request made carries the same id, and may be first.
		switch e := c.expect(map[string]any{"id": id}); e["type"] {
		case "message", "edited", "deleted", "reaction":
		default:
			return e
		}
	}
}

// await waits for a condition.
func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for ctx := waiting(t); !ok(); {
		select {
		case <-ctx.Done():
			t.Fatalf("waited in vain for %s", what)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func wants(t *testing.T, answer map[string]any, field string, want any) {
	t.Helper()
	if answer[field] != want {
		t.Errorf("%s is %v, want %v, in %v", field, answer[field], want, answer)
	}
}

func TestPlainClientIsSparedWhatItDoesNotKnow(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		a, b := newUser(t, w.store, "a"), newUser(t, w.store, "b")
		alice, bob := connectFully(t, w.one, a), connect(t, w.two, b)
		alice.enter("general")
		text := unique("text")
		sent := alice.ask(`{"type":"message","room":"general","message":%q}`, text)
		bob.expect(map[string]any{"type": "message", "message": text})
		wants(t, alice.ask(`{"type":"react","room":"general","ref":%v,"emoji":"👍"}`, sent["offset"]), "type", "ack")
		wants(t, alice.ask(`{"type":"edit","room":"general","ref":%v,"message":"better"}`, sent["offset"]), "type", "ack")
		wants(t, alice.ask(`{"type":"delete","room":"general","ref":%v}`, sent["offset"]), "type", "ack")
		after := unique("after")
		alice.ask(`{"type":"message","room":"general","message":%q}`, after)
		for {
			e := bob.expect(map[string]any{})
			switch e["type"] {
			case "message", "userList", "announcement":
			default:
				t.Errorf("a plain client was sent %v", e)
			}
			if e["message"] == after {
				return
			}
		}
	})
}

func TestDirectMessagesWaitForSomebodyWhoIsAway(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		a, b := newUser(t, w.store, "a"), newUser(t, w.store, "b")
		alice := connectFully(t, w.one, a)
		wants(t, alice.ask(`{"type":"direct","to":%q,"message":"first"}`, b), "type", "ack")
		wants(t, alice.ask(`{"type":"direct","to":%q,"message":"second"}`, b), "type", "ack")

		bob := connect(t, w.two, b)
		bob.expect(map[string]any{"type": "message", "message": "first"})
		bob.expect(map[string]any{"type": "message", "message": "second"})
		_ = bob.Close(websocket.StatusNormalClosure, "")

		// What was delivered is read: it does not come a second time, on any server.
		await(t, "the messages to be read", func() bool {
			at, err := w.store.Readings(t.Context(), b, []string{protocol.DirectRoom(a, b)})
			return err == nil && at[0].Unread == 0
		})
		wants(t, alice.ask(`{"type":"direct","to":%q,"message":"third"}`, b), "type", "ack")
		again := connect(t, w.one, b)
		if e := again.expect(map[string]any{"type": "message", "username": a}); e["message"] != "third" {
			t.Errorf("the first message after coming back is %v", e)
		}
	})
}

func TestTerminalIsToldWhatWasMissed(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		a, b, room := newUser(t, w.store, "a"), newUser(t, w.store, "b"), unique("room")
		bob := terminal(t, w.two)
		say(t, bob, "LOGIN "+b+" "+password)
		expect(t, bob, "logged in")
		say(t, bob, "/join "+room)
		expect(t, bob, "you are in "+room)
		alice := connectFully(t, w.one, a)
		alice.enter(room)
		alice.ask(`{"type":"message","room":%q,"message":"while you watch"}`, room)
		expect(t, bob, "while you watch")
		say(t, bob, "/quit")
		expect(t, bob, "goodbye")
		await(t, "bob to be gone", func() bool {
			users, _, err := w.store.Members(t.Context(), room, 10)
			return err == nil && len(users) == 1
		})
		alice.ask(`{"type":"message","room":%q,"message":"while you are away"}`, room)

		bob = terminal(t, w.one)
		say(t, bob, "LOGIN "+b+" "+password)
		expect(t, bob, "1 new in "+room)
		say(t, bob, "/join "+room)
		expect(t, bob, "["+room+"] "+a+": while you are away")
	})
}

func TestEncryptedConversationNeverTakesText(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		a, b := newUser(t, w.store, "a"), newUser(t, w.store, "b")
		room := protocol.DirectRoom(a, b)
		alice, bob := connectFully(t, w.one, a), connectFully(t, w.two, b)
		wants(t, alice.ask(`{"type":"create","room":%q,"encrypted":true}`, room), "type", "roomInfo")
		wants(t, alice.ask(`{"type":"direct","to":%q,"message":"in clear"}`, b), "code", protocol.CodePlaintext)
		wants(t, alice.ask(`{"type":"direct","to":%q,"ciphertext":"c2VjcmV0","iv":"aXY="}`, b), "type", "ack")
		bob.expect(map[string]any{"type": "message", "room": room, "ciphertext": "c2VjcmV0", "iv": "aXY="})
		wants(t, bob.ask(`{"type":"direct","to":%q,"message":"in clear"}`, a), "code", protocol.CodePlaintext)
	})
}

func TestFollowersHearPublicRoomsOnly(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		a, b, m := newUser(t, w.store, "a"), newUser(t, w.store, "b"), newUser(t, w.store, "m")
		if err := w.store.SetRole(t.Context(), m, store.RoleModerator); err != nil {
			t.Fatal(err)
		}
		alice, bob, mod := connectFully(t, w.one, a), connectFully(t, w.two, b), connectFully(t, w.one, m)
		wants(t, bob.ask(`{"type":"subscribe","to":%q}`, a), "type", "subscribed")
		private, vault, closed, open := unique("private"), unique("vault"), unique("barred"), unique("open")
		alice.ask(`{"type":"create","room":%q,"kind":"private"}`, private)
		alice.ask(`{"type":"create","room":%q,"encrypted":true}`, vault)
		bob.enter(closed)
		for _, room := range []string{private, vault, closed, open} {
			alice.enter(room)
		}
		wants(t, mod.ask(`{"type":"ban","room":%q,"to":%q}`, closed, b), "type", "done")
		bob.expect(map[string]any{"type": "left", "room": closed})
		wants(t, bob.ask(`{"type":"join","room":%q}`, closed), "code", protocol.CodeBanned)

		alice.ask(`{"type":"message","room":%q,"message":"behind a door"}`, private)
		alice.ask(`{"type":"message","room":%q,"ciphertext":"c2VjcmV0","iv":"aXY="}`, vault)
		alice.ask(`{"type":"message","room":%q,"message":"where bob is banned"}`, closed)
		alice.ask(`{"type":"direct","to":%q,"message":"between us"}`, m)
		alice.ask(`{"type":"message","room":%q,"message":"for everybody"}`, open)
		if e := bob.expect(map[string]any{"type": "message"}); e["message"] != "for everybody" || e["followed"] != true {
			t.Errorf("the follower heard %v", e)
		}
	})
}

func TestMutedAndClosedSayWhy(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		a, b, room := newUser(t, w.store, "a"), newUser(t, w.store, "b"), unique("room")
		alice, bob := connectFully(t, w.one, a), connectFully(t, w.two, b)
		alice.ask(`{"type":"create","room":%q,"topic":"what it is about"}`, room)
		alice.enter(room)
		bob.enter(room)
		wants(t, bob.ask(`{"type":"mute","room":%q,"to":%q}`, room, a), "code", protocol.CodeForbidden)
		wants(t, alice.ask(`{"type":"mute","room":%q,"to":%q,"seconds":3600}`, room, b), "type", "done")
		wants(t, bob.ask(`{"type":"message","room":%q,"message":"hm"}`, room), "code", protocol.CodeMuted)
		wants(t, alice.ask(`{"type":"unmute","room":%q,"to":%q}`, room, b), "type", "done")
		wants(t, bob.ask(`{"type":"message","room":%q,"message":"hm"}`, room), "type", "ack")
		wants(t, alice.ask(`{"type":"close","room":%q}`, room), "type", "roomInfo")
		wants(t, bob.ask(`{"type":"message","room":%q,"message":"hm"}`, room), "code", protocol.CodeRoomClosed)
		wants(t, bob.ask(`{"type":"history","room":%q}`, room), "type", "history")
	})
}

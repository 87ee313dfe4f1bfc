package chatserver_test

import (
	"fmt"
	"strings"
	"testing"
)

// TestTheSameIsRefusedForTheSameReasonOnAllSurfaces asks for what cannot be done
// by HTTP, over a WebSocket and at a terminal.
func TestTheSameIsRefusedForTheSameReasonOnAllSurfaces(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		owner := callsOf(t, w.one, newUser(t, w.store, "o"))
		target, room := newUser(t, w.store, "t"), unique("room")
		private := unique("private")
		owner.call(201, "POST", "/rooms", fmt.Sprintf(`{"room":%q}`, room))
		owner.call(201, "POST", "/rooms", fmt.Sprintf(`{"room":%q,"kind":"private"}`, private))
		secret, long := unique("secret"), strings.Repeat("a", 4097)
		owner.call(201, "POST", "/rooms", fmt.Sprintf(`{"room":%q,"encrypted":true}`, secret))
		foreign := owner.call(201, "POST", "/rooms/"+room+"/messages", `{"message":"mine"}`)["offset"]

		// Each surface has a user of its own, because a terminal wants to be a user's only login.
		names := []string{newUser(t, w.store, "h"), newUser(t, w.store, "w"), newUser(t, w.store, "l")}
		caller, bob, line := callsOf(t, w.one, names[0]), connectFully(t, w.two, names[1]), terminal(t, w.one)
		caller.call(200, "PUT", "/rooms/"+room+"/membership", "")
		bob.enter(room)
		say(t, line, "LOGIN "+names[2]+" "+password)
		expect(t, line, "logged in")
		say(t, line, "/join "+room)
		expect(t, line, "you are in "+room)

		in := "/rooms/" + room
		everybody := func(method, what string) {
			for _, name := range names {
				owner.call(200, method, in+"/"+what+"/"+name, "")
			}
		}
		for _, c := range []struct {
			name               string
			before             func()
			method, path, body string
			status             int
			frame, line        string
			code               string
		}{
			{"a room's name is taken", nil, "POST", "/rooms", fmt.Sprintf(`{"room":%q}`, room), 409,
				fmt.Sprintf(`{"type":"create","room":%q}`, room), "/create " + room, "taken"},
			{"a private room", nil, "PUT", "/rooms/" + private + "/membership", "", 403,
				fmt.Sprintf(`{"type":"join","room":%q}`, private), "/join " + private, "forbidden"},
			{"a kick by nobody in particular", nil, "DELETE", in + "/members/" + target, "", 403,
				fmt.Sprintf(`{"type":"kick","room":%q,"to":%q}`, room, target), "/kick " + target, "forbidden"},
			{"nobody of that name", nil, "POST", in + "/invitations", `{"to":"nobody_here"}`, 404,
				fmt.Sprintf(`{"type":"invite","room":%q,"to":"nobody_here"}`, room), "/invite nobody_here", "no_user"},
			{"another's message", nil, "PATCH", fmt.Sprintf("%s/messages/%v", in, foreign), `{"message":"yours"}`, 403,
				fmt.Sprintf(`{"type":"edit","room":%q,"ref":%v,"message":"yours"}`, room, foreign), fmt.Sprintf("/edit #%v yours", foreign), "forbidden"},
			{"text for an encrypted room", func() {
				caller.call(200, "PUT", "/rooms/"+secret+"/membership", "")
				bob.enter(secret)
				say(t, line, "/join "+secret)
				expect(t, line, "you are in "+secret)
			}, "POST", "/rooms/" + secret + "/messages", `{"message":"hello"}`, 403,
				fmt.Sprintf(`{"type":"message","room":%q,"message":"hello"}`, secret), "hello", "plaintext_refused"},
			{"a message that is too long", func() {
				say(t, line, "/join "+room)
				expect(t, line, "you are in "+room)
			}, "POST", in + "/messages", fmt.Sprintf(`{"message":%q}`, long), 413,
				fmt.Sprintf(`{"type":"message","room":%q,"message":%q}`, room, long), long, "too_long"},
			{"no such message", nil, "DELETE", in + "/messages/4711", "", 404,
				fmt.Sprintf(`{"type":"delete","room":%q,"ref":4711}`, room), "/delete #4711", "no_message"},
			{"muted", func() { everybody("PUT", "mutes") }, "POST", in + "/messages", `{"message":"hello"}`, 403,
				fmt.Sprintf(`{"type":"message","room":%q,"message":"hello"}`, room), "hello", "muted"},
			{"closed", func() { everybody("DELETE", "mutes"); owner.call(200, "PUT", in+"/closed", "") },
				"POST", in + "/messages", `{"message":"hello"}`, 409,
				fmt.Sprintf(`{"type":"message","room":%q,"message":"hello"}`, room), "hello", "room_closed"},
			{"banned", func() { owner.call(200, "DELETE", in+"/closed", ""); everybody("PUT", "bans") },
				"PUT", in + "/membership", "", 403,
				fmt.Sprintf(`{"type":"join","room":%q}`, room), "/join " + room, "banned"},
		} {
			if c.before != nil {
				c.before()
			}
			byHTTP := caller.call(c.status, c.method, c.path, c.body)
			bySocket := bob.ask(c.frame)
			if byHTTP["code"] != c.code || bySocket["code"] != c.code || byHTTP["message"] != bySocket["message"] {
				t.Errorf("%s: %v by HTTP, %v over the WebSocket, want the code %s", c.name, byHTTP, bySocket, c.code)
			}
			say(t, line, c.line)
			expect(t, line, fmt.Sprintf("ERROR %v", byHTTP["message"]))
		}
	})
}

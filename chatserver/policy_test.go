package chatserver_test

import (
	"testing"
	"time"

	"github.com/coder/websocket"
)

func TestSecondLoginIsRefusedReplacesOrJoinsByPolicy(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		t.Run("reject", func(t *testing.T) {
			user := newUser(t, w.store, "kim")
			first := connect(t, w.one, user)
			first.expect(map[string]any{"type": "userList"})
			second := connect(t, w.two, user)
			second.expect(map[string]any{"type": "error", "code": "already_online"})
			second.expectClose(4410, "online elsewhere")
			first.send(`{"type":"message","message":"still me"}`)
			first.expect(map[string]any{"type": "message", "username": user, "message": "still me"})

			_ = first.Close(websocket.StatusNormalClosure, "")
			third := connect(t, w.two, user) // the first one is gone, so nothing is in its way
			third.expect(map[string]any{"type": "userList"})
		})
		t.Run("replace", func(t *testing.T) {
			s, user := run(t, w.redis, unique("replacing"), "--duplicate-login=replace"), newUser(t, w.store, "kim")
			first := connect(t, w.one, user)
			first.expect(map[string]any{"type": "userList"})
			second := connect(t, s, user)
			second.expect(map[string]any{"type": "userList"})
			first.expectClose(4409, "logged in elsewhere")
		})
		t.Run("allow", func(t *testing.T) {
			s, user := run(t, w.redis, unique("allowing"), "--duplicate-login=allow"), newUser(t, w.store, "kim")
			first, second := connect(t, w.one, user), connect(t, s, user)
			second.send(`{"type":"message","message":"from the other one"}`)
			first.expect(map[string]any{"type": "message", "username": user, "message": "from the other one"})
		})
		t.Run("allow a number", func(t *testing.T) {
			flags := []string{"--duplicate-login=allow", "--max-sessions-per-user=2"}
			one, two, user := run(t, w.redis, unique("allowing"), flags...), run(t, w.redis, unique("allowing"), flags...), newUser(t, w.store, "kim")
			first, second := connect(t, one, user), connect(t, two, user)
			first.expect(map[string]any{"type": "userList"})
			second.expect(map[string]any{"type": "userList"})
			for _, s := range []*server{one, two} {
				third := connect(t, s, user)
				third.expect(map[string]any{"type": "error", "code": "already_online"})
				third.expectClose(4410, "online elsewhere")
			}
			l := terminal(t, two)
			say(t, l, "LOGIN "+user+" "+password)
			expect(t, l, "ERROR this user is online elsewhere already")

			one.kill() // what it held is given back, though it cannot say so
			for deadline := time.Now().Add(patience); l.Login(waiting(t), user, password) != nil; time.Sleep(100 * time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatal("still refused although a session has crashed")
				}
			}
		})
	})
}

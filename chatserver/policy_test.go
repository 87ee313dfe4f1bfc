package chatserver_test

import (
	"testing"

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
	})
}

package chatserver_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/coder/websocket"
)

func TestPlaintextIsForLoopbackUnlessAskedForTwice(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		t.Run("loopback", func(t *testing.T) {
			t.Parallel()
			s, user := run(t, w.redis, unique("plaintext"), "--plaintext"), newUser(t, w.store, "kim")
			resp, answer := call(t, http.MethodGet, "http://"+s.https+"/health", "")
			if resp.StatusCode != http.StatusOK || answer["status"] != "ok" {
				t.Fatalf("/health answers %d %v", resp.StatusCode, answer)
			}
			conn, _, err := websocket.Dial(waiting(t), "ws://"+s.https+"/?token="+login(t, w.one, user), nil)
			if err != nil {
				t.Fatal(err)
			}
			c := &socket{conn, t}
			t.Cleanup(func() { _ = c.CloseNow() })
			c.send(`{"type":"message","message":"in the clear"}`)
			c.expect(map[string]any{"type": "message", "username": user, "message": "in the clear"})
		})
		t.Run("every address", func(t *testing.T) {
			t.Parallel()
			s, err := start(w.redis, unique("refused"), "--plaintext", "--listen=0.0.0.0:0")
			if err == nil {
				s.kill()
				t.Fatal("it serves passwords to the network in the clear")
			}
			if !strings.Contains(err.Error(), "--plaintext-exposed") {
				t.Errorf("the refusal does not say what to do: %v", err)
			}
		})
		t.Run("every address, asked for twice", func(t *testing.T) {
			t.Parallel()
			s := run(t, w.redis, unique("exposed"), "--plaintext", "--plaintext-exposed", "--listen=0.0.0.0:0")
			if !strings.Contains(s.logs(), "serving without TLS") {
				t.Error("the log does not warn")
			}
		})
	})
}

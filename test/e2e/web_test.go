package e2e

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// viaGateway is reached by an HTTPRoute; the Gateway's listener has the
// certificate.
const viaGateway = `
routing: {gateway: {parentRefs: [{name: local, namespace: local-router, sectionName: https}]}}`

func TestPlainClientThroughIngress(t *testing.T) {
	t.Parallel()
	plainConversation(t, start(t, routed))
}

func TestPlainClientThroughHTTPRoute(t *testing.T) {
	t.Parallel()
	plainConversation(t, start(t, viaGateway))
}

// plainConversation is all that a client does which knows no rooms.
func plainConversation(t *testing.T, c *chat) {
	alice, bob := c.plainClient(t, "alice_p"), c.plainClient(t, "bob_p")
	if err := alice.isHealthy(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, p := range []*plainClient{alice, bob} {
		p.registers()
		p.logsIn()
	}
	alice.posts("/register", map[string]string{"username": "alice_p", "password": plainPassword}, http.StatusConflict)
	alice.posts("/login", map[string]string{"username": "alice_p", "password": "not the password"}, http.StatusUnauthorized)
	if status := (&plainClient{t: t, chat: c, http: alice.http, user: "eve", token: "no.token.atall"}).connects(); status != http.StatusUnauthorized {
		t.Errorf("a WebSocket with a forged token is answered with %d, want 401", status)
	}

	alice.connects()
	alice.receives("the list of users", func(e plainEvent) bool { return e.Type == "userList" && slices.Contains(e.Users, "alice_p") })
	bob.connectsElsewhere()
	alice.receives("the announcement of bob", func(e plainEvent) bool { return e.Type == "announcement" && strings.Contains(e.Message, "bob_p") })
	alice.sends(`{"type":"message","message":"Hello!"}`)
	bob.receivesMessage("alice_p", "Hello!")
	alice.receivesMessage("alice_p", "Hello!")
	const markup = `<img src=x onerror=alert(1)>`
	bob.sends(`{"type":"chat","message":"` + markup + `"}`)
	alice.receivesMessage("bob_p", markup)
	bob.sends(`{"type":`)
	bob.receives("an error", func(e plainEvent) bool { return e.Type == "error" && e.Message != "" })

	checkLogout(t, alice)
	bob.sends(`{"type":"message","message":"still here"}`)
	bob.receivesMessage("bob_p", "still here")
}

// connectsElsewhere connects to another pod than the one where the only other
// client of the chat is.
func (p *plainClient) connectsElsewhere() {
	p.t.Helper()
	for range 20 {
		p.connects()
		p.receives("the list of both users", func(e plainEvent) bool {
			return e.Type == "userList" && len(e.Users) == 2 && slices.Contains(e.Users, p.user)
		})
		spread, err := p.chat.spread(p.t.Context(), "websocket")
		if err != nil {
			p.t.Fatal(err)
		}
		if slices.Max(slices.Collect(maps.Values(spread))) == 1 {
			p.t.Logf("the two clients are on different pods: %v", spread)
			return
		}
		_ = p.conn.Close(websocket.StatusNormalClosure, "")
	}
	p.t.Fatal("20 connections all went to the other client's pod")
}

// checkLogout ends the session: the connection that is open ends, on whichever
// pod it is, and the token opens no other.
func checkLogout(t *testing.T, p *plainClient) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), answerWithin)
	defer cancel()
	began := time.Now()
	p.posts("/logout", map[string]string{"token": p.token}, http.StatusOK)
	for {
		_, _, err := p.conn.Read(ctx)
		if err == nil {
			continue // what was on its way
		}
		if status := websocket.CloseStatus(err); status == -1 {
			t.Errorf("after /logout the connection breaks without a close frame: %v", err)
		}
		break
	}
	t.Logf("/logout ended the open connection after %v", time.Since(began).Round(time.Millisecond))
	if status := p.connects(); status != http.StatusUnauthorized {
		t.Errorf("a WebSocket with a logged-out token is answered with %d, want 401", status)
	}
}

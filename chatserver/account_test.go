package chatserver_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// tokens are what a login or a refresh answered.
type tokens struct {
	Token, AccessToken, RefreshToken, Username, Session string
	ExpiresIn                                           int
}

// post makes a call and decodes its answer into into, which may be nil.
func post(t *testing.T, url, body string, into any, header ...string) (status int) {
	t.Helper()
	resp, answer := call(t, "POST", url, body, header...)
	if into != nil {
		text, err := json.Marshal(answer)
		if err == nil {
			err = json.Unmarshal(text, into)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return resp.StatusCode
}

// logIn is a login of a client that knows refresh tokens.
func logIn(t *testing.T, s *server, user string) tokens {
	t.Helper()
	var got tokens
	if status := post(t, s.url()+"/api/auth/login", fmt.Sprintf(`{"username":%q,"password":%q}`, user, password), &got); status != 200 {
		t.Fatalf("%s cannot log in: %d", user, status)
	}
	return got
}

// refresh gives the next tokens, or the code of the refusal.
func refresh(t *testing.T, s *server, token string) (next tokens, code string) {
	t.Helper()
	var answer struct {
		tokens
		Code string
	}
	status := post(t, s.url()+"/api/refresh", fmt.Sprintf(`{"refreshToken":%q}`, token), &answer)
	if (status == 200) != (answer.Code == "") {
		t.Fatalf("a refresh answered %d %q", status, answer.Code)
	}
	return answer.tokens, answer.Code
}

// bearing are the headers of a call that token authorizes.
func bearing(token string) []string { return []string{"Authorization", "Bearer " + token} }

// claims are what an access token says.
func claims(t *testing.T, token string) (c struct {
	Sub, Jti string
	Iat, Exp int64
	Kid      string
}) {
	t.Helper()
	for i, part := range strings.SplitN(token, ".", 3)[:2] {
		text, err := base64.RawURLEncoding.DecodeString(part)
		if err == nil {
			err = json.Unmarshal(text, &c)
		}
		if err != nil {
			t.Fatalf("part %d of the token %s: %v", i, token, err)
		}
	}
	return c
}

// attach connects a client of the full protocol.
func attach(t *testing.T, s *server, token string) *socket {
	t.Helper()
	c, _, err := dial(t, s, "/ws", websocket.DialOptions{
		HTTPHeader: http.Header{"Authorization": {"Bearer " + token}}, Subprotocols: []string{"chatcluster.v1"},
	})
	if err != nil {
		t.Fatal(err)
	}
	c.expect(map[string]any{"type": "hello"})
	return c
}

func TestRefreshTokensAreRotatedAndKeepTheirSession(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		user := newUser(t, w.store, "rita")
		var first tokens
		post(t, w.one.url()+"/login", fmt.Sprintf(`{"username":%q,"password":%q}`, user, password), &first)
		if len(first.RefreshToken) != 80 || first.ExpiresIn != 3600 || first.Username != user || first.Session == "" {
			t.Fatalf("login answered %+v", first)
		}
		if c := claims(t, first.Token); c.Sub != user || c.Jti != first.Session || c.Exp-c.Iat != 3600 {
			t.Errorf("the token of a client that may know no refresh says %+v", c)
		}
		conn := attach(t, w.one, first.Token)
		last := first
		for i, s := range []*server{w.two, w.one, w.two} {
			next, code := refresh(t, s, last.RefreshToken)
			if code != "" || next.RefreshToken == last.RefreshToken || next.Session != first.Session || next.Username != user {
				t.Fatalf("refresh %d answered %q %+v after %+v", i, code, next, last)
			}
			if c := claims(t, next.Token); c.Jti != first.Session || next.ExpiresIn != 900 || c.Exp-c.Iat != 900 {
				t.Errorf("refresh %d gave a token that says %+v", i, c)
			}
			last = next
		}
		for _, token := range []string{first.Token, last.Token} { // each until its own end
			if resp, me := call(t, "GET", w.two.url()+"/api/users/me", "", bearing(token)...); resp.StatusCode != 200 || me["username"] != user {
				t.Errorf("a token of the session: %d %v", resp.StatusCode, me)
			}
		}
		conn.send(`{"type":"ping","id":"1"}`)
		conn.expect(map[string]any{"type": "pong", "id": "1"})

		for name, token := range map[string]string{"none": "", "no token": "x.y.z", "unknown": strings.Repeat("0", 80)} {
			if _, code := refresh(t, w.one, token); code != "not_logged_in" {
				t.Errorf("a refresh token that is %s: %q", name, code)
			}
		}
		if strings.Contains(w.one.logs()+w.two.logs(), last.RefreshToken[32:]) {
			t.Error("a refresh token is in the log")
		}
	})
}

func TestStolenRefreshTokenEndsTheSessionWhenBothHaveUsedIt(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		user := newUser(t, w.store, "steve")
		stolen, other := logIn(t, w.one, user), logIn(t, w.one, user)
		owner, _ := refresh(t, w.one, stolen.RefreshToken)
		thief, code := refresh(t, w.two, stolen.RefreshToken) // within the grace of a lost answer
		if code != "" {
			t.Fatalf("a refresh whose answer was lost: %q", code)
		}
		conn := attach(t, w.one, thief.Token)

		if _, code := refresh(t, w.two, owner.RefreshToken); code != "reused" {
			t.Errorf("the owner's next refresh: %q, want reused", code)
		}
		conn.expectClose(4401, "logged out")
		for name, token := range map[string]string{"thief": thief.RefreshToken, "owner": owner.RefreshToken, "both": stolen.RefreshToken} {
			if next, code := refresh(t, w.one, token); code == "" {
				t.Errorf("the refresh token of %s still gave %+v", name, next)
			}
		}
		for _, token := range []string{stolen.Token, owner.Token, thief.Token} {
			if resp, _ := call(t, "GET", w.two.url()+"/api/users/me", "", bearing(token)...); resp.StatusCode != 401 {
				t.Errorf("an access token of the session: %d", resp.StatusCode)
			}
		}
		if _, code := refresh(t, w.one, other.RefreshToken); code != "" {
			t.Errorf("another session of the user: %q", code)
		}
	})
}

func TestAccessTokenEndsBeforeItsSession(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		s := run(t, w.redis, unique("brief"), "--access-token-ttl=1s", "--plain-token-ttl=1s")
		short := logIn(t, s, newUser(t, w.store, "sue"))
		conn := attach(t, w.one, short.Token)
		// The servers allow each other's clocks some seconds.
		for deadline := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
			resp, answer := call(t, "GET", w.one.url()+"/api/users/me", "", bearing(short.Token)...)
			if resp.StatusCode == 401 && strings.Contains(fmt.Sprint(answer["message"]), "expired") {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("a token for a second is still good: %d %v", resp.StatusCode, answer)
			}
		}
		conn.send(`{"type":"ping","id":"1"}`) // what is open outlives its token
		conn.expect(map[string]any{"type": "pong", "id": "1"})
		next, code := refresh(t, w.one, short.RefreshToken)
		if code != "" {
			t.Fatalf("the session should be alive: %q", code)
		}
		call(t, "GET", w.one.url()+"/api/users/me", "", bearing(next.Token)...)

		// A logout with the token that has expired ends all of it.
		if status := post(t, w.two.url()+"/logout", fmt.Sprintf(`{"token":%q}`, short.Token), nil); status != 200 {
			t.Errorf("logout answered %d", status)
		}
		conn.expectClose(4401, "logged out")
		if _, code := refresh(t, w.one, next.RefreshToken); code != "not_logged_in" {
			t.Errorf("a refresh after the logout: %q", code)
		}
	})
}

// sessionIDs lists the sessions of whoever token is of, the present one first.
func sessionIDs(t *testing.T, s *server, token string) (ids []string) {
	t.Helper()
	resp, answer := call(t, "GET", s.url()+"/api/sessions", "", bearing(token)...)
	list, _ := answer["sessions"].([]any)
	if resp.StatusCode != 200 {
		t.Fatalf("the list of sessions: %d %v", resp.StatusCode, answer)
	}
	for _, one := range list {
		session := one.(map[string]any)
		id := session["id"].(string)
		if session["current"] == true {
			ids = append([]string{id}, ids...)
		} else {
			ids = append(ids, id)
		}
	}
	return ids
}

func TestSessionsAreListedAndEndedOneByOne(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		s := run(t, w.redis, unique("allowing"), "--duplicate-login=allow")
		user := newUser(t, w.store, "tina")
		laptop, phone := logIn(t, s, user), logIn(t, w.two, user)
		if ids := sessionIDs(t, w.one, laptop.Token); len(ids) != 2 || ids[0] != laptop.Session || ids[1] != phone.Session {
			t.Fatalf("the sessions are %v, want %s and %s", ids, laptop.Session, phone.Session)
		}
		_, answer := call(t, "GET", w.one.url()+"/api/sessions", "", bearing(laptop.Token)...)
		session := answer["sessions"].([]any)[0].(map[string]any)
		if session["address"] != "127.0.0.1" || !strings.HasPrefix(fmt.Sprint(session["userAgent"]), "Go-http-client") {
			t.Errorf("a session is listed as %v", session)
		}
		for _, field := range []string{"created", "lastUsed", "expires"} {
			if _, err := time.Parse(time.RFC3339, fmt.Sprint(session[field])); err != nil {
				t.Errorf("%s is %v", field, session[field])
			}
		}

		conn := attach(t, w.two, phone.Token)
		stranger := logIn(t, w.one, newUser(t, w.store, "ursula"))
		if resp, _ := call(t, "DELETE", w.one.url()+"/api/sessions/"+phone.Session, "", bearing(stranger.Token)...); resp.StatusCode != 404 {
			t.Errorf("another user's session: %d", resp.StatusCode)
		}
		if resp, _ := call(t, "DELETE", w.one.url()+"/api/sessions/"+phone.Session, "", bearing(laptop.Token)...); resp.StatusCode != 200 {
			t.Errorf("one's own session: %d", resp.StatusCode)
		}
		conn.expectClose(4401, "logged out")
		if ids := sessionIDs(t, w.two, laptop.Token); len(ids) != 1 {
			t.Errorf("the sessions left are %v", ids)
		}
		if _, code := refresh(t, w.one, phone.RefreshToken); code != "not_logged_in" {
			t.Errorf("a refresh of the session that was ended: %q", code)
		}
	})
}

// TestEveryWayToEndSessionsReachesConnectionsOnOtherServers also says how long that took.
func TestEveryWayToEndSessionsReachesConnectionsOnOtherServers(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		two := run(t, w.redis, unique("allowing"), "--duplicate-login=allow")
		for name, c := range map[string]struct {
			end     func(user string, here tokens) int
			staying bool // the session it is asked with
		}{
			"logout everywhere": {func(_ string, here tokens) int {
				return post(t, w.one.url()+"/api/logout-everywhere", "", nil, bearing(here.Token)...)
			}, false},
			"another password": {func(_ string, here tokens) int {
				return post(t, w.one.url()+"/api/password", fmt.Sprintf(`{"old":%q,"new":"battery staple"}`, password), nil, bearing(here.Token)...)
			}, true},
			"another password, WebSocket": {func(_ string, here tokens) int {
				conn := attach(t, two, here.Token)
				conn.send(fmt.Sprintf(`{"type":"password","old":%q,"message":"battery staple","id":"7"}`, password))
				conn.expect(map[string]any{"type": "done", "id": "7"})
				return 200
			}, true},
			"logout everywhere, WebSocket": {func(_ string, here tokens) int {
				conn := attach(t, two, here.Token)
				conn.send(`{"type":"logout","session":"all","id":"8"}`)
				conn.expectClose(4401, "logged out")
				return 200
			}, false},
			"logout everywhere, terminal": {func(user string, _ tokens) int {
				l := terminal(t, two)
				say(t, l, "LOGIN "+user+" correct horse")
				expect(t, l, "logged in")
				say(t, l, "/password wrong battery staple")
				expect(t, l, "ERROR wrong username or password")
				say(t, l, "/sessions")
				expect(t, l, "(this one)")
				say(t, l, "/logout all")
				expect(t, l, "logged out")
				return 200
			}, false},
		} {
			user := newUser(t, w.store, "vera")
			here, there, far := logIn(t, w.one, user), logIn(t, w.one, user), logIn(t, w.one, user)
			conns := []*socket{attach(t, two, there.Token), attach(t, two, far.Token)}
			if status := c.end(user, here); status != 200 {
				t.Errorf("%s: %d", name, status)
				continue
			}
			answered := time.Now()
			for _, conn := range conns {
				conn.expectClose(4401, "logged out")
			}
			t.Logf("%s: the other server's connections were closed %s after the answer", name, time.Since(answered).Round(time.Millisecond))
			for _, token := range []string{there.RefreshToken, far.RefreshToken} {
				if _, code := refresh(t, two, token); code != "not_logged_in" {
					t.Errorf("%s: a refresh of an ended session: %q", name, code)
				}
			}
			if _, code := refresh(t, two, here.RefreshToken); (code == "") != c.staying {
				t.Errorf("%s: a refresh of the session it was asked with: %q", name, code)
			}
		}
	})
}

func TestPasswordIsChangedByWhoKnowsIt(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		user := newUser(t, w.store, "wendy")
		here := logIn(t, w.one, user)
		change := func(old, replacement string) (int, string) {
			var answer struct{ Code string }
			status := post(t, w.two.url()+"/api/password", fmt.Sprintf(`{"old":%q,"new":%q}`, old, replacement), &answer, bearing(here.Token)...)
			return status, answer.Code
		}
		for name, c := range map[string]struct {
			old, replacement, code string
			status                 int
		}{
			"wrong":     {"not my password", "battery staple", "wrong_login", 401},
			"too short": {password, "short", "bad_request", 400},
			"too long":  {password, strings.Repeat("x", 129), "bad_request", 400},
		} {
			if status, code := change(c.old, c.replacement); status != c.status || code != c.code {
				t.Errorf("%s: %d %q", name, status, code)
			}
		}
		if status, code := change(password, "battery staple"); status != 200 {
			t.Fatalf("the right one: %d %q", status, code)
		}
		for p, want := range map[string]int{password: 401, "battery staple": 200} {
			if status := post(t, w.one.url()+"/login", fmt.Sprintf(`{"username":%q,"password":%q}`, user, p), nil); status != want {
				t.Errorf("a login with %q afterwards: %d, want %d", p, status, want)
			}
		}
		if resp, _ := call(t, "POST", w.one.url()+"/api/password", `{"old":"x","new":"y"}`); resp.StatusCode != 401 {
			t.Errorf("without a token: %d", resp.StatusCode)
		}
	})
}

package chatserver_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/chatcluster/chatcluster/chatserver/auth"
	"github.com/chatcluster/chatcluster/chatserver/store"
)

var browser = &http.Client{Transport: &http.Transport{TLSClientConfig: clientTLS(), MaxIdleConnsPerHost: 4}}

// call makes an HTTP request and gives the answer's JSON.
func call(t *testing.T, method, url, body string, header ...string) (*http.Response, map[string]any) {
	t.Helper()
	req, err := http.NewRequestWithContext(waiting(t), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := browser.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	var answer map[string]any
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "application/json") {
		if err := json.Unmarshal(text, &answer); err != nil {
			t.Fatalf("%s %s: %v in %q", method, url, err, text)
		}
	}
	return resp, answer
}

// socket is a WebSocket of a client that knows nothing of this project.
type socket struct {
	*websocket.Conn
	t *testing.T
}

func dial(t *testing.T, s *server, path string, o websocket.DialOptions) (*socket, *http.Response, error) {
	t.Helper()
	o.HTTPClient = browser
	conn, resp, err := websocket.Dial(waiting(t), "wss://"+s.https+path, &o)
	if err != nil {
		return nil, resp, err
	}
	conn.SetReadLimit(1 << 20)
	t.Cleanup(func() { _ = conn.CloseNow() })
	return &socket{conn, t}, resp, nil
}

// connect logs in and connects as the clients of plain JSON chats do.
func connect(t *testing.T, s *server, user string) *socket {
	t.Helper()
	c, _, err := dial(t, s, "/?token="+login(t, s, user), websocket.DialOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *socket) send(frame string) {
	c.t.Helper()
	if err := c.Write(waiting(c.t), websocket.MessageText, []byte(frame)); err != nil {
		c.t.Fatal(err)
	}
}

// expect reads until an event has all of want's fields, and returns it.
func (c *socket) expect(want map[string]any) map[string]any {
	c.t.Helper()
	var others []string
	for {
		_, frame, err := c.Read(waiting(c.t))
		if err != nil {
			c.t.Fatalf("waiting for %v, after %q: %v", want, others[max(0, len(others)-5):], err)
		}
		var event map[string]any
		if err := json.Unmarshal(frame, &event); err != nil {
			c.t.Fatalf("%v in the frame %q", err, frame)
		}
		matches := true
		for field, value := range want {
			matches = matches && reflect.DeepEqual(event[field], value)
		}
		if matches {
			return event
		}
		others = append(others, string(frame))
	}
}

// expectClose reads until the server closes, and wants the code.
func (c *socket) expectClose(code websocket.StatusCode, reason string) {
	c.t.Helper()
	for {
		_, _, err := c.Read(waiting(c.t))
		if err == nil {
			continue
		}
		var closed websocket.CloseError
		if !errors.As(err, &closed) || closed.Code != code || !strings.Contains(closed.Reason, reason) {
			c.t.Fatalf("the connection ended with %v, want %d %q", err, code, reason)
		}
		return
	}
}

func TestPlainJSONClientWorksUnchanged(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		alice, bob := unique("alice"), newUser(t, w.store, "bob")
		body := fmt.Sprintf(`{"username":%q,"password":%q}`, alice, password)

		resp, answer := call(t, "POST", w.one.url()+"/register", body)
		want := map[string]any{"message": "User created successfully", "username": alice}
		if resp.StatusCode != 201 || !reflect.DeepEqual(answer, want) {
			t.Fatalf("register: %d %v, want 201 %v", resp.StatusCode, answer, want)
		}
		resp, answer = call(t, "POST", w.two.url()+"/login", body)
		if resp.StatusCode != 200 || answer["username"] != alice || answer["token"] == "" {
			t.Fatalf("login: %d %v", resp.StatusCode, answer)
		}
		token := answer["token"].(string)
		resp, answer = call(t, "GET", w.one.url()+"/health", "")
		if _, err := time.Parse(time.RFC3339, fmt.Sprint(answer["timeStamp"])); resp.StatusCode != 200 || answer["status"] != "ok" || err != nil {
			t.Errorf("health: %d %v", resp.StatusCode, answer)
		}

		a, _, err := dial(t, w.one, "/?token="+token, websocket.DialOptions{})
		if err != nil {
			t.Fatal(err)
		}
		a.expect(map[string]any{"type": "userList"})
		b := connect(t, w.two, bob)
		a.expect(map[string]any{"type": "announcement", "message": bob + " joined general"})
		for {
			list := a.expect(map[string]any{"type": "userList"})
			if users, _ := list["users"].([]any); slices.Contains(users, any(alice)) && slices.Contains(users, any(bob)) {
				break
			}
		}
		a.send(`{"type":"message","message":"Hello!"}`)
		got := b.expect(map[string]any{"type": "message", "username": alice, "message": "Hello!"})
		if _, err := time.Parse(time.RFC3339, fmt.Sprint(got["timestamp"])); err != nil {
			t.Errorf("the timestamp is %v", got["timestamp"])
		}
		a.expect(map[string]any{"type": "message", "username": alice, "message": "Hello!"})
		b.send(`{"type":"chat","message":"Hello yourself!"}`)
		a.expect(map[string]any{"type": "message", "username": bob, "message": "Hello yourself!"})
		_ = b.Close(websocket.StatusNormalClosure, "")
		a.expect(map[string]any{"type": "announcement", "message": bob + " left general"})

		resp, answer = call(t, "POST", w.two.url()+"/logout", fmt.Sprintf(`{"token":%q}`, token))
		if resp.StatusCode != 200 || answer["message"] == "" {
			t.Errorf("logout: %d %v", resp.StatusCode, answer)
		}
		a.expectClose(4401, "logged out")
		for _, s := range []*server{w.one, w.two} {
			if _, resp, err := dial(t, s, "/?token="+token, websocket.DialOptions{}); err == nil || resp.StatusCode != 401 {
				t.Errorf("a token that was logged out was let in: %v", err)
			}
		}
	})
}

func TestCallsAboutAccountsSayWhatIsWrong(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		user := newUser(t, w.store, "erin")
		account := func(user, password string) string {
			return fmt.Sprintf(`{"username":%q,"password":%q}`, user, password)
		}
		for name, c := range map[string]struct {
			path, body, kind string
			status           int
			message          string
		}{
			"taken":            {"/register", account(user, password), "", 409, "taken"},
			"short name":       {"/register", account("ab", password), "", 400, "user"},
			"odd name":         {"/register", account("a b c", password), "", 400, "user"},
			"short password":   {"/register", account(unique("x"), "1234567"), "", 400, "password"},
			"long password":    {"/register", account(unique("x"), strings.Repeat("p", 129)), "", 400, "password"},
			"no JSON":          {"/register", "username=x", "", 400, "JSON"},
			"wrong type":       {"/login", `{"username":1}`, "", 400, "JSON"},
			"wrong header":     {"/login", account(user, password), "text/plain", 415, "JSON"},
			"too large":        {"/login", account(user, strings.Repeat("p", 10_000)), "", 413, "large"},
			"wrong password":   {"/login", account(user, "wrong password"), "", 401, "wrong username or password"},
			"unknown user":     {"/login", account(unique("nobody"), password), "", 401, "wrong username or password"},
			"empty":            {"/login", `{}`, "", 400, "needed"},
			"no token":         {"/logout", `{}`, "", 400, "token"},
			"not a token":      {"/logout", `{"token":"x.y.z"}`, "", 401, "token"},
			"no such path":     {"/registre", account(user, password), "", 404, "nothing"},
			"another's method": {"/health", `{}`, "", 405, "GET"},
		} {
			kind := c.kind
			if kind == "" {
				kind = "application/json"
			}
			resp, answer := call(t, "POST", w.one.url()+c.path, c.body, "Content-Type", kind)
			message, _ := answer["message"].(string)
			if resp.StatusCode != c.status || !strings.Contains(message, c.message) {
				t.Errorf("%s: %d %v, want %d and %q", name, resp.StatusCode, answer, c.status, c.message)
			}
			if resp.Header.Get("X-Content-Type-Options") != "nosniff" {
				t.Errorf("%s: no security headers", name)
			}
		}
	})
}

func TestTokensThatAreNotGoodAreRefusedBeforeTheUpgrade(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		keys, err := auth.LoadKeys(filepath.Join(files, "keys"))
		if err != nil {
			t.Fatal(err)
		}
		user := newUser(t, w.store, "frank")
		issue := func(keys *auth.Keys, cluster string, life time.Duration) string {
			session := unique("session")
			token, _, err := auth.NewTokens(keys, cluster).Issue(user, session, life)
			if err != nil {
				t.Fatal(err)
			}
			login := store.Login{SID: session, Expires: time.Now().Add(time.Hour)}
			if _, err := w.store.AddLogin(waiting(t), user, "", login); err != nil {
				t.Fatal(err)
			}
			return token
		}
		if _, _, err := dial(t, w.one, "/ws?token="+issue(keys, clusterID, time.Hour), websocket.DialOptions{}); err != nil {
			t.Fatalf("a good token was refused: %v", err)
		}
		for name, c := range map[string]struct{ path, message string }{
			"none":            {"/ws", "token is needed"},
			"empty":           {"/?token=", "token is needed"},
			"rubbish":         {"/?token=rubbish", "invalid"},
			"expired":         {"/?token=" + issue(keys, clusterID, -time.Hour), "expired"},
			"another cluster": {"/?token=" + issue(keys, "tests/other", time.Hour), "another chat cluster"},
			"another key":     {"/?token=" + issue(auth.RandomKeys(), clusterID, time.Hour), "invalid"},
		} {
			_, resp, err := dial(t, w.one, c.path, websocket.DialOptions{})
			if err == nil {
				t.Errorf("%s: let in", name)
				continue
			}
			var answer struct{ Message string }
			if json.NewDecoder(resp.Body).Decode(&answer) != nil || resp.StatusCode != 401 || !strings.Contains(answer.Message, c.message) {
				t.Errorf("%s: %d %q, want 401 and %q", name, resp.StatusCode, answer.Message, c.message)
			}
		}
	})
}

func TestTokenMayTravelInHeaderOrSubprotocol(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		token := login(t, w.one, newUser(t, w.store, "grace"))
		for name, c := range map[string]struct {
			options websocket.DialOptions
			picked  string
		}{
			"header":                     {websocket.DialOptions{HTTPHeader: http.Header{"Authorization": {"Bearer " + token}}}, ""},
			"header, full protocol":      {websocket.DialOptions{HTTPHeader: http.Header{"Authorization": {"Bearer " + token}}, Subprotocols: []string{"chatcluster.v1"}}, "chatcluster.v1"},
			"subprotocol":                {websocket.DialOptions{Subprotocols: []string{"bearer." + token}}, "bearer." + token},
			"subprotocol, full protocol": {websocket.DialOptions{Subprotocols: []string{"bearer." + token, "chatcluster.v1"}}, "chatcluster.v1"},
		} {
			conn, _, err := dial(t, w.one, "/ws", c.options)
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			if got := conn.Subprotocol(); got != c.picked {
				t.Errorf("%s: the server picked %q, want %q", name, got, c.picked)
			}
			first := map[string]any{"type": "userList"}
			if c.picked == "chatcluster.v1" {
				first = map[string]any{"type": "hello"}
			}
			conn.expect(first)
			_ = conn.Close(websocket.StatusNormalClosure, "")
		}
		if strings.Contains(w.one.logs(), token) {
			t.Error("a token is in the log")
		}
	})
}

func TestBadFramesGetTheirErrorsAndNobodyElseNotices(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		bad, witness := connect(t, w.one, newUser(t, w.store, "mallory")), connect(t, w.one, newUser(t, w.store, "witness"))
		for _, frame := range []string{"not JSON", `[]`, `{"message":"no type"}`, `{"type":"message","message":7}`, "\xff\xfe"} {
			bad.send(frame)
			if e := bad.expect(map[string]any{"type": "error"}); e["message"] == "" {
				t.Errorf("the error about %q has no message", frame)
			}
		}
		bad.send(`{"type":"message","message":"` + strings.Repeat("x", 5000) + `"}`)
		bad.expect(map[string]any{"type": "error", "code": "too_long"})
		bad.send(`{"type":"message","message":""}`)
		bad.expect(map[string]any{"type": "error", "code": "bad_request"})
		bad.send(`{"type":"nonsense"}`)
		bad.expect(map[string]any{"type": "error", "code": "unknown_command"})

		text := unique("after all that")
		bad.send(`{"type":"message","message":"` + text + `"}`)
		witness.expect(map[string]any{"type": "message", "message": text})

		bad.send(strings.Repeat("x", 1<<20))
		bad.expectClose(websocket.StatusMessageTooBig, "too large")
		flooder := connect(t, w.one, newUser(t, w.store, "flooder"))
		for range 20 {
			flooder.send("{")
		}
		flooder.expectClose(websocket.StatusPolicyViolation, "malformed")

		text = unique("all well")
		witness.send(`{"type":"message","message":"` + text + `"}`)
		witness.expect(map[string]any{"type": "message", "message": text})
	})
}

func TestMarkupArrivesAsTheTextItIs(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		a, b := connect(t, w.one, newUser(t, w.store, "a")), connect(t, w.two, newUser(t, w.store, "b"))
		for _, text := range []string{
			`<script>alert(1)</script>`, `<img src=x onerror=alert(1)>`, `"><svg/onload=alert(1)>`,
			`&lt;b&gt;`, `javascript:alert(1)`, `'; DROP TABLE users; --`, "\u2028\u2029\u0000", `\u003cb\u003e`,
		} {
			frame, err := json.Marshal(map[string]string{"type": "message", "message": text})
			if err != nil {
				t.Fatal(err)
			}
			a.send(string(frame))
			b.expect(map[string]any{"type": "message", "message": text})
		}
		resp, _ := call(t, "GET", w.one.url()+"/", "")
		if kind := resp.Header.Get("Content-Type"); resp.StatusCode != 200 || !strings.HasPrefix(kind, "text/plain") {
			t.Errorf("the root page: %d %s", resp.StatusCode, kind)
		}
	})
}

func TestSilentPeerIsPinged(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		pinged := make(chan struct{}, 1)
		c, _, err := dial(t, w.one, "/?token="+login(t, w.one, newUser(t, w.store, "quiet")), websocket.DialOptions{
			OnPingReceived: func(context.Context, []byte) bool {
				pinged <- struct{}{}
				return true
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			for {
				if _, _, err := c.Read(context.Background()); err != nil {
					return
				}
			}
		}()
		select {
		case <-pinged:
		case <-waiting(t).Done():
			t.Error("no ping came")
		}
	})
}

func TestOriginsOfOtherHostsAreRefusedUnlessAllowed(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		token := login(t, w.one, newUser(t, w.store, "heidi"))
		for origin, allowed := range map[string]bool{
			"":                             true,
			"https://" + w.one.https:       true,
			"https://app.example.com":      true,
			"https://APP.example.com":      true,
			"http://app.example.com":       false,
			"https://app.example.com.evil": false,
			"https://evil.example.com":     false,
			"null":                         false,
		} {
			header := http.Header{}
			if origin != "" {
				header.Set("Origin", origin)
			}
			c, resp, err := dial(t, w.one, "/?token="+token, websocket.DialOptions{HTTPHeader: header})
			switch {
			case allowed && err != nil:
				t.Errorf("origin %q: %v", origin, err)
			case allowed:
				_ = c.Close(websocket.StatusNormalClosure, "")
			case err == nil || resp.StatusCode != 403:
				t.Errorf("origin %q: %v, want a 403", origin, err)
			}
		}
		resp, _ := call(t, "OPTIONS", w.one.url()+"/login", "", "Origin", "https://app.example.com",
			"Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "content-type")
		if resp.StatusCode != 204 || resp.Header.Get("Access-Control-Allow-Origin") != "https://app.example.com" {
			t.Errorf("preflight of an allowed origin: %d %v", resp.StatusCode, resp.Header)
		}
		resp, _ = call(t, "OPTIONS", w.one.url()+"/login", "", "Origin", "https://evil.example.com", "Access-Control-Request-Method", "POST")
		if resp.StatusCode != 403 || resp.Header.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("preflight of another: %d %v", resp.StatusCode, resp.Header)
		}
	})
}

func TestMessagesOverTheRateEndTheConnection(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		s := run(t, w.redis, unique("strict"), "--messages-per-10s=20")
		c := connect(t, s, newUser(t, w.store, "ivan"))
		for i := range 25 {
			if c.Write(waiting(t), websocket.MessageText, fmt.Appendf(nil, `{"type":"message","message":"%d"}`, i)) != nil {
				break // closed already
			}
		}
		c.expectClose(websocket.StatusPolicyViolation, "Rate limit exceeded")
	})
}

func TestRequestsOfAnAddressAreCountedOnAllServersTogether(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		flags := []string{"--requests-per-hour=10", "--trusted-proxies=127.0.0.0/8"}
		one, two := run(t, w.redis, unique("strict"), flags...), run(t, w.redis, unique("strict"), flags...)
		address := fmt.Sprintf("2001:db8:%x:%x::1", os.Getpid()&0xffff, time.Now().UnixNano()&0xffff)
		refused := 0
		for range 10 {
			for _, s := range []*server{one, two} {
				resp, _ := call(t, "POST", s.url()+"/login", `{}`, "X-Forwarded-For", address)
				if resp.StatusCode != 429 {
					continue
				}
				refused++
				if resp.Header.Get("Retry-After") == "" {
					t.Error("429 without Retry-After")
				}
			}
		}
		if refused != 10 {
			t.Errorf("%d of 20 requests were refused, want 10", refused)
		}
		if resp, _ := call(t, "GET", one.url()+"/health", "", "X-Forwarded-For", address); resp.StatusCode != 200 {
			t.Error("health checks are limited")
		}
		if resp, _ := call(t, "POST", one.url()+"/login", `{}`, "X-Forwarded-For", "203.0.113.1"); resp.StatusCode == 429 {
			t.Error("another address pays for it")
		}
	})
}

func TestConnectionsOfAnAddressAreBounded(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		s := run(t, w.redis, unique("strict"), "--max-connections-per-address=5")
		dialer := &tls.Dialer{Config: clientTLS()}
		for i := range 5 {
			conn, err := dialer.DialContext(waiting(t), "tcp", s.https)
			if err != nil {
				t.Fatalf("connection %d of 5: %v", i, err)
			}
			defer conn.Close()
		}
		for _, addr := range []string{s.https, s.line} {
			if conn, err := dialer.DialContext(waiting(t), "tcp", addr); err == nil {
				_ = conn.Close()
				t.Errorf("a sixth connection was let in at %s", addr)
			}
		}
	})
}

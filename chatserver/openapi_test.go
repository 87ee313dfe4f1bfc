package chatserver_test

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/chatcluster/chatcluster/chatserver/redistest"
	"github.com/chatcluster/chatcluster/chatserver/store"
)

// documentOf gets the server's own description of its calls.
func documentOf(t *testing.T, s *server) *openapi3.T {
	t.Helper()
	resp, err := browser.Get(s.url() + "/api/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	document, err := openapi3.NewLoader().LoadFromData(text)
	if err != nil {
		t.Fatal(err)
	}
	if err := document.Validate(t.Context()); err != nil {
		t.Fatalf("the document is no OpenAPI document: %v", err)
	}
	return document
}

// TestEveryDocumentedCallAnswersAsDocumented makes each call of the document
// once, successfully, and holds the answer against its schema.
func TestEveryDocumentedCallAnswersAsDocumented(t *testing.T) {
	t.Parallel()
	w, err := sharedWorld("Standalone", redistest.StartStandalone)
	if err != nil {
		t.Fatal(err)
	}
	document := documentOf(t, w.one)
	a, b, room := newUser(t, w.store, "a"), newUser(t, w.store, "b"), unique("room")
	if err := w.store.SetRole(t.Context(), a, store.RoleAdmin); err != nil {
		t.Fatal(err)
	}
	// Sessions that the walk ends are not the one it walks with.
	token, refreshed, ended := logIn(t, w.one, a), logIn(t, w.one, a), logIn(t, w.one, a)
	again, out, everywhere := logIn(t, w.one, a), logIn(t, w.one, a), logIn(t, w.one, b)

	var called []string
	do := func(route, path, body string, header ...string) map[string]any {
		t.Helper()
		method, pattern, _ := strings.Cut(route, " ")
		called = append(called, route)
		item := document.Paths.Value(pattern)
		if item == nil || item.GetOperation(method) == nil {
			t.Errorf("%s is not in the document", route)
			return nil
		}
		if header == nil {
			header = bearing(token.Token)
		}
		resp, answer := call(t, method, w.one.url()+path, body, header...)
		documented := item.GetOperation(method).Responses.Value(strconv.Itoa(resp.StatusCode))
		if documented == nil {
			t.Errorf("%s answered %d %v, which is not in the document", route, resp.StatusCode, answer)
			return answer
		}
		if resp.StatusCode == http.StatusNoContent {
			return nil
		}
		_, query, _ := strings.Cut(path, "?")
		for _, part := range strings.Split(query, "&") {
			name, _, _ := strings.Cut(part, "=")
			if name != "" && item.GetOperation(method).Parameters.GetByInAndName("query", name) == nil {
				t.Errorf("%s takes %s in its query, which is not in the document", route, name)
			}
		}
		schema := documented.Value.Content["application/json"].Schema.Value
		if err := schema.VisitJSON(answer); err != nil {
			t.Errorf("%s answered %v: %v", route, answer, err)
		}
		return answer
	}
	// own makes a call whose path has nothing to fill in.
	own := func(route, body string, header ...string) map[string]any {
		t.Helper()
		_, path, _ := strings.Cut(route, " ")
		return do(route, path, body, header...)
	}
	// in makes a call about the room.
	var offset any
	in := func(method, rest, body string) map[string]any {
		t.Helper()
		path := strings.NewReplacer("{user}", b, "{offset}", fmt.Sprint(offset), "{emoji}", url.PathEscape("👍")).Replace(rest)
		return do(method+" /api/rooms/{room}"+rest, "/api/rooms/"+room+path, body)
	}
	login := fmt.Sprintf(`{"username":%q,"password":%q}`, a, password)
	newcomer := func() string { return fmt.Sprintf(`{"username":%q,"password":%q}`, unique("n"), password) }

	own("GET /health", "")
	own("GET /api/openapi.json", "")
	own("POST /register", newcomer())
	own("POST /api/auth/register", newcomer())
	own("POST /login", login)
	own("POST /api/auth/login", login)
	own("POST /api/refresh", fmt.Sprintf(`{"refreshToken":%q}`, refreshed.RefreshToken))
	own("POST /api/auth/refresh", fmt.Sprintf(`{"refreshToken":%q}`, again.RefreshToken))
	own("POST /logout", fmt.Sprintf(`{"token":%q}`, out.Token))
	own("POST /api/auth/logout", fmt.Sprintf(`{"refreshToken":%q}`, out.RefreshToken))
	own("GET /api/sessions", "")
	do("DELETE /api/sessions/{id}", "/api/sessions/"+ended.Session, "")
	own("POST /api/logout-everywhere", "", bearing(everywhere.Token)...)
	do("GET /api/users", "/api/users?prefix=a&after=b&limit=3", "")
	own("GET /api/push/key", "")
	own("POST /api/push/subscriptions", subscriptionTo(t, "https://push.example.com/x"))
	own("DELETE /api/push/subscriptions", `{"endpoint":"https://push.example.com/x"}`)
	own("GET /api/users/me", "")
	own("POST /api/users/public-key", `{"publicKey":{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}}`)
	do("GET /api/users/{first}/{second}", "/api/users/"+a+"/public-key", "")
	do("PUT /api/users/{name}/role", "/api/users/"+b+"/role", `{"role":"user"}`)
	do("PUT /api/users/{name}/disabled", "/api/users/"+b+"/disabled", `{"disabled":false}`)

	own("POST /api/rooms", fmt.Sprintf(`{"room":%q,"topic":"cats"}`, room))
	own("GET /api/rooms", "")
	own("GET /api/rooms/mine", "")
	in("GET", "", "")
	in("PATCH", "", `{"topic":"dogs"}`)
	in("PUT", "/membership", "")
	in("GET", "/members", "")
	in("GET", "/present", "")
	in("POST", "/invitations", fmt.Sprintf(`{"to":%q}`, b))
	offset = in("POST", "/messages", `{"id":"1","message":"hello"}`)["offset"]
	do("GET /api/rooms/{room}/messages", "/api/rooms/"+room+"/messages?before=9&limit=5", "")
	in("PATCH", "/messages/{offset}", `{"message":"hello!"}`)
	in("PUT", "/messages/{offset}/reactions/{emoji}", "")
	in("DELETE", "/messages/{offset}/reactions/{emoji}", "")
	in("DELETE", "/messages/{offset}", "")
	in("PUT", "/read", fmt.Sprintf(`{"offset":%v}`, offset))
	in("POST", "/typing", "")
	for _, way := range []string{"PUT", "DELETE"} {
		in(way, "/mutes/{user}", "")
		in(way, "/bans/{user}", "")
		in(way, "/closed", "")
		do(way+" /api/following/{user}", "/api/following/"+b, "")
	}
	in("DELETE", "/members/{user}", "")
	in("DELETE", "/membership", "")
	do("POST /api/direct/{user}/messages", "/api/direct/"+b+"/messages", `{"message":"psst"}`)
	do("GET /api/presence", "/api/presence?name="+a+"&name="+b, "")
	own("POST /api/password", fmt.Sprintf(`{"old":%q,"new":"another horse"}`, password))

	for path, item := range document.Paths.Map() {
		for method := range item.Operations() {
			if !slices.Contains(called, method+" "+path) {
				t.Errorf("%s %s is in the document, and not called here", method, path)
			}
		}
	}
}

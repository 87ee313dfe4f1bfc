package chatserver_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"

	"github.com/chatcluster/chatcluster/chatserver/store"
)

// code is the error code of an answer.
func code(answer map[string]any) string {
	text, _ := answer["code"].(string)
	return text
}

func TestUsersFileMakesAccountsWithRoles(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
		if err != nil {
			t.Fatal(err)
		}
		admin, moderator, user, old := unique("admin"), unique("moderator"), unique("user"), newUser(t, w.store, "old")
		file := filepath.Join(t.TempDir(), "users")
		text := fmt.Sprintf("%s:%s:admin\n%s:%s:moderator\n%s:%s\n%s:another password:moderator\n", admin, hash, moderator, password, user, hash, old)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		s := run(t, w.redis, unique("seeded"), "--users-file="+file)
		for name, role := range map[string]string{admin: "admin", moderator: "moderator", user: "user", old: "moderator"} {
			_, me := call(t, "GET", w.one.url()+"/api/users/me", "", bearing(logIn(t, s, name).Token)...)
			if me["username"] != name || me["role"] != role {
				t.Errorf("%s, who is to be a %s, is %v", name, role, me)
			}
		}
	})
}

func TestAdministratorsLookAfterAccounts(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		boss, user := newUser(t, w.store, "boss"), newUser(t, w.store, "xena")
		if err := w.store.SetRole(waiting(t), boss, store.RoleAdmin); err != nil {
			t.Fatal(err)
		}
		bossTokens, userTokens := logIn(t, w.one, boss), logIn(t, w.one, user)
		put := func(token, name, what, body string) (int, string) {
			resp, answer := call(t, "PUT", w.two.url()+"/api/users/"+name+"/"+what, body, bearing(token)...)
			return resp.StatusCode, code(answer)
		}
		for name, c := range map[string]struct {
			token, user, what, body string
			status                  int
			code                    string
		}{
			"by a user, a role":     {userTokens.Token, boss, "role", `{"role":"user"}`, 403, "forbidden"},
			"by a user, disabling":  {userTokens.Token, boss, "disabled", `{"disabled":true}`, 403, "forbidden"},
			"to oneself":            {bossTokens.Token, boss, "role", `{"role":"user"}`, 403, "forbidden"},
			"disabling oneself":     {bossTokens.Token, boss, "disabled", `{"disabled":true}`, 403, "forbidden"},
			"no such role":          {bossTokens.Token, user, "role", `{"role":"emperor"}`, 400, "bad_request"},
			"no such user":          {bossTokens.Token, unique("nobody"), "role", `{"role":"admin"}`, 404, "no_user"},
			"no name of a user":     {bossTokens.Token, "%7Bx%7D", "role", `{"role":"admin"}`, 404, "no_user"},
			"not said what":         {bossTokens.Token, user, "disabled", `{}`, 400, "bad_request"},
			"without being anybody": {"", user, "disabled", `{"disabled":true}`, 401, "not_logged_in"},
		} {
			if status, code := put(c.token, c.user, c.what, c.body); status != c.status || code != c.code {
				t.Errorf("%s: %d %q, want %d %q", name, status, code, c.status, c.code)
			}
		}

		if status, _ := put(bossTokens.Token, user, "role", `{"role":"moderator"}`); status != 200 {
			t.Errorf("a role was not given: %d", status)
		}
		if _, me := call(t, "GET", w.one.url()+"/api/users/me", "", bearing(userTokens.Token)...); me["role"] != "moderator" {
			t.Errorf("with a token from before the user is %v", me)
		}

		conn := attach(t, w.one, userTokens.Token)
		if status, _ := put(bossTokens.Token, user, "disabled", `{"disabled":true}`); status != 200 {
			t.Errorf("not disabled: %d", status)
		}
		conn.expectClose(4401, "logged out")
		if _, code := refresh(t, w.one, userTokens.RefreshToken); code != "not_logged_in" {
			t.Errorf("a refresh of a disabled account: %q", code)
		}
		body := fmt.Sprintf(`{"username":%q,"password":%q}`, user, password)
		if resp, answer := call(t, "POST", w.two.url()+"/login", body); resp.StatusCode != 403 || code(answer) != "disabled" {
			t.Errorf("a login to a disabled account: %d %v", resp.StatusCode, answer)
		}
		l := terminal(t, w.one)
		say(t, l, "LOGIN "+user+" "+password)
		expect(t, l, "ERROR this account is disabled")
		if status, _ := put(bossTokens.Token, user, "disabled", `{"disabled":false}`); status != 200 {
			t.Errorf("not enabled: %d", status)
		}
		logIn(t, w.two, user)
	})
}

func TestUsersAreListedByPagesWithWhoIsOnline(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		prefix := unique("page") + "_"
		var names []string
		for i := range 5 {
			name := fmt.Sprint(prefix, i)
			if err := w.store.CreateUser(waiting(t), name, cheapHash()); err != nil {
				t.Fatal(err)
			}
			names = append(names, name)
		}
		token := logIn(t, w.one, names[0]).Token
		attach(t, w.two, logIn(t, w.two, names[3]).Token)

		var listed []string
		url := w.one.url() + "/api/users?limit=2&prefix=" + prefix
		for next, pages := "", 1; ; pages++ {
			resp, answer := call(t, "GET", url+"&after="+next, "", bearing(token)...)
			users, _ := answer["users"].([]any)
			if resp.StatusCode != 200 || len(users) > 2 || pages > 3 {
				t.Fatalf("page %d: %d %v", pages, resp.StatusCode, answer)
			}
			for _, u := range users {
				user := u.(map[string]any)
				listed = append(listed, user["username"].(string))
				if user["online"] != (user["username"] == names[3]) {
					t.Errorf("listed as %v", user)
				}
			}
			if next, _ = answer["next"].(string); next == "" {
				break
			}
		}
		if !reflect.DeepEqual(listed, names) {
			t.Errorf("listed are %v, want %v", listed, names)
		}
		for _, limit := range []string{"0", "x", "-1"} {
			if resp, _ := call(t, "GET", w.one.url()+"/api/users?limit="+limit, "", bearing(token)...); resp.StatusCode != 400 {
				t.Errorf("a page of %s users: %d", limit, resp.StatusCode)
			}
		}
		if resp, _ := call(t, "GET", url, ""); resp.StatusCode != 401 {
			t.Errorf("the list without a token: %d", resp.StatusCode)
		}
	})
}

func TestPublicKeysAreGivenAsTheyWereSet(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		alice, bob := newUser(t, w.store, "alice"), newUser(t, w.store, "bob")
		a, b := logIn(t, w.one, alice), logIn(t, w.two, bob)
		set := func(key string) (int, string) {
			resp, answer := call(t, "POST", w.one.url()+"/api/users/public-key", `{"publicKey":`+key+`}`, bearing(a.Token)...)
			return resp.StatusCode, code(answer)
		}
		if resp, answer := call(t, "GET", w.two.url()+"/api/users/"+alice+"/public-key", "", bearing(b.Token)...); resp.StatusCode != 404 || code(answer) != "no_key" {
			t.Errorf("before there is a key: %d %v", resp.StatusCode, answer)
		}
		for _, key := range []string{
			`{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0","key_ops":[],"ext":true}`,
			`"MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE"`,
			`"` + strings.Repeat("k", 4094) + `"`,
		} {
			if status, code := set(key); status != 200 {
				t.Fatalf("the key %s: %d %q", key, status, code)
			}
			for _, path := range []string{"/api/users/" + alice + "/public-key", "/api/users/public-key/" + alice} {
				resp, answer := call(t, "GET", w.two.url()+path, "", bearing(b.Token)...)
				got, err := json.Marshal(answer["publicKey"])
				if err != nil || resp.StatusCode != 200 || answer["username"] != alice || !sameJSON(got, []byte(key)) {
					t.Errorf("%s: %d %v, want the key %s", path, resp.StatusCode, answer, key)
				}
			}
		}
		for name, key := range map[string]string{
			"none": `null`, "empty": `""`, "a number": `7`, "a list": `[]`, "an empty object": `{}`,
			"too long":               `"` + strings.Repeat("k", 4095) + `"`,
			"private":                `{"kty":"EC","x":"a","y":"b","d":"secret"}`,
			"private, in a string":   `"{\"kty\":\"EC\",\"d\":\"secret\"}"`,
			"private, as PEM, whole": `"-----BEGIN PRIVATE KEY-----\nMIG"`,
		} {
			if status, code := set(key); status != 400 || code != "bad_request" {
				t.Errorf("a key that is %s: %d %q", name, status, code)
			}
		}
		for path, want := range map[string]int{
			"/api/users/" + unique("nobody") + "/public-key": 404, "/api/users/" + alice + "/shoe-size": 404, "/api/users/public-key/x": 404,
		} {
			if resp, _ := call(t, "GET", w.one.url()+path, "", bearing(b.Token)...); resp.StatusCode != want {
				t.Errorf("%s: %d, want %d", path, resp.StatusCode, want)
			}
		}
		for method, path := range map[string]string{"POST": "/api/users/public-key", "GET": "/api/users/" + alice + "/public-key"} {
			if resp, _ := call(t, method, w.one.url()+path, ""); resp.StatusCode != 401 {
				t.Errorf("%s %s without a token: %d", method, path, resp.StatusCode)
			}
		}
	})
}

func sameJSON(a, b []byte) bool {
	var x, y any
	return json.Unmarshal(a, &x) == nil && json.Unmarshal(b, &y) == nil && reflect.DeepEqual(x, y)
}

// TestClientThatExpectsAccessAndRefreshTokens goes the way of clients that keep
// both, register to be logged in, and refresh when a call is refused.
func TestClientThatExpectsAccessAndRefreshTokens(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		body := fmt.Sprintf(`{"username":%q,"password":%q}`, unique("yves"), password)
		var registered, in, next tokens
		if status := post(t, w.one.url()+"/api/auth/register", body, &registered); status != 201 || registered.AccessToken == "" || len(registered.RefreshToken) != 80 {
			t.Fatalf("register: %d %+v", status, registered)
		}
		if status := post(t, w.two.url()+"/api/auth/login", body, &in); status != 200 || in.ExpiresIn != 900 {
			t.Fatalf("login: %d %+v", status, in)
		}
		if status := post(t, w.one.url()+"/api/auth/refresh", fmt.Sprintf(`{"refreshToken":%q}`, in.RefreshToken), &next); status != 200 || next.AccessToken == "" {
			t.Fatalf("refresh: %d %+v", status, next)
		}
		conn := attach(t, w.one, next.AccessToken)
		for name, c := range map[string]struct {
			body   string
			header []string
			status int
		}{
			"nothing":                 {"", nil, 400},
			"with the access token":   {"", bearing(next.AccessToken), 200},
			"again":                   {"", bearing(next.AccessToken), 200},
			"of the registration":     {fmt.Sprintf(`{"refreshToken":%q}`, registered.RefreshToken), nil, 200},
			"with an unknown refresh": {fmt.Sprintf(`{"refreshToken":%q}`, strings.Repeat("0", 80)), nil, 200},
		} {
			if status := post(t, w.two.url()+"/api/auth/logout", c.body, nil, c.header...); status != c.status {
				t.Errorf("logout, %s: %d, want %d", name, status, c.status)
			}
		}
		conn.expectClose(4401, "logged out")
		for _, token := range []string{registered.AccessToken, in.AccessToken, next.AccessToken} {
			if resp, _ := call(t, "GET", w.one.url()+"/api/users/me", "", bearing(token)...); resp.StatusCode != 401 {
				t.Errorf("a token after the logout: %d", resp.StatusCode)
			}
		}
	})
}

package chatserver_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

func TestWrongPasswordsForAnAccountAreLimitedOnAllServersTogether(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		flags := []string{"--login-attempts-per-hour=6", "--trusted-proxies=127.0.0.0/8"}
		servers := []*server{run(t, w.redis, unique("strict"), flags...), run(t, w.redis, unique("strict"), flags...)}
		user := newUser(t, w.store, "zoe")
		login := func(s *server, user, password, address string) (int, string, string) {
			body := fmt.Sprintf(`{"username":%q,"password":%q}`, user, password)
			resp, answer := call(t, "POST", s.url()+"/login", body, "X-Forwarded-For", address)
			return resp.StatusCode, code(answer), resp.Header.Get("Retry-After")
		}
		const home, elsewhere = "2001:db8:1:1::1", "203.0.113."
		status, _, _ := login(servers[0], user, password, home)
		if status != 200 {
			t.Fatalf("the right password: %d", status)
		}
		line := terminal(t, w.one)
		say(t, line, "LOGIN "+user+" "+password)
		expect(t, line, "logged in")

		for name, victim := range map[string]string{"an account": user, "nobody's": unique("nobody")} {
			for i := range 8 { // each from an address of its own
				status, code, retry := login(servers[i%2], victim, "guess"+fmt.Sprint(i), elsewhere+fmt.Sprint(i))
				if i < 6 && status != 401 || i >= 6 && (status != 429 || code != "limit" || retry == "") {
					t.Errorf("%s, guess %d: %d %q, retry after %q", name, i, status, code, retry)
				}
			}
		}
		if status, _, _ := login(servers[1], user, password, elsewhere+"99"); status != 429 {
			t.Errorf("a stranger with the right password, after the guesses: %d, want 429", status)
		}
		guesser := terminal(t, servers[0]) // the proxy's address is nobody's in particular
		say(t, guesser, "LOGIN "+user+" guess again")
		expect(t, guesser, "ERROR too many wrong passwords for this account")

		// What is open stays so, and where the user is at home the door is not shut.
		say(t, line, "/join "+unique("room"))
		expect(t, line, "you are in")
		for i := range 7 {
			address := fmt.Sprintf("2001:db8:1:1::%d", i+2) // the same network
			if status, _, _ := login(servers[i%2], user, password, address); status != 200 {
				t.Errorf("the right password at home, time %d: %d", i, status)
			}
		}
		for i := range 7 {
			status, _, _ := login(servers[i%2], user, "forgotten", home)
			if want := map[bool]int{true: 401, false: 429}[i < 6]; status != want {
				t.Errorf("wrong password %d at home: %d, want %d", i, status, want)
			}
		}
	})
}

func TestCallsOfTheAPIAreLimitedAnAddress(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		flags := []string{
			"--trusted-proxies=127.0.0.0/8", "--requests-per-hour=3", "--auth-requests-per-minute=4", "--api-requests-per-minute=5",
		}
		servers := []*server{run(t, w.redis, unique("strict"), flags...), run(t, w.redis, unique("strict"), flags...)}
		for name, c := range map[string]struct {
			method, path, body string
			limit              int
		}{
			"plain login":  {"POST", "/login", `{}`, 3},
			"login":        {"POST", "/api/auth/login", `{}`, 4},
			"registration": {"POST", "/api/auth/register", `{}`, 4},
			"password":     {"POST", "/api/password", `{}`, 4},
			"refresh":      {"POST", "/api/refresh", `{}`, 5},
			"sessions":     {"GET", "/api/sessions", "", 5},
			"users":        {"GET", "/api/users", "", 5},
		} {
			address := fmt.Sprintf("2001:db8:%x:%x::1", rand.Uint32N(1<<16), rand.Uint32N(1<<16))
			var over, other int
			for i := range 2 * c.limit {
				resp, answer := call(t, c.method, servers[i%2].url()+c.path, c.body, "X-Forwarded-For", address)
				switch {
				case resp.StatusCode == 429 && i >= c.limit && resp.Header.Get("Retry-After") != "" && code(answer) == "limit":
					over++
				case resp.StatusCode != 429 && i < c.limit:
					other++
				}
			}
			if over != c.limit || other != c.limit {
				t.Errorf("%s: of %d calls %d were answered and %d refused", name, 2*c.limit, other, over)
			}
		}
	})
}

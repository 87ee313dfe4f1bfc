package web

import (
	"cmp"
	"net/http"
	"time"

	"github.com/chatcluster/chatcluster/chatserver/account"
	"github.com/chatcluster/chatcluster/chatserver/address"
)

// handleAccounts has mux answer what is about accounts. Each call is under the
// limit that the clients it is for were written for.
func (s *Server) handleAccounts(mux *routes) {
	plain := func(h http.HandlerFunc) http.Handler { return s.limited(address.Plain, h) }
	auth := func(h http.HandlerFunc) http.Handler { return s.limited(address.Auth, h) }
	api := func(h http.HandlerFunc) http.Handler { return s.limited(address.API, h) }

	mux.Handle("POST /register", plain(s.register))
	mux.Handle("POST /login", plain(s.login(s.Accounts.PlainTTL)))
	mux.Handle("POST /logout", plain(s.logout))

	mux.Handle("POST /api/auth/register", auth(s.registerAndLogIn))
	mux.Handle("POST /api/auth/login", auth(s.login(s.Accounts.AccessTTL)))
	mux.Handle("POST /api/password", auth(s.authed(s.changePassword)))

	// A refresh costs no password hash and its token cannot be guessed: many people
	// behind one address refresh many times an hour.
	mux.Handle("POST /api/refresh", api(s.refresh))
	mux.Handle("POST /api/auth/refresh", api(s.refresh))
	mux.Handle("POST /api/auth/logout", api(s.logout))
	mux.Handle("POST /api/logout-everywhere", api(s.authed(s.logoutEverywhere)))
	mux.Handle("GET /api/sessions", api(s.authed(s.listSessions)))
	mux.Handle("DELETE /api/sessions/{id}", api(s.authed(s.endSession)))

	mux.Handle("GET /api/users", api(s.authed(s.listUsers)))
	mux.Handle("GET /api/users/me", api(s.authed(s.me)))
	mux.Handle("GET /api/users/{first}/{second}", api(s.authed(s.userDetail)))
	mux.Handle("POST /api/users/public-key", api(s.authed(s.setPublicKey)))
	mux.Handle("PUT /api/users/{name}/role", api(s.authed(s.setRole)))
	mux.Handle("PUT /api/users/{name}/disabled", api(s.authed(s.setDisabled)))
}

type credentials struct {
	Username string `json:"username"`
	Password string `json:"password"`
}

// granted is the answer to whoever gets tokens. Token and AccessToken are the
// same: clients know it by either name.
type granted struct {
	Message      string `json:"message,omitempty"`
	Token        string `json:"token"`
	AccessToken  string `json:"accessToken"`
	RefreshToken string `json:"refreshToken"`
	ExpiresIn    int    `json:"expiresIn"` // seconds
	Username     string `json:"username"`
	Session      string `json:"session"`
}

func grantOf(g account.Grant) granted {
	return granted{
		Token: g.Token, AccessToken: g.Token, RefreshToken: g.Refresh, ExpiresIn: int(g.Life.Seconds()),
		Username: g.User, Session: g.Session,
	}
}

func (s *Server) register(w http.ResponseWriter, r *http.Request) {
	var c credentials
	if _, ok := s.makeAccount(w, r, &c); !ok {
		return
	}
	s.answer(w, r, http.StatusCreated, struct {
		Message  string `json:"message"`
		Username string `json:"username"`
	}{created, c.Username})
}

// registerAndLogIn is for clients that expect to be logged in by it.
func (s *Server) registerAndLogIn(w http.ResponseWriter, r *http.Request) {
	var c credentials
	proof, ok := s.makeAccount(w, r, &c)
	if !ok {
		return
	}
	grant, err := s.Accounts.LogIn(r.Context(), proof, s.Accounts.AccessTTL, s.origin(r))
	if err != nil {
		s.fail(w, r, err)
		return
	}
	answer := grantOf(grant)
	answer.Message = created
	s.answer(w, r, http.StatusCreated, answer)
}

const created = "User created successfully"

// makeAccount reads the credentials and registers. If it cannot, it has answered why.
func (s *Server) makeAccount(w http.ResponseWriter, r *http.Request, c *credentials) (account.Proof, bool) {
	if !s.read(w, r, c) {
		return account.Proof{}, false
	}
	proof, err := s.Accounts.Register(r.Context(), c.Username, c.Password)
	if err != nil {
		s.fail(w, r, err)
		return account.Proof{}, false
	}
	s.Log.InfoContext(r.Context(), "account made", "user", c.Username)
	return proof, true
}

// login answers with an access token that is good for life.
func (s *Server) login(life time.Duration) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var c credentials
		if !s.read(w, r, &c) {
			return
		}
		if c.Username == "" || c.Password == "" {
			s.refuse(w, r, http.StatusBadRequest, "username and password are needed")
			return
		}
		proof, err := s.Accounts.Check(r.Context(), c.Username, c.Password, s.origin(r))
		if err != nil {
			s.fail(w, r, err)
			return
		}
		grant, err := s.Accounts.LogIn(r.Context(), proof, life, s.origin(r))
		if err != nil {
			s.fail(w, r, err)
			return
		}
		s.answer(w, r, http.StatusOK, grantOf(grant))
	}
}

func (s *Server) refresh(w http.ResponseWriter, r *http.Request) {
	var body struct {
		RefreshToken string `json:"refreshToken"`
	}
	if !s.read(w, r, &body) {
		return
	}
	grant, err := s.Accounts.Refresh(r.Context(), body.RefreshToken)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	s.answer(w, r, http.StatusOK, grantOf(grant))
}

// logout ends the session of a token, with all its connections, which may have
// outlived the token. One that was logged out before is as dead as the caller
// wants it: that is a success.
func (s *Server) logout(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Token        string `json:"token"`
		AccessToken  string `json:"accessToken"`
		RefreshToken string `json:"refreshToken"`
	}
	if r.ContentLength != 0 && !s.read(w, r, &body) {
		return
	}
	token := cmp.Or(body.Token, body.AccessToken, body.RefreshToken, bearer(r))
	if token == "" {
		s.refuse(w, r, http.StatusBadRequest, "token is needed")
		return
	}
	if err := s.Accounts.LogOut(r.Context(), token); err != nil {
		s.fail(w, r, err)
		return
	}
	s.answer(w, r, http.StatusOK, message{Message: "Logged out successfully"})
}

// origin is where a request comes from, as its session remembers it.
func (s *Server) origin(r *http.Request) account.Origin {
	return account.Origin{Address: s.Addresses.OfRequest(r), Agent: r.UserAgent()}
}

// health says that this server answers. Whether it should get new clients is
// for the probes of the admin listener.
func (s *Server) health(w http.ResponseWriter, r *http.Request) {
	s.answer(w, r, http.StatusOK, struct {
		Status    string `json:"status"`
		TimeStamp string `json:"timeStamp"`
	}{"ok", timestamp(time.Now())})
}

func timestamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z07:00") }

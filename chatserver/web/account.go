package web

import (
	"errors"
	"net/http"
	"time"

	"github.com/chatcluster/chatcluster/chatserver/auth"
)

type credentials struct {
	Username string `json:"username"`
	Password string `json:"password"`
}

func (s *Server) register(w http.ResponseWriter, r *http.Request) {
	var c credentials
	if !s.read(w, r, &c) {
		return
	}
	if err := s.Accounts.Register(r.Context(), c.Username, c.Password); err != nil {
		s.fail(w, r, err)
		return
	}
	s.Log.InfoContext(r.Context(), "account made", "user", c.Username)
	s.answer(w, r, http.StatusCreated, struct {
		Message  string `json:"message"`
		Username string `json:"username"`
	}{"User created successfully", c.Username})
}

func (s *Server) login(w http.ResponseWriter, r *http.Request) {
	var c credentials
	if !s.read(w, r, &c) {
		return
	}
	if c.Username == "" || c.Password == "" {
		s.refuse(w, r, http.StatusBadRequest, "username and password are needed")
		return
	}
	if err := s.Accounts.Check(r.Context(), c.Username, c.Password); err != nil {
		s.fail(w, r, err)
		return
	}
	token, _, err := s.Accounts.Issue(r.Context(), c.Username)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	s.answer(w, r, http.StatusOK, struct {
		Token    string `json:"token"`
		Username string `json:"username"`
	}{token, c.Username})
}

// logout ends the session of the token in the body, with all its connections,
// which may have outlived the token. One that was logged out before is as dead as
// the caller wants it: that is a success.
func (s *Server) logout(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Token string `json:"token"`
	}
	if !s.read(w, r, &body) {
		return
	}
	if body.Token == "" {
		s.refuse(w, r, http.StatusBadRequest, "token is needed")
		return
	}
	claims, err := s.Accounts.Tokens.Parse(body.Token)
	if err != nil && !errors.Is(err, auth.ErrExpired) {
		s.fail(w, r, err)
		return
	}
	if err := s.Hub.Logout(r.Context(), claims.User, claims.Session); err != nil {
		s.fail(w, r, err)
		return
	}
	s.answer(w, r, http.StatusOK, message{"Logged out successfully"})
}

// health says that this server answers. Whether it should get new clients is
// for the probes of the admin listener.
func (s *Server) health(w http.ResponseWriter, r *http.Request) {
	s.answer(w, r, http.StatusOK, struct {
		Status    string `json:"status"`
		TimeStamp string `json:"timeStamp"`
	}{"ok", time.Now().UTC().Format("2006-01-02T15:04:05.000Z07:00")})
}

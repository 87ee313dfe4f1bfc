package web

import (
	"encoding/json"
	"net/http"
	"strconv"

	"github.com/chatcluster/chatcluster/chatserver/account"
	"github.com/chatcluster/chatcluster/chatserver/store"
)

// me answers what the caller's own account is.
func (s *Server) me(w http.ResponseWriter, r *http.Request, who account.Caller) {
	a, err := s.Accounts.Store.Account(r.Context(), who.User)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	s.answer(w, r, http.StatusOK, struct {
		Username string `json:"username"`
		Role     string `json:"role"`
		Created  string `json:"created"`
		Session  string `json:"session"`
	}{a.Name, a.Role.String(), timestamp(a.Created), who.Session})
}

type userInfo struct {
	Username string `json:"username"`
	Online   bool   `json:"online"`
	Role     string `json:"role"`
	Disabled bool   `json:"disabled,omitempty"`
}

const (
	usersPage = 50  // users in a page that does not say how many
	maxUsers  = 200 // users in a page
)

// listUsers answers a page of the list of users, by name.
func (s *Server) listUsers(w http.ResponseWriter, r *http.Request, _ account.Caller) {
	q := r.URL.Query()
	limit := usersPage
	if text := q.Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			s.refuse(w, r, http.StatusBadRequest, "limit is a number from 1 to "+strconv.Itoa(maxUsers))
			return
		}
		limit = min(n, maxUsers)
	}
	users, next, err := s.Accounts.Store.Users(r.Context(), q.Get("prefix"), q.Get("after"), limit)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	s.answer(w, r, http.StatusOK, struct {
		Users []userInfo `json:"users"`
		Next  string     `json:"next,omitempty"` // to be given as after; absent: this is the last page
	}{userInfos(users), next})
}

func userInfos(users []store.UserInfo) []userInfo {
	infos := make([]userInfo, 0, len(users))
	for _, u := range users {
		infos = append(infos, userInfo{Username: u.Name, Online: u.Online, Role: u.Role.String(), Disabled: u.Disabled})
	}
	return infos
}

func (s *Server) setRole(w http.ResponseWriter, r *http.Request, who account.Caller) {
	var body struct {
		Role string `json:"role"`
	}
	if !s.read(w, r, &body) {
		return
	}
	user := r.PathValue("name")
	if err := s.Accounts.SetRole(r.Context(), who, user, body.Role); err != nil {
		s.fail(w, r, err)
		return
	}
	s.Log.InfoContext(r.Context(), "role given", "user", user, "role", body.Role, "by", who.User)
	s.answer(w, r, http.StatusOK, struct {
		Username string `json:"username"`
		Role     string `json:"role"`
	}{user, body.Role})
}

func (s *Server) setDisabled(w http.ResponseWriter, r *http.Request, who account.Caller) {
	var body struct {
		Disabled *bool `json:"disabled"`
	}
	if !s.read(w, r, &body) {
		return
	}
	if body.Disabled == nil {
		s.refuse(w, r, http.StatusBadRequest, "disabled is needed: true or false")
		return
	}
	user := r.PathValue("name")
	if err := s.Accounts.SetDisabled(r.Context(), who, user, *body.Disabled); err != nil {
		s.fail(w, r, err)
		return
	}
	s.Log.InfoContext(r.Context(), "account disabled or enabled", "user", user, "disabled", *body.Disabled, "by", who.User)
	s.answer(w, r, http.StatusOK, struct {
		Username string `json:"username"`
		Disabled bool   `json:"disabled"`
	}{user, *body.Disabled})
}

type publicKey struct {
	Username  string          `json:"username,omitempty"`
	PublicKey json.RawMessage `json:"publicKey"`
}

func (s *Server) setPublicKey(w http.ResponseWriter, r *http.Request, who account.Caller) {
	var body publicKey
	if !s.read(w, r, &body) {
		return
	}
	if err := s.Accounts.SetPublicKey(r.Context(), who.User, body.PublicKey); err != nil {
		s.fail(w, r, err)
		return
	}
	s.answer(w, r, http.StatusOK, publicKey{who.User, body.PublicKey})
}

// userDetail answers /api/users/{name}/public-key, and the same with its last two
// parts the other way round, as some clients have it. No user's name is "public-key".
func (s *Server) userDetail(w http.ResponseWriter, r *http.Request, _ account.Caller) {
	name, detail := r.PathValue("first"), r.PathValue("second")
	if name == "public-key" {
		name, detail = detail, name
	}
	if detail != "public-key" {
		s.refuse(w, r, http.StatusNotFound, "there is nothing at this path: see /")
		return
	}
	key, err := s.Accounts.PublicKey(r.Context(), name)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	s.answer(w, r, http.StatusOK, publicKey{name, key})
}
